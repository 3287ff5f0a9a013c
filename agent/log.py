"""Logging that a person reads on a terminal and a machine reads everywhere else.

Redaction sits *under* the logger: every character that leaves the process through a stream made
here, or through `redact`, has the known secrets and everything that looks like a token removed.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import urllib.parse
import warnings
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import structlog

HIDDEN = "[hidden]"
SHORTEST_SECRET = 6  # shorter ones would blank ordinary words

# What credentials of the services around us look like, for those nobody told us about.
_LOOKS_SECRET = re.compile(
    r"hf_(?:oauth_)?[A-Za-z0-9]{20,}"
    r"|sb_secret_[A-Za-z0-9_-]{8,}"
    r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}"
    r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"
    r"|(?<=Bearer )(?=[^\s\"']*[0-9._-])[^\s\"']{12,}"
)
# What each of those begins with: text without any of them need not be searched.
_SIGNS = (
    b"hf_",
    b"sb_secret_",
    b"ghp_",
    b"gho_",
    b"ghu_",
    b"ghs_",
    b"ghr_",
    b"github_pat_",
    b"eyJ",
    b"Bearer ",
)
# The Hub's library warns about paths it was told to take; what matters comes back as an error.
_LIBRARIES = {
    "httpx2": logging.WARNING,
    "httpcore2": logging.WARNING,
    "huggingface_hub": logging.ERROR,
    "httpx": logging.WARNING,  # the job database's client logs each URL
    "httpcore": logging.WARNING,
}
_known: set[str] = set()
_prepare: list[Callable[[], None]] = []  # what is left to do of `configure` before the first line is logged


def spellings(secret: str) -> set[str]:
    """A secret in plain, JSON, Python and URL spelling."""
    return {
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        urllib.parse.quote(secret, safe="", errors="surrogateescape"),  # a variable may hold any bytes
    }


def hide(secrets: Iterable[str]) -> None:
    """Remove these values from everything written from now on, in all their spellings."""
    for secret in secrets:
        if len(secret) >= SHORTEST_SECRET:
            _known.update(spellings(secret))


def hidden() -> frozenset[str]:
    """The secrets that are known here, in all their spellings."""
    return frozenset(_known)


def redact(text: str) -> str:
    """Return `text` without any known secret and without anything that looks like a token."""
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _LOOKS_SECRET.sub(HIDDEN, text)


def may_look_secret(text: bytes) -> bool:
    """Whether anything in it may look like a token; quick, for what a training prints by the gigabyte."""
    return any(sign in text for sign in _SIGNS)


class RedactedStream:
    """A text stream that redacts whatever passes through it, one write at a time."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write `text` redacted; a log line arrives here in one piece."""
        return self._stream.write(redact(text))

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a stream offers
        return getattr(self._stream, name)


def configure(*, style: str, level: str, stream: TextIO | None = None) -> None:
    """Send all logging, ours and the libraries', to `stream` (stderr) in one style.

    Args:
        style: `console` for people, `json` for one JSON object a line.
        level: the lowest level shown, lower case.
        stream: where it goes; redacted on the way.
    """
    out = RedactedStream(stream or sys.stderr)
    handler = logging.StreamHandler(out)
    handler.setFormatter(_Formatter(style, is_terminal=bool(out.isatty())))
    logging.raiseExceptions = False  # a library's broken log call would print its arguments past us
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for library, quiet in _LIBRARIES.items():
        logging.getLogger(library).setLevel(logging.DEBUG if level == "debug" else quiet)
    logging.captureWarnings(capture=True)
    warnings.simplefilter("default" if level == "debug" else "ignore")
    _prepare[:] = [lambda: _configure_structlog(style, level)]
    if "structlog" in sys.modules:
        _prepare.pop()()


def _configure_structlog(style: str, level: str) -> None:
    import structlog

    first, _, *others = _shared(style)
    structlog.configure(
        processors=[first, *others, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )


def _shared(style: str) -> list[structlog.typing.Processor]:
    import structlog

    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso" if style == "json" else "%H:%M:%S", utc=style == "json"),
    ]
    return shared + ([structlog.processors.format_exc_info, _in_reading_order] if style == "json" else [])


class _Formatter(logging.Formatter):
    """Formats as structlog does, which is imported when there is something to say: it takes 0.13 s."""

    def __init__(self, style: str, *, is_terminal: bool) -> None:
        super().__init__()
        self._how, self._is_terminal = style, is_terminal
        self._formatter: logging.Formatter | None = None

    def format(self, record: logging.LogRecord) -> str:
        """Format a line, ours or a library's."""
        self._formatter = self._formatter or self._made()
        return self._formatter.format(record)

    def _made(self) -> logging.Formatter:
        import structlog

        renderer: structlog.typing.Processor
        if self._how == "json":
            renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
        else:
            renderer = structlog.dev.ConsoleRenderer(
                colors=self._is_terminal,
                pad_event_to=0,
                sort_keys=False,
                # The pretty one shows local variables, cut where no redaction recognises them.
                exception_formatter=structlog.dev.plain_traceback,
            )
        return structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_shared(self._how),
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )


def _in_reading_order(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    first = {name: event.pop(name) for name in ("timestamp", "level", "event") if name in event}
    return first | dict(event)


def adopt(library: str) -> None:
    """Take away the handlers a library gave itself at import: they would write past the redaction."""
    logger = logging.getLogger(library)
    logger.handlers.clear()
    logger.propagate = True
    logger.setLevel(logging.DEBUG if logging.getLogger().level <= logging.DEBUG else _LIBRARIES[library])


def get_logger() -> structlog.stdlib.BoundLogger:
    """The package's logger; events are short sentences, facts are key-value pairs."""
    import structlog

    while _prepare:
        _prepare.pop()()
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("agent")
    return logger
