"""What apprise's log tells of a message that was not delivered: it returns no more than that it was not."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from agent.notify.delivery import LONGEST_WAIT_S
from agent.notify.failure import NotToldError
from agent.notify.words import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

_HTTP = re.compile(r"error=(\d{3})\b")
_SMTP = re.compile(r"\((\d{3}), b['\"]|was refused: (\d{3}) ")
_ARRIVED = re.compile(r"(?:Sent|Delivered|Posted)\b")
_DETAILS = re.compile(r"Response Details:\s*(.*)", re.DOTALL)
_SOCKET = re.compile(r"(?:Socket|\w+) Exception: (.*)", re.DOTALL)
# No connection came about, so no message went over it.
_NEVER_REACHED = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeoutError|SSLError|ProxyError|Connection refused"
    r"|Name or service not known|Temporary failure in name resolution|No address associated"
    r"|No route to host|Network is unreachable|CERTIFICATE_VERIFY_FAILED"
)
_URL = re.compile(r" with url: \S+|\(Caused by |(?:HTTPS?Connection(?:Pool)?\(host=.*?\): )")
_TOO_MANY, _REQUEST_TIMEOUT, _SERVER_ERROR = 429, 408, 500
# Said by whoever stands before the service and does not know what became of the message there; and a
# success that the plugin did not take for one.
_NOT_KNOWN = {408, 502, 504, *range(200, 300), *range(520, 600)}


def judge(lines: Iterable[tuple[str, str]]) -> NotToldError:
    """What became of a message that apprise says was not delivered.

    Args:
        lines: of its log, as level and text.
    """
    said, status, smtp, unknown, words = False, None, None, False, []
    for level, text in lines:
        said = said or _ARRIVED.match(text) is not None
        http, details, socket = _HTTP.search(text), _DETAILS.match(text), _SOCKET.match(text)
        by_smtp = _SMTP.search(text)
        if by_smtp:
            smtp = int(by_smtp[1] or by_smtp[2])
            words.append(_without_url(socket[1] if socket else text))
        elif socket:
            unknown = unknown or not _NEVER_REACHED.search(text)
            words.append(_without_url(socket[1]))
        elif http and level != "DEBUG":
            status = int(http[1])
            words.append(f"status {status}")
        elif details:
            words.append(_body(details[1]))
        elif level in {"ERROR", "CRITICAL"}:
            words.append(text)
    known = status is not None or smtp is not None or any(words)
    perhaps = said or unknown or status in _NOT_KNOWN or not known
    return NotToldError(
        one_line(": ".join(filter(None, words)) or "no reason was given"),
        later=_later(status, smtp),
        perhaps=perhaps,
        # The Retry-After of a 429 stays within apprise: the longest wait honours all that would fit.
        wait_s=LONGEST_WAIT_S if status == _TOO_MANY else None,
    )


def _later(status: int | None, smtp: int | None) -> bool:
    if status is not None:
        return status in {_TOO_MANY, _REQUEST_TIMEOUT} or status >= _SERVER_ERROR or status < 300  # noqa: PLR2004
    return (
        smtp is None or smtp < _SERVER_ERROR
    )  # of SMTP's replies the 400s are for the moment, the 500s final


def _body(details: str) -> str:
    """The words of an answer that apprise wrote down as Python writes bytes."""
    try:
        content = ast.literal_eval(details.strip())
    except (ValueError, SyntaxError):
        content = details
    text = content.decode(errors="replace") if isinstance(content, bytes) else str(content)
    return re.sub(r"<[^>]*>", " ", text)


def _without_url(words: str) -> str:
    """An exception's text without the address, which may be a secret whole."""
    return _URL.sub(" ", words)
