"""A container of the image: what runs in it sees itself as the main process of a machine of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from tests.image.store import Store

LONGEST_S = 120.0  # for anything that is done in it
ROOT_USER, SOMEBODY = 0, 1000


class Container:
    """A container, removed when `with` ends, with everything that still runs in it.

    Args:
        store: where the image is.
        image: its name.
        volume: the folder mounted at /workspace.
    """

    def __init__(self, store: Store, image: str, volume: Path) -> None:
        self._store, self._image, self.volume = store, image, volume
        self._said: dict[subprocess.Popen[bytes], Path] = {}

    def __enter__(self) -> Self:
        self._name = self._store.buildah("from", self._image)
        self.root = Path(self._store.buildah("mount", self._name))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._said:
            self.kill(process)
        self._store.buildah("rm", self._name)

    def write(self, path: str, content: str, mode: int = 0o755) -> None:
        """Put a file into the container."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
        target.chmod(mode)

    def start(
        self,
        *command: str,
        env: Mapping[str, str] | None = None,
        user: int = ROOT_USER,
        cwd: str = "/",
        mounts: Mapping[Path, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start the container with this main process; `env` is what its template sets."""
        options = [word for name, value in (env or {}).items() for word in ("--env", f"{name}={value}")]
        shown = {self.volume: "/workspace", **(mounts or {})}
        options += [word for source, path in shown.items() for word in ("--volume", f"{source}:{path}")]
        # buildah's chroot isolation has the machine's processes; a container has its own, and a process 1.
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        # buildah passes on what is said, but under load not always to the end: so it goes to a file.
        said = f"/run/said-{len(self._said)}"
        become = ["sh", "-c", 'exec >"$0" 2>&1; exec "$@"', said, *become]
        process = subprocess.Popen(
            self._store.command(
                "run", "--isolation", "chroot", "--user", "0:0", "--cap-add", "CAP_SYS_ADMIN",
                "--workingdir", cwd, *options, self._name, "--",
                "unshare", "--pid", "--fork", "--mount-proc", "--kill-child", *become, *command,
            ),
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        self._said[process] = self.root / said[1:]
        return process

    def run(
        self,
        *command: str,
        env: Mapping[str, str] | None = None,
        user: int = ROOT_USER,
        cwd: str = "/",
        mounts: Mapping[Path, str] | None = None,
    ) -> tuple[int, str]:
        """Run the container to its end: the exit code of its main process, and all that it said."""
        process = self.start(*command, env=env, user=user, cwd=cwd, mounts=mounts)
        return self.end(process)

    def end(self, process: subprocess.Popen[bytes]) -> tuple[int, str]:
        """Wait for what was started: its exit code and all that it said."""
        said = self._said[process]
        try:
            process.wait(LONGEST_S)
        except subprocess.TimeoutExpired:
            self.kill(process)
            raise AssertionError(f"did not end in {LONGEST_S:g} s:\n{said.read_text()}") from None
        return process.returncode, said.read_text()

    def main_process(self, process: subprocess.Popen[bytes]) -> int:
        """Process 1 of what was started, by the number that the machine knows it by."""
        found: list[int] = []

        def looked() -> bool:
            found[:] = [pid for pid in _descendants(process.pid) if _is_first(pid)]
            return bool(found) or process.poll() is not None

        until(looked)
        assert found, f"it ended: {self.end(process)}"
        return found[0]

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """End a container as a lost pod ends: everything in it at once, without a word."""
        if process.poll() is None:
            for pid in _descendants(process.pid):
                if _is_first(pid):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        try:
            process.wait(LONGEST_S)
        except subprocess.TimeoutExpired:
            process.kill()


def until(true: Callable[[], bool]) -> None:
    """Wait until something holds; fail if it never does."""
    deadline = time.monotonic() + LONGEST_S
    while not true():
        assert time.monotonic() < deadline, f"not true after {LONGEST_S:g} s"
        time.sleep(0.01)


def _descendants(top: int) -> list[int]:
    parents = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):
            parents[int(status.parent.name)] = int(_field(status.read_text(), "PPid")[0])
    found = [top]
    for pid in found:  # grows while it is walked
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def _is_first(pid: int) -> bool:
    """Whether a process is the main one of a process tree of its own."""
    try:
        numbers = _field(Path(f"/proc/{pid}/status").read_text(), "NSpid")
    except OSError:
        return False
    return len(numbers) > 1 and numbers[-1] == "1"


def _field(status: str, name: str) -> list[str]:
    found = re.search(rf"^{name}:(.*)$", status, re.MULTILINE)
    return found[1].split() if found else []
