"""What the unit tests share: a clock that only sleeping moves, a log that is read back, files by name."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from agent import log
from tests.conftest import FIXTURES, Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _logging_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give every test its own set of known secrets, and undo what it configured."""
    monkeypatch.setattr(log, "_known", set())
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    raising = logging.raiseExceptions
    levels = {name: logging.getLogger(name).level for name in log._LIBRARIES}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raising
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Logged:
    """Everything that went through the logging that a test configured."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    def configure(self, style: str, level: str = "debug") -> Logged:
        log.configure(style=style, level=level, stream=self.stream)
        return self

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture
def logged() -> Logged:
    return Logged()


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Make a folder from paths and contents; `None` makes an empty folder, dicts and lists become JSON."""

    def make(files: dict[str, Any], name: str = "out") -> Path:
        root = tmp_path / name
        root.mkdir(exist_ok=True)
        for path, content in files.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                target.mkdir()
            elif isinstance(content, bytes):
                target.write_bytes(content)
            else:
                target.write_text(content if isinstance(content, str) else json.dumps(content))
        return root

    return make


@pytest.fixture
def real_output() -> Callable[[str], Path]:
    """A real training output, to be read only."""
    return lambda name: FIXTURES / name
