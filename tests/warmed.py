"""What tests of the warm upload share: models of any size as a trainer saves them, and what travelled."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import struct
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.conftest import FIXTURES, ROOT, Pod

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable

    from agent.sandbox.hub import Hub
    from agent.sandbox.loopback import Request

_PIECE_BYTES = 1 << 24  # a die throws no gigabyte at once
LONGEST_S = 120.0  # for anything on a busy machine
JOB = "11111111-2222-4333-8444-555555555555"

WEIGHTS = "model.safetensors"
SMALL_FILES = [path for path in (FIXTURES / "base").iterdir() if path.name != WEIGHTS]
PRIVATE = {"optimizer.pt": b"state of the optimizer", "training_args.bin": b"with the token it was given"}


def weights(size_bytes: int, seed: object) -> bytes:
    """A whole safetensors file of one tensor of noise: nothing in it can be compressed or found twice."""
    die, sizes = random.Random(str(seed)), range(0, size_bytes, _PIECE_BYTES)
    noise = b"".join(die.randbytes(min(_PIECE_BYTES, size_bytes - start)) for start in sizes)
    tensor = {"dtype": "U8", "shape": [size_bytes], "data_offsets": [0, size_bytes]}
    header = json.dumps({"noise": tensor}).encode()
    return struct.pack("<Q", len(header)) + header + noise


def save_model(folder: Path, content: bytes) -> Path:
    """Save a model as `save_model` does, weights last."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in SMALL_FILES:
        shutil.copyfile(path, folder / path.name)
    (folder / WEIGHTS).write_bytes(content)
    return folder


def save_checkpoint(run: Path, step: int, content: bytes, **state: Any) -> Path:
    """Save a checkpoint as a trainer does: its own state beside the model, trainer_state.json last.

    It is the last one, unless `state` says otherwise.
    """
    folder = save_model(run / f"checkpoint-{step}", content)
    for name, secret in PRIVATE.items():
        (folder / name).write_bytes(secret * 40_000)
    document = {"global_step": step, "max_steps": step, "save_steps": step, "log_history": [], **state}
    (folder / "trainer_state.json").write_text(json.dumps(document))
    return folder


def content_bytes(requests: Iterable[Request]) -> int:
    """How many bytes of files travelled in these requests, by xet or by LFS, committed or not."""
    return sum(
        one.received_bytes
        for one in requests
        if "/xorbs/" in one.path or (one.kind == "lfs" and one.method == "PUT")
    )


def has(hub: Hub, content: bytes) -> bool:
    """Whether a file of exactly these bytes is in the Hub's storage, committed or not."""
    return hub.content.find_large(hashlib.sha256(content).hexdigest()) is not None


def publications(hub: Hub, repo_id: str = "ada/model") -> list[str]:
    """The commits of the repo that a finalize made."""
    repo = hub.repos.get(repo_id)
    return [one.oid for one in repo.every_commit() if "Job-Id" in one.message] if repo else []


class UnderRun:
    """A training under the real `run`, which does nothing until a test says so, and the process beside it.

    The test saves into `out` what the training would. `hurried` is the time of a test: see tests/hurried.
    """

    def __init__(self, pod: Pod, home: Path, *, job: str = JOB, **environ: str) -> None:
        self.pod, self.out, self.job = pod, home / "out", job
        self.environ = {"JOB_ID": job, "AGENT_LOG_LEVEL": "debug", **environ}
        self._home, self._gate = home, home / "go on"
        self.lines: list[str] = []
        self.warm_pids: list[int] = []
        self._processes: list[subprocess.Popen[str]] = []
        self._listening: list[threading.Thread] = []

    def start(self, *deeds: str, hurried: bool = True, command: list[str] | None = None, **more: str) -> None:
        """Start it; it waits, and does the deeds of tests/trainer.py when it goes on."""
        tests = ROOT / "tests"
        path = [tests / "hurried", tests / "without_matplotlib", ROOT][not hurried :]
        before = self.diary.count("start")
        trainer = [sys.executable, str(tests / "trainer.py"), str(self._home / "diary")]
        self.process = self.pod.command(
            self.out, "run", "--json-file", str(self._home / "answer.json"), "--",
            *(command or [*trainer, f"wait={self._gate}", *deeds]),
            **{**self.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), **more},
        )  # fmt: skip
        self._processes.append(self.process)
        listening = threading.Thread(target=self._listen, args=[self.process.stderr], daemon=True)
        listening.start()
        self._listening.append(listening)
        self.until(lambda: self.diary.count("start") > before)

    def _listen(self, stream: Iterable[str]) -> None:
        self.lines.extend(stream)

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for what a process is about to do."""
        over = time.monotonic() + LONGEST_S
        while not condition():
            assert time.monotonic() < over, self.said
            time.sleep(0.005)

    def until_warm(self) -> int:
        """Wait for the process that sends ahead: its number."""
        self.until(lambda: self._children("agent.warm"))
        self.warm_pids += self._children("agent.warm")
        return self.warm_pids[-1]

    def until_sent(self, folder: Path) -> None:
        """Wait until it has told that all of this folder is in storage."""
        path = self.pod.state_dir / self.job / "warm.json"
        self.until(lambda: path.exists() and json.loads(path.read_text())["folder"] == str(folder))

    def go_on(self) -> None:
        """Let the training go on."""
        self._gate.touch()

    def end(self) -> tuple[int, dict[str, Any]]:
        """Let it go on to its end: the exit code and the answer of the run; nothing is left beside it."""
        self.go_on()
        return self.ended()

    def ended(self) -> tuple[int, dict[str, Any]]:
        """Wait for the end of the run: its exit code and its answer."""
        code = self.process.wait(LONGEST_S)
        self.until(lambda: not [pid for pid in self.warm_pids if is_warm(pid)])
        answer: dict[str, Any] = json.loads((self._home / "answer.json").read_text())
        return code, answer

    @property
    def diary(self) -> list[str]:
        path = self._home / "diary"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def said(self) -> str:
        return "".join(self.lines)

    def close(self) -> None:
        """End what a failed test left running."""
        self.go_on()  # a training whose run was killed
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.wait(LONGEST_S)
        for listening in self._listening:
            listening.join(LONGEST_S)
        for process in self._processes:
            for stream in (process.stdout, process.stderr):
                if stream:
                    stream.close()

    def _children(self, module: str) -> list[int]:
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        found = [pid for path in threads for pid in _read(path).split()]
        return [int(pid) for pid in found if module in _read(Path("/proc", pid, "cmdline"))]


def is_warm(pid: int) -> bool:
    """Whether this is, or still is, a process that sends ahead."""
    return "agent.warm" in _read(Path("/proc", str(pid), "cmdline"))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
