"""Real receivers of notifications on this machine: GitHub's issues, webhooks of chats, a mailbox.

They enforce what the real ones enforce, and speak their words.
"""

from __future__ import annotations

import contextlib
import email
import email.policy
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web
from aiosmtpd.controller import Controller

from agent.sandbox.loopback.answers import Answer, json_answer
from agent.sandbox.loopback.refused import RefusedError
from agent.sandbox.loopback.server import LoopbackServer

if TYPE_CHECKING:
    from email.message import EmailMessage

    from agent.sandbox.loopback.body import Intake

Act = Callable[["Repository", web.Request, dict[str, Any]], object]
VERSION = "2022-11-28"
STATES = {"open", "closed"}


@dataclass
class Repository:
    """A repository as its issues see it; `issues` has its pull requests, too, as the API has."""

    name: str
    has_issues: bool = True
    archived: bool = False
    issues: list[dict[str, Any]] = field(default_factory=list)
    comments: dict[int, list[dict[str, Any]]] = field(default_factory=dict)

    def add(self, title: str, body: str | None, *, pull_request: bool = False, state: str = "open") -> dict:
        number = len(self.issues) + 1
        issue = {"number": number, "title": title, "body": body, "state": state, "comments": 0}
        if pull_request:
            issue["pull_request"] = {"url": f"https://api.github.com/repos/{self.name}/pulls/{number}"}
        self.issues.append(issue)
        self.comments[number] = []
        return issue

    def shown(self) -> dict[str, Any]:
        return {"full_name": self.name, "has_issues": self.has_issues, "archived": self.archived}

    def found(self, request: web.Request) -> dict[str, Any]:
        number = int(request.match_info["number"])
        issue = next((one for one in self.issues if one["number"] == number), None)
        if issue is None:
            raise RefusedError(404, "Not Found")
        if issue.get("gone"):
            raise RefusedError(issue["gone"], "This issue was deleted, or transferred")
        return issue


class GitHubApi(LoopbackServer):
    """GitHub's REST API, as far as issues go: lists, creates, comments, patches.

    Attributes:
        repositories: by their names.
        tokens: token to what it may do with issues: read, or write.
        moved: old names of repositories that are answered with a redirect.
    """

    def __init__(self) -> None:
        super().__init__()
        self.repositories: dict[str, Repository] = {}
        self.tokens: dict[str, str] = {}
        self.moved: dict[str, str] = {}

    def add_repository(self, name: str) -> Repository:
        self.repositories[name] = Repository(name)
        return self.repositories[name]

    def routes(self, intake: Intake) -> list[web.RouteDef]:
        table: dict[tuple[str, str], Act] = {
            ("GET", ""): lambda repo, _request, _body: repo.shown(),
            ("GET", "/issues"): self._list,
            ("POST", "/issues"): self._create,
            ("GET", "/issues/{number:\\d+}"): lambda repo, request, _body: repo.found(request),
            ("PATCH", "/issues/{number:\\d+}"): self._patch,
            ("GET", "/issues/{number:\\d+}/comments"): self._comments,
            ("POST", "/issues/{number:\\d+}/comments"): self._comment,
        }
        return [
            web.route(method, f"/repos/{{owner}}/{{name}}{path}", self._guarded(act, intake))
            for (method, path), act in table.items()
        ]

    def refusal(self, error: RefusedError) -> Answer:
        said = {"message": error.message, "documentation_url": "https://docs.github.com/rest", **error.body}
        return json_answer(said, status=error.status, headers=error.headers)

    def kind_of(self, path: str) -> str:
        return "issues" if "/issues" in path else "repos"

    def user_of(self, request: web.Request) -> str | None:
        return None

    def marks(self, request: web.Request) -> Mapping[str, str]:
        return {"X-GitHub-Media-Type": "github.v3; format=json"}

    def _guarded(self, act: Act, intake: Intake) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            body = await intake.json(request)
            headers = request.headers
            if not headers.get("User-Agent"):
                raise RefusedError(403, "Request forbidden by administrative rules.")
            scheme, _, token = headers.get("Authorization", "").partition(" ")
            right = self.tokens.get(token)
            if scheme != "Bearer" or right is None:
                raise RefusedError(401, "Bad credentials")
            if headers.get("X-GitHub-Api-Version") != VERSION:
                raise RefusedError(400, "Bad Request: no such version of the API")
            if headers.get("Accept") != "application/vnd.github+json":
                raise RefusedError(415, "Unsupported 'Accept' header")
            name = f"{request.match_info['owner']}/{request.match_info['name']}"
            if name in self.moved:
                there = str(request.rel_url).replace(name, self.moved[name], 1)
                status = 301 if request.method == "GET" else 307
                return json_answer(
                    {"message": "Moved Permanently"},
                    status=status,
                    headers={"Location": self.endpoint + there},
                )
            repo = self.repositories.get(name)
            if repo is None:
                raise RefusedError(404, "Not Found")
            if not repo.has_issues and request.path.endswith("/issues"):
                raise RefusedError(410, "Issues has been disabled in this repository.")
            if request.method != "GET" and right != "write":
                raise RefusedError(403, "Resource not accessible by personal access token")
            return json_answer(act(repo, request, body), status=201 if request.method == "POST" else 200)

        return handle

    @staticmethod
    def _list(repo: Repository, request: web.Request, _body: dict[str, Any]) -> list[dict[str, Any]]:
        query = request.query
        state = query.get("state", "open")
        if state not in {"open", "closed", "all"} or query.get("sort", "created") != "created":
            raise RefusedError(422, "Validation Failed")
        found = [one for one in repo.issues if state in ("all", one["state"]) and not one.get("gone")]
        return _page(found[::-1] if query.get("direction", "desc") == "desc" else found, request)

    @staticmethod
    def _create(repo: Repository, _request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(body.get("title"), str) or not body["title"].strip() or len(body["title"]) > 256:
            missing = [{"resource": "Issue", "code": "missing_field", "field": "title"}]
            raise RefusedError(422, "Validation Failed", body={"errors": missing})
        return repo.add(body["title"], body.get("body"))

    @staticmethod
    def _patch(repo: Repository, request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
        issue = repo.found(request)
        reasons = {"open": {"reopened"}, "closed": {"completed", "not_planned", "duplicate"}}
        if body.get("state") not in STATES or body.get("state_reason") not in reasons[body["state"]]:
            raise RefusedError(422, "Validation Failed")
        issue.update(body)
        return issue

    @staticmethod
    def _comments(repo: Repository, request: web.Request, _body: dict[str, Any]) -> list[dict[str, Any]]:
        return _page(repo.comments[repo.found(request)["number"]], request)

    @staticmethod
    def _comment(repo: Repository, request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
        issue = repo.found(request)
        if not isinstance(body.get("body"), str) or not body["body"].strip():
            raise RefusedError(422, "Validation Failed")
        issue["comments"] += 1
        comment = {"id": issue["number"] * 1000 + issue["comments"], "body": body["body"]}
        repo.comments[issue["number"]].append(comment)
        return comment


def _page(found: list[dict[str, Any]], request: web.Request) -> list[dict[str, Any]]:
    size, page = min(100, int(request.query.get("per_page", 30))), int(request.query.get("page", 1))
    return found[(page - 1) * size : page * size]


class Webhooks(LoopbackServer):
    """Slack's incoming webhooks below /services, Mattermost's below /hooks, anybody's JSON below /json.

    Attributes:
        tokens: the webhooks that exist, by the rest of their addresses.
        messages: what arrived: the webhook, and the document.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tokens = {"T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7", "mmhook1234567890abcdefghij", "any"}
        self.messages: list[tuple[str, dict[str, Any]]] = []

    def routes(self, intake: Intake) -> list[web.RouteDef]:
        async def take(request: web.Request) -> web.StreamResponse:
            document = await intake.json(request)
            service, token = request.match_info["service"], request.match_info["token"]
            if token not in self.tokens:
                raise RefusedError(404, "no_service" if service == "services" else "Invalid webhook")
            if request.content_type != "application/json":
                raise RefusedError(400, "invalid_payload")
            if service == "services" and not (document.get("text") or document.get("attachments")):
                raise RefusedError(400, "no_text")
            if service == "hooks" and not isinstance(document.get("text"), str):
                raise RefusedError(400, "No text specified")
            self.messages.append((service, document))
            return Answer(b"ok", headers={"Content-Type": "text/plain"})

        return [web.post("/{service:services|hooks|json}/{token:.+}", take)]

    def refusal(self, error: RefusedError) -> Answer:
        return Answer(
            error.message.encode(),
            status=error.status,
            headers={"Content-Type": "text/plain", **error.headers},
        )

    def kind_of(self, path: str) -> str:
        return path.split("/")[1]

    def user_of(self, request: web.Request) -> str | None:
        return None

    def marks(self, request: web.Request) -> Mapping[str, str]:
        return {}

    @property
    def mattermost(self) -> str:
        """Its address, as apprise takes it."""
        return f"{self.endpoint.replace('http:', 'mmost:')}/mmhook1234567890abcdefghij"

    @property
    def any_json(self) -> str:
        """The address of anybody's webhook, as apprise takes it."""
        return f"{self.endpoint.replace('http:', 'json:')}/json/any"


class _OnAFreePort(Controller):
    """It asks itself for a sign of life at the port it was given, and 0 is none."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


class Mailbox:
    """An SMTP server with one mailbox, running inside `with`.

    Attributes:
        mails: what was accepted.
        refuse: replies to the next mails, instead of taking them.
        blocked: recipients who get no mail.
        lose: so many mails are taken, and their senders never hear of it.
        on_mail: told of each mail that was taken, before its sender is.
    """

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.refuse: list[str] = []
        self.blocked: set[str] = set()
        self.lose = 0
        self.on_mail: Callable[[], None] = lambda: None
        self._controller = _OnAFreePort(self, hostname="127.0.0.1", port=0)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        if self.refuse:
            return self.refuse.pop(0)
        if self.blocked.intersection(envelope.rcpt_tos):
            return "554 5.7.1 Blocked"
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        self.on_mail()
        if self.lose:
            self.lose -= 1
            server.transport.abort()
        return "250 OK"

    @property
    def address(self) -> str:
        """As apprise takes it."""
        return f"mailto://127.0.0.1:{self._controller.port}?from=agent@example.com&to=ada@example.com&mode=insecure"

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._controller.stop()
