"""The account of one job on this volume: what was done, what is still to be told, and who is at it.

Everything here is a hint or a record. A journal that is lost, damaged or cannot be written costs time,
never truth: the Hub and the row are asked again.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from agent.durable import append_durably, read_document, read_trail, write_durably
from agent.log import get_logger, redact
from agent.parse import parse_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from types import TracebackType

    from agent.config import Config
    from agent.retry import Patience

VERSION = 1
TRAIL = "audit.jsonl"
TRAINING = "training"  # the folder below a job's where `run` keeps the account of the training itself
_ASK_EVERY_S, _A_MOMENT_S = 1.0, 0.05  # who only looks (`status`) holds it for some microseconds


def _utc() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def folder_of(config: Config) -> Path:
    """The job's folder; a job without a name is known by what it publishes."""
    unnamed = hashlib.sha256(str(config.output_dir.absolute()).encode("utf-8", "surrogateescape"))
    return config.state_dir / str(config.job_id or f"unnamed-{unnamed.hexdigest()[:12]}")


class Journal:
    """The folder of one job below AGENT_STATE_DIR: `journal.json`, `audit.jsonl` and `lock`.

    Args:
        folder: where; made when something is first written.
        now: the time as ISO 8601.
    """

    def __init__(self, folder: Path, now: Callable[[], str] = _utc) -> None:
        self.folder = folder
        self._now = now
        self._document = read_document(folder / "journal.json")
        if self._document.get("version") != VERSION:
            self._document = {}
        self._writable = True
        self._run, self._numbers = os.urandom(4).hex(), itertools.count(1)
        trail = read_trail(folder / TRAIL)
        told = self._document.get("told_events")
        self._untold = trail[told:] if isinstance(told, int) and 0 <= told <= len(trail) else trail
        self._events, self._keys = len(trail), {entry.get("key") for entry in trail}
        self._guard = threading.RLock()  # a heartbeat passes on what the main thread notes

    @property
    def outbox(self) -> dict[str, Any] | None:
        """What the row was to be told and perhaps was not; None when all was delivered, or it is damaged."""
        found = self._document.get("outbox")
        if not isinstance(found, dict) or found.get("seal") != seal(found.get("letter")):
            return None
        letter: dict[str, Any] = found["letter"]
        return letter

    def post(self, letter: dict[str, Any] | None) -> None:
        """Put what the row is to be told into the outbox before it is sent; None when it has arrived."""
        self.keep(outbox={"letter": letter, "seal": seal(letter)} if letter else None)

    def keep(self, **facts: Any) -> None:  # noqa: ANN401 - whatever JSON holds
        """Write facts into the document; None takes one out."""
        with self._guard:
            document = {**self._document, **facts, "version": VERSION}
            document = {name: value for name, value in document.items() if value is not None}
            if document == self._document:
                return
            self._document = document
            self._write(lambda: write_durably(self.folder / "journal.json", _without_secrets(document)))

    def kept(self, name: str) -> dict[str, Any]:
        """An object that was kept under this name; an empty one when there is none."""
        found = self._document.get(name)
        return dict(found) if isinstance(found, dict) else {}

    def note(self, event: str, *, once: str | None = None, **facts: Any) -> None:  # noqa: ANN401 - JSON
        """Add an event to the audit trail.

        Args:
            event: what happened.
            once: what it happened to, if that can happen to it only once: a rerun does not tell it again.
            facts: what else is known of it.
        """
        key = f"{event}:{once}" if once else f"{self._run}:{next(self._numbers)}:{event}"
        if key in self._keys:
            return
        said = {"time": self._now(), "pid": os.getpid(), "key": key, "event": event, **facts}
        try:
            entry = _without_secrets(said)
        except ValueError as error:
            get_logger().warning("the audit trail cannot hold this", event_noted=event, because=str(error))
            return
        with self._guard:
            self._keys.add(key)
            self._events += 1
            self._untold.append(entry)
            self._write(lambda: append_durably(self.folder / TRAIL, entry))

    def tells_of(self, event: str) -> bool:
        """Whether something that can happen only once, under this name, has happened before."""
        return any(isinstance(key, str) and key.startswith(f"{event}:") for key in self._keys)

    @property
    def untold(self) -> list[dict[str, Any]]:
        """The events that the job database was not told yet, those of earlier runs first."""
        with self._guard:
            return list(self._untold)

    def told(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Take these entries of `untold` for told; they have keys, so telling one again does no harm."""
        keys = {entry.get("key") for entry in entries}
        with self._guard:
            self._untold = [entry for entry in self._untold if entry.get("key") not in keys]
            self.keep(told_events=self._events - len(self._untold))  # the first ones are told first

    def _write(self, write: Callable[[], None]) -> None:
        if not self._writable:
            return
        try:
            write()
        except (OSError, ValueError) as error:
            self._writable = False  # said once; a full disk is not asked at every step
            get_logger().warning("the journal cannot be written; going on without", because=str(error))


def seal(letter: object) -> str:
    """A checksum: what is told to the row must be what was meant, to the last bit."""
    return hashlib.sha256(json.dumps(letter, sort_keys=True).encode()).hexdigest()


def _without_secrets(document: dict[str, Any]) -> dict[str, Any]:
    cleaned: dict[str, Any] = parse_json(redact(json.dumps(document, allow_nan=False)))
    return cleaned


class Lock:
    """One finalizer at a time on one volume; the next one waits inside `with` until this one ends.

    The kernel holds it and lets go when the holder dies, however it dies. On a file system that knows no
    locks, or when the patience ends, work goes on without: two finalizers of one job still make one
    commit and one completed row, the second only does more work for it.
    """

    def __init__(self, folder: Path, patience: Patience) -> None:
        self._path, self._patience = folder / "lock", patience
        self._handle: int | None = None

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._wait(self._handle)
        except OSError as error:
            get_logger().warning("going on without a lock", because=str(error))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            os.close(self._handle)

    def _wait(self, handle: int) -> None:
        waiting, pause_s = False, _A_MOMENT_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not waiting and pause_s == _ASK_EVERY_S:
                    get_logger().info("waiting for another finalize of this job", lock=str(self._path))
                    waiting = True
                if self._patience.left_s() <= pause_s:
                    raise
                self._patience.sleep(pause_s)
                pause_s = _ASK_EVERY_S
            else:
                self._patience.progress()
                return
