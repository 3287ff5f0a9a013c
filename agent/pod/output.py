"""What a training prints: passed through untouched, and kept in a log of bounded size without secrets."""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from agent.log import get_logger, hidden, may_look_secret, redact

if TYPE_CHECKING:
    from pathlib import Path

_CHUNK_BYTES = 65_536
_LONGEST_LINE_BYTES = 65_536  # longer ones are cut where no secret can be: at a blank
_LARGEST_LOG_BYTES = 8_000_000  # of two: the log and the one before
_LAST_LINES, _LONGEST_LAST_LINE = 50, 1000


class TrainingLog:
    """The last megabytes of the output, and its last lines; a disk that takes no more costs the file only.

    Args:
        path: the log; what came before it is kept beside it with the ending `.1`.
        largest_bytes: of each of the two.
    """

    def __init__(self, path: Path, largest_bytes: int = _LARGEST_LOG_BYTES) -> None:
        self.path, self._largest = path, largest_bytes
        self._last: deque[bytes] = deque(_end_of(path), maxlen=_LAST_LINES)
        self._signs = [sign.encode("utf-8", "surrogateescape") for sign in hidden()]
        self._guard = threading.Lock()
        self._handle: int | None = None
        self._size = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = self._open()
        except OSError as error:
            self._give_up(error)

    @property
    def last_lines(self) -> list[str]:
        """The end of the output, without secrets; of a line that was drawn over, its last state."""
        with self._guard:
            return [line.decode("utf-8", "replace") for line in self._last]

    def begin(self) -> None:
        """Let the last lines be those of what is started now."""
        with self._guard:
            self._last.clear()

    def add(self, lines: bytes) -> None:
        """Keep whole lines."""
        clean = self._without_secrets(lines)
        with self._guard:
            self._last.extend(_last_lines(clean))
            self._write(clean)

    def close(self) -> None:
        """Close the file."""
        with self._guard:
            if self._handle is not None:
                os.close(self._handle)
                self._handle = None

    def _without_secrets(self, lines: bytes) -> bytes:
        if may_look_secret(lines) or any(sign in lines for sign in self._signs):
            text = lines.decode("utf-8", "surrogateescape")
            return redact(text).encode("utf-8", "surrogateescape")
        return lines

    def _write(self, lines: bytes) -> None:
        if self._handle is None:
            return
        try:
            if self._size + len(lines) > self._largest and self._size:
                os.close(self._handle)
                self._handle = None
                self.path.replace(self.path.with_name(f"{self.path.name}.1"))
                self._handle = self._open()
            self._size += os.write(self._handle, lines)
        except OSError as error:
            self._give_up(error)

    def _open(self) -> int:
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(handle).st_size
        return handle

    def _give_up(self, error: OSError) -> None:
        self._handle = None
        get_logger().warning("the training's output is not kept", log=str(self.path), because=str(error))


def _last_lines(text: bytes) -> list[bytes]:
    """The last lines that are not empty, each as it was drawn last."""
    lines = (
        line.rstrip(b"\r").rsplit(b"\r", 1)[-1]
        for line in text.rsplit(b"\n", _LAST_LINES + 1)[-_LAST_LINES - 1 :]
    )
    return [line[:_LONGEST_LAST_LINE] for line in lines if line.strip()]


def _end_of(path: Path) -> list[bytes]:
    """The last lines of an earlier log: whoever was to tell of them may have died first."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _CHUNK_BYTES))
            return _last_lines(stream.read())
    except OSError:
        return []


class Stream:
    """One stream of the training on its way to ours.

    It is read as long as anybody holds its other end: a daemon that the training left behind must neither
    keep us waiting nor die of a full pipe.

    Args:
        source: what is read.
        sink: where it goes; when nobody reads there any more, the output is only kept.
        log: where it is kept.
    """

    def __init__(self, source: int, sink: int, log: TrainingLog) -> None:
        self._source, self._log = source, log
        self._sink: int | None = sink
        self._rest = b""
        self._thread = threading.Thread(target=self._run, name="output", daemon=True)
        self._thread.start()

    def settle(self, within_s: float) -> None:
        """Wait for the end of the stream, but not for those who keep it open."""
        self._thread.join(within_s)

    def _run(self) -> None:
        with suppress(OSError):  # a reading error is an end, too
            while chunk := os.read(self._source, _CHUNK_BYTES):
                self._pass_on(chunk)
                self._keep(chunk)
        self._log.add(self._rest)
        os.close(self._source)

    def _pass_on(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        while self._sink is not None and rest:
            try:
                rest = rest[os.write(self._sink, rest) :]
            except BlockingIOError:
                select.select([], [self._sink], [])
            except OSError:
                self._sink = None

    def _keep(self, chunk: bytes) -> None:
        self._rest += chunk
        ends = self._rest.rfind(b"\n") + 1
        if not ends and len(self._rest) > _LONGEST_LINE_BYTES:
            blanks = (self._rest.rfind(blank) + 1 for blank in (b"\r", b" "))
            ends = next(filter(None, blanks), len(self._rest))
        if ends:
            self._log.add(self._rest[:ends])
            self._rest = self._rest[ends:]
