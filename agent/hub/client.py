"""Talking to the Hub: every call through one patience, every failure in the server's own words.

Reads go over the library's session but not through its list methods: those sleep on a schedule of
their own and page through a whole history.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

import httpx2
from huggingface_hub import HfApi, set_client_factory
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

from agent import __version__, log
from agent.errors import AgentError, HubAuthError, HubRefusedError, HubUnreachableError
from agent.pace import Pace
from agent.retry import OUT_OF_PATIENCE, READ, Patience, Policy, RemoteFailure

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

LIBRARY = "training-completion-agent"
# A commit may take the server a minute; the library's own session would wait for ever.
ANSWER_S, CONNECT_S = 120.0, 15.0
NOT_FOUND = 404
# How the library words what a server refused, where it raises a plain ValueError for it.
_REFUSALS = ("Invalid metadata in README.md", "LFS batch API returned errors")
_UNAUTHORIZED, _PAYMENT, _FORBIDDEN, _BAD_REQUEST = 401, 402, 403, 400


def _sessions(patience: Patience) -> Callable[[], httpx2.Client]:
    """Sessions for the library that end with our patience: its own retries know nothing of it."""

    def check(request: httpx2.Request) -> None:
        if patience.attempt_left_s() <= 0:
            raise RemoteFailure(f"{OUT_OF_PATIENCE}, before {request.method} {request.url.path}", status=None)

    timeout = httpx2.Timeout(min(ANSWER_S, patience.stall_s), connect=min(CONNECT_S, patience.stall_s))
    return lambda: httpx2.Client(follow_redirects=True, timeout=timeout, event_hooks={"request": [check]})


class HubClient:
    """One Hub, one token, one patience, one pace."""

    def __init__(self, *, endpoint: str, token: str | None, patience: Patience) -> None:
        set_client_factory(_sessions(patience))
        log.adopt("huggingface_hub")
        self.endpoint = endpoint
        self.patience = patience
        self._abandoned = False
        self.pace = Pace(patience.clock, patience.jitter)
        self.api = HfApi(endpoint=endpoint, token=token or False)
        self.headers: dict[str, str] = build_hf_headers(
            token=token or False, library_name=LIBRARY, library_version=__version__
        )

    def abandon(self) -> None:
        """Nobody waits for an answer any more: whoever still asks beside the story does not ask again."""
        self._abandoned = True

    def ask(self, policy: Policy, what: str, call: Callable[[], T]) -> T:
        """Return what `call` returns, with the policy's retries.

        Args:
            policy: the schedule for this kind of call.
            what: completes "Could not …" in the error a person reads.
            call: one attempt; it must be safe to repeat after a lost answer.

        Raises:
            HubUnreachableError: nothing helped within the patience.
            HubAuthError, HubRefusedError: the Hub said no.
        """
        try:
            return self.attempts(policy, call)
        except RemoteFailure as failure:
            raise self.explain(failure, what) from failure

    def attempts(self, policy: Policy, call: Callable[[], T]) -> T:
        """Like `ask`, for callers that tell refusals apart themselves.

        Raises:
            RemoteFailure: the last one.
        """

        def attempt() -> T:
            if self._abandoned:
                raise RemoteFailure("nobody waits for the answer any more", status=None, final=True)
            try:
                return call()
            except RemoteFailure:
                raise
            except Exception as error:
                failure = as_failure(error)
                if failure is None:
                    raise
                raise failure from error

        return self.patience.call(policy, attempt, self.pace)

    def get(self, path: str, **params: str) -> Any:  # noqa: ANN401 - whatever JSON holds
        """GET a JSON document of the API once; `path` is already quoted."""
        return self._send("GET", path, params=params).json()

    def post(self, path: str, document: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
        """POST a JSON document to the API once and return the answer's."""
        return self._send("POST", path, json=document).json()

    def get_all(self, path: str, **params: str) -> list[Any]:
        """GET a listing once, following its pages."""
        found, following = self.get_page(path, **params)
        while following:
            page, following = self.get_page(following)
            found += page
        return found

    def get_page(self, path: str, **params: str) -> tuple[list[Any], str | None]:
        """GET one page of a listing once: what is on it, and the address of the next one."""
        response = self._send("GET", path, **({"params": params} if params else {}))
        following = response.links.get("next", {}).get("url")
        # Whoever it names, the token goes to no other Hub: a mirror's pages name the one that it mirrors.
        return _listing(response), urljoin(self.endpoint, _path_of(following)) if following else None

    def read(self, repo_id: str, revision: str, path: str) -> bytes:
        """GET the content of a small file once."""
        return self._send("GET", f"/{repo_id}/resolve/{quote(revision, safe='')}/{quote(path)}").content

    def _send(self, method: str, path: str, **options: Any) -> httpx2.Response:  # noqa: ANN401 - httpx2's own
        url = path if path.startswith("http") else self.endpoint + path
        response = get_session().request(method, url, headers=self.headers, **options)
        hf_raise_for_status(response)
        return response

    def username(self) -> str:
        """Ask who the token belongs to."""
        return self.ask(READ, "ask the Hub whose token this is", lambda: str(self.api.whoami()["name"]))

    def model_exists(self, model_id: str) -> bool:
        """Whether a model of that id exists; one we may not see in full still exists."""
        return self._exists(f"models/{model_id}", f"the base model {model_id}")

    def dataset_exists(self, dataset_id: str) -> bool:
        """Whether a dataset of that id exists; one we may not see in full still exists."""
        return self._exists(f"datasets/{dataset_id}", f"the dataset {dataset_id}")

    def _exists(self, where: str, what: str) -> bool:
        try:
            self.attempts(READ, lambda: self.get(f"/api/{where}"))
        except RemoteFailure as failure:
            if failure.transient:
                raise self.explain(failure, f"look up {what}") from failure
            return failure.status == _FORBIDDEN
        return True

    def explain(self, failure: RemoteFailure, what: str) -> AgentError:
        """Turn a failed call into the error a person reads, asking the Hub about the token if it may help."""
        said = f"Could not {what}: {failure.words}"
        if failure.transient:
            return HubUnreachableError(
                said, hint="Nothing is lost: run the same command again, it continues where it stopped."
            )
        if failure.status == _UNAUTHORIZED:
            return HubAuthError(
                said,
                hint="HF_TOKEN is wrong, expired or revoked; make a new write token in the Hub's settings.",
            )
        if failure.status == _PAYMENT or "storage" in failure.words.lower():
            return HubRefusedError(
                said,
                hint="Free private storage, upgrade the plan, or set HF_REPO_PRIVATE=false; then run again.",
            )
        if failure.status == _FORBIDDEN:
            return HubAuthError(said, hint=self._why_forbidden())
        return HubRefusedError(
            said, hint="Correct what the Hub names, then run again; nothing was published."
        )

    def _why_forbidden(self) -> str:
        try:
            me = self.attempts(READ, self.api.whoami)
        except RemoteFailure:
            me = {}
        token = me.get("auth", {}).get("accessToken", {})
        if token.get("role") == "read":
            return (
                f"HF_TOKEN ({token.get('displayName', 'unnamed')}) is read-only; use one with the write role."
            )
        spaces = [me.get("name"), *(org.get("name") for org in me.get("orgs", []))]
        mine = ", ".join(name for name in spaces if name)
        return (
            f"This token may write to: {mine or 'nothing it would name'}; set HF_REPO_NAME to one of these."
        )


def as_failure(error: Exception) -> RemoteFailure | None:
    """Read a library's exception as a failed call; None means that it is a bug of ours."""
    if isinstance(error, RemoteFailure):
        return error
    if isinstance(error, HfHubHTTPError):
        response = error.response
        words = error.server_message or response.headers.get("X-Error-Message") or response.reason_phrase
        return RemoteFailure(
            f"the Hub answered {response.status_code} {words}".strip(),
            status=response.status_code,
            code=response.headers.get("X-Error-Code"),
            retry_after_s=_retry_after(response.headers),
        )
    if isinstance(error, httpx2.HTTPError | httpx2.StreamError):
        return RemoteFailure(f"no complete answer ({type(error).__name__}: {error})", status=None)
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError | KeyError | TypeError):
        return RemoteFailure(f"an answer that cannot be read ({type(error).__name__})", status=None)
    if isinstance(error, ValueError) and str(error).startswith(_REFUSALS):
        return RemoteFailure(" ".join(str(error).split()), status=_BAD_REQUEST)
    # The library's thread pool wraps what went wrong in a RuntimeError.
    wrapped = error.__cause__ if isinstance(error, RuntimeError) else None
    return as_failure(wrapped) if isinstance(wrapped, Exception) else None


def _path_of(url: str) -> str:
    return urlunsplit(urlsplit(url)._replace(scheme="", netloc=""))


def _listing(response: httpx2.Response) -> list[Any]:
    found = response.json()
    if not isinstance(found, list):
        raise RemoteFailure("an answer that is no list", status=None)
    return found


def _retry_after(headers: httpx2.Headers) -> float | None:
    asked = re.fullmatch(r"\d+(\.\d+)?", headers.get("Retry-After", "").strip())
    window = re.search(r"r=0;t=(\d+)", headers.get("RateLimit", ""))
    if asked:
        return float(asked[0])
    return float(window[1]) if window else None
