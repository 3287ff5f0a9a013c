"""One HTTP call to who can end the pod: bounded in time and size, its key in a header and nowhere else."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from agent import __version__

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    import httpx2

ANSWER_S, CONNECT_S = 15.0, 5.0
_SHORTEST_WAIT_S = 0.1  # what is left may have run out since somebody looked
_LONGEST_ANSWER_BYTES = 2**18
# The edge answers 403 to requests without one, and to the one Python's own client sends.
_USER_AGENT = f"training-completion-agent/{__version__}"


class NoAnswerError(Exception):
    """No whole answer came: what the server did is unknown."""


@dataclass(frozen=True)
class Answer:
    """A whole answer; `document` is None where the body is no JSON, `words` is what a person reads of it."""

    status: int
    document: Any
    words: str
    retry_after_s: float | None


class Line:
    """A session with one of them, whose connections end with it.

    Args:
        left_s: seconds that are left for everything.
    """

    def __init__(self, left_s: Callable[[], float]) -> None:
        self._left_s = left_s
        self._client: httpx2.Client | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client:
            self._client.close()

    def send(
        self, method: str, url: str, key: str, document: object = None, *, key_header: str | None = None
    ) -> Answer:
        """Send one request and return the answer; redirects are answers, they are not followed.

        Args:
            method: of the request.
            url: where to.
            key: who asks.
            document: the body.
            key_header: the header that the key travels in; None for a bearer token.

        Raises:
            NoAnswerError: whether the server acted is unknown.
        """
        import httpx2

        left_s = max(_SHORTEST_WAIT_S, self._left_s())
        timeout = httpx2.Timeout(min(ANSWER_S, left_s), connect=min(CONNECT_S, left_s))
        shown = {key_header: key} if key_header else {"Authorization": f"Bearer {key}"}
        headers = shown | {"Accept": "application/json"}
        try:
            self._client = self._client or httpx2.Client(headers={"User-Agent": _USER_AGENT})
            with self._client.stream(
                method, url, headers=headers, json=document, timeout=timeout, follow_redirects=False
            ) as response:
                return _answer(response, self._read(response))
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
            raise NoAnswerError(f"gave no whole answer ({type(error).__name__}: {error})") from error
        except (ImportError, ValueError) as error:  # a proxy that is set, but cannot be used
            raise NoAnswerError(f"could not be asked ({error})") from error

    def _read(self, response: httpx2.Response) -> bytes:
        body = b""
        for piece in response.iter_bytes():
            body += piece
            if len(body) > _LONGEST_ANSWER_BYTES or self._left_s() <= 0:
                raise NoAnswerError("gave an answer without end")
        return body


def _answer(response: httpx2.Response, body: bytes) -> Answer:
    text = body.decode(errors="replace").strip()
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    said = [str(response.status_code), response.reason_phrase, _said(document) or _plain(text)]
    asked = re.fullmatch(r"\d{1,6}", response.headers.get("Retry-After", "").strip())
    return Answer(
        response.status_code, document, " ".join(filter(None, said)), float(asked[0]) if asked else None
    )


def _said(document: object) -> str:
    """The words in an error's JSON; problem+json has `detail` and `title`, GraphQL a list."""
    if not isinstance(document, dict):
        return ""
    for name in ("detail", "message", "error", "title"):
        if isinstance(document.get(name), str):
            return str(document[name])
    errors = document.get("errors")
    if not isinstance(errors, list):
        return ""
    return "; ".join(_said(error) for error in errors)


def _plain(text: str) -> str:
    return "" if text.startswith(("{", "[")) else re.sub(r"<[^>]*>", " ", text)
