"""GitHub's REST API, as far as issues need it: one bounded call at a time, the token in its header only."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NoReturn, Self

from agent import __version__
from agent.notify.failure import NotToldError
from agent.notify.words import one_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    import httpx2

ANSWER_S, CONNECT_S = 10.0, 5.0
_SHORTEST_WAIT_S = 0.1  # what is left may have run out since somebody looked
_LONGEST_ANSWER_BYTES = 16 * 2**20  # a hundred issues with long bodies
_VERSION = "2022-11-28"
_FORBIDDEN, _TOO_MANY, _REQUEST_TIMEOUT, _SERVER_ERROR = 403, 429, 408, 500
_CURES = {
    401: "GitHub does not know GITHUB_TOKEN",
    403: "GITHUB_TOKEN needs the permission issues: write",
    404: "GITHUB_TOKEN sees no such repository: correct GITHUB_REPOSITORY, or give the token access",
    410: "issues are turned off in this repository",
}


class StatusError(NotToldError):
    """An answer that is no success."""

    def __init__(self, status: int, words: str, *, later: bool, wait_s: float | None) -> None:
        super().__init__(words, later=later, wait_s=wait_s)
        self.status = status


class GitHub:
    """A session with the API of one repository, whose connections end with it.

    Args:
        api: base address of the API.
        repository: owner/name.
        token: sent as a bearer token; never follows a redirect.
        left_s: seconds that are left for everything.
    """

    def __init__(self, api: str, repository: str, token: str, left_s: Callable[[], float]) -> None:
        self._base, self._token, self._left_s = f"{api}/repos/{repository}", token, left_s
        self._client: httpx2.Client | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client:
            self._client.close()

    def page(self, path: str) -> list[dict[str, Any]]:
        """One page of what is listed at an address below the repository's.

        Raises:
            NotToldError: as `send`.
        """
        found = self._ask("GET", path)
        return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else _strange("GET")

    def send(self, method: str, path: str = "", document: object = None) -> dict[str, Any]:
        """Send one request to an address below the repository's, and return what is there afterwards.

        Raises:
            StatusError: the answer is no success.
            NotToldError: no whole answer came; `perhaps` says whether GitHub may have acted.
        """
        found = self._ask(method, path, document)
        return found if isinstance(found, dict) else _strange(method)

    def _ask(self, method: str, path: str, document: object = None) -> Any:  # noqa: ANN401 - whatever JSON holds
        import httpx2

        left_s = max(_SHORTEST_WAIT_S, self._left_s())
        timeout = httpx2.Timeout(min(ANSWER_S, left_s), connect=min(CONNECT_S, left_s))
        try:
            self._client = self._client or httpx2.Client(headers=self._headers(), follow_redirects=False)
            with self._client.stream(
                method, f"{self._base}{path}", json=document, timeout=timeout
            ) as response:
                body = self._read(response)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise NotToldError(f"GitHub cannot be reached ({error})", later=True) from error
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
            words = f"GitHub gave no whole answer ({type(error).__name__}: {error})"
            raise NotToldError(words, later=True, perhaps=method != "GET") from error
        except (ImportError, ValueError) as error:  # a proxy that is set, but cannot be used
            raise NotToldError(f"GitHub could not be asked ({error})", later=False) from error
        found = _parsed(body)
        if not response.is_success:
            raise _refusal(response, found, body)
        return found

    def _headers(self) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {self._token}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": _VERSION,
            "User-Agent": f"training-completion-agent/{__version__}",
        }

    def _read(self, response: httpx2.Response) -> bytes:
        body = b""
        for piece in response.iter_bytes():
            body += piece
            if len(body) > _LONGEST_ANSWER_BYTES or self._left_s() <= 0:
                raise NotToldError("GitHub gave an answer without end", later=True, perhaps=True)
        return body


def _strange(method: str) -> NoReturn:
    raise NotToldError("what answered does not speak as GitHub does", later=True, perhaps=method != "GET")


def _parsed(body: bytes) -> Any:  # noqa: ANN401 - whatever JSON holds
    try:
        return json.loads(body)
    except ValueError:
        return None


def _refusal(response: httpx2.Response, document: object, body: bytes) -> StatusError:
    status = response.status_code
    said = str(document.get("message")) if isinstance(document, dict) else re.sub(rb"<[^>]*>", b" ", body)
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    asked = re.fullmatch(r"\d{1,6}", response.headers.get("Retry-After", "").strip())
    limited = status == _FORBIDDEN and (asked or response.headers.get("X-RateLimit-Remaining") == "0")
    moved = "what is asked for is somewhere else: correct GITHUB_REPOSITORY or GITHUB_API_URL"
    cure = None if limited else moved if response.is_redirect else _CURES.get(status)
    words = one_line(f"GitHub answered {status} {text}", 200) + (f" ({cure})" if cure else "")
    later = bool(limited) or status in {_TOO_MANY, _REQUEST_TIMEOUT} or status >= _SERVER_ERROR
    return StatusError(status, words, later=later, wait_s=float(asked[0]) if asked else None)
