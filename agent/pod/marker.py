"""How far this pod came with this job: what a container that is started again must know.

RunPod starts the container again whenever its main process ends, also after exit 0. The marker on the
volume is what keeps a training from being started twice and a pod from being stopped twice.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.durable import read_document, write_durably
from agent.errors import ConfigError
from agent.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VERSION = 1
NEW, TRAINING, STOPPED, TRAINED, FINISHED, LEAVING, LEFT = (
    "new", "training", "stopped", "trained", "finished", "leaving", "left",
)  # fmt: skip
_AT_WORK = "at-work.lock"
OVER = (FINISHED, LEAVING, LEFT)
_TYPES: dict[str, type | tuple[type, ...]] = {"str": str, "float": (int, float), "int": int, "bool": bool}


@dataclass(frozen=True)
class Mark:
    """One job in one pod; moments are Unix seconds.

    `phase` is new, training (began, and nobody heard of its end), stopped (we were told to stop it), trained
    (it ended), finished (its model was dealt with), leaving (the end of the pod is being asked for) or left.
    `command` tells the training from another one, `trained` that it ended somehow. `vanished` counts the
    starts in a row of which nobody heard the end and which left nothing new. `life` is that of the container
    in which it was finished.
    """

    phase: str = NEW
    command: str = ""
    begun_at: float = 0.0
    started_at: float = 0.0
    ended_at: float = 0.0
    vanished: int = 0
    process: str = ""
    trained: bool = False
    child_exit: int | None = None
    finished_at: float = 0.0
    exit_code: int = 0
    result: str = ""
    proven: bool = False
    life: str = ""
    left_at: float = 0.0


class Marker:
    """The marker of one job in one pod, kept in a file.

    Args:
        path: the file.
        now: the time, in Unix seconds.
    """

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self.path, self.now = path, now
        self.mark = Mark()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the only one at work on it; whoever else is, is waited for. Reads the marker.

        Raises:
            ConfigError: it cannot be written, and after a restart nobody would know what was done.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handles = [_open(self.path.with_suffix(".lock")), _open(self.path.parent / _AT_WORK)]
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            self._lock(handles[0], fcntl.LOCK_EX)
            self._lock(handles[1], fcntl.LOCK_SH)
            self.mark = _read(self.path)
            yield
        finally:
            for handle in handles:
                os.close(handle)

    def is_quiet(self) -> bool:
        """Whether no run is at work in this pod, on this job or another."""
        try:
            handle = _open(self.path.parent / _AT_WORK)
        except OSError:
            return True
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            return True
        finally:
            os.close(handle)
        return True

    def forget(self) -> None:
        """Begin anew."""
        self.mark = Mark()

    def begin(self, mark: Mark) -> None:
        """Note what is begun now, in place of everything before.

        Raises:
            ConfigError: it cannot be noted.
        """
        self.mark = mark
        try:
            self._write()
        except OSError as error:
            raise self._unwritable(error) from error

    def keep(self, **facts: Any) -> None:  # noqa: ANN401 - fields of Mark
        """Note what happened; where that cannot be written, a restart may do some of it again."""
        self.mark = replace(self.mark, **facts)
        try:
            self._write()
        except OSError as error:
            get_logger().error(
                "what was done cannot be noted", phase=self.mark.phase, marker=str(self.path),
                because=str(error),
            )  # fmt: skip

    def _write(self) -> None:
        write_durably(self.path, {**asdict(self.mark), "version": VERSION})

    def _lock(self, handle: int, kind: int) -> None:
        try:
            try:
                fcntl.flock(handle, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                get_logger().info("waiting for another run in this pod", marker=str(self.path))
                fcntl.flock(handle, kind)
        except OSError as error:
            get_logger().warning("going on without a lock", because=str(error))

    def _unwritable(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"{self.path} cannot be written: {error}. After a restart of the container nobody would know "
            "that this job was trained already.",
            hint="Set AGENT_STATE_DIR to a folder on the volume that can be written.",
        )


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _read(path: Path) -> Mark:
    """The mark in a file; of a damaged one, what is whole."""
    document = read_document(path)
    if document.get("version") != VERSION:
        return Mark()
    found: dict[str, Any] = {}
    for field in fields(Mark):
        value, kind = document.get(field.name), str(field.type).split(" |")[0]
        if isinstance(value, _TYPES[kind]):
            found[field.name] = value
    return Mark(**found)


def process_mark(pid: int) -> str:
    """What tells a process from every other that will ever have its number: empty if there is none."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *rest = status.rpartition(")")[2].split()
    return "" if state in {"Z", "X"} else f"{boot}:{pid}:{rest[18]}"  # its start, in ticks since boot


def container_life() -> str:
    """What tells this life of the container from that before its last restart."""
    return process_mark(1)


def is_running(mark: str) -> bool:
    """Whether the process with this mark still runs."""
    pid = _pid_of(mark)
    return pid is not None and process_mark(pid) == mark


def stop_process(mark: str) -> None:
    """Ask the process with this mark, and its group, to stop; nobody else."""
    pid = _pid_of(mark)
    if pid is not None and is_running(mark):
        with suppress(OSError):
            os.killpg(pid, signal.SIGTERM)


def _pid_of(mark: str) -> int | None:
    pid = mark.split(":")[1] if mark.count(":") == 2 else ""  # noqa: PLR2004 - boot, pid, start
    return int(pid) if pid.isdecimal() else None
