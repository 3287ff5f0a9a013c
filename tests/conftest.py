"""What all tests share: real training outputs, and a pod that publishes them to an embedded Hub."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from agent.outcome import Outcome
    from agent.sandbox.hub import Hub
    from agent.sandbox.jobs_app import JobsApp
    from agent.sandbox.postgres import Cluster

ROOT = Path(__file__).parent.parent
FIXTURES = ROOT / "tests" / "fixtures" / "trl"
TOKEN = "hf_PlantedTokenOfAda0123456789"

# hf_xet reads these once, when it is loaded; the waits of its own retries are not what we test.
os.environ.update(
    HF_XET_CLIENT_RETRY_BASE_DELAY="10ms",
    HF_XET_CLIENT_RETRY_MAX_ATTEMPTS="2",
    HF_XET_CACHE=tempfile.mkdtemp(prefix="xet-cache-"),
    HF_XET_TELEMETRY_ENABLED="false",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    HF_HUB_DISABLE_TELEMETRY="1",
)


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@dataclass
class Pod:
    """A pod that holds a token of the embedded Hub; each has its own state folder.

    `draws` says whether its command line finds matplotlib; plots take two seconds a publication.
    """

    hub: Hub
    state_dir: Path
    clock: Clock = field(default_factory=Clock)
    draws: bool = False

    def environ(self, folder: Path, **more: str) -> dict[str, str]:
        return {
            "HF_TOKEN": TOKEN,
            "HF_ENDPOINT": self.hub.endpoint,
            "HF_REPO_NAME": "ada/model",
            "OUTPUT_DIR": str(folder),
            "AGENT_STATE_DIR": str(self.state_dir),
            **more,
        }

    def finalize(self, folder: Path, outcome: Outcome | None = None, **more: str) -> Outcome:
        """Run finalize in this process, over real HTTP, without waiting between retries."""
        from agent.config import load
        from agent.finalize import finalize
        from agent.outcome import Outcome
        from agent.retry import Patience

        config = load({name: value for name, value in self.environ(folder, **more).items() if value})
        outcome = outcome or Outcome()
        patience = Patience(
            config.stall_s, config.deadline_s, clock=self.clock, sleep=self.clock.sleep, jitter=lambda: 0.0
        )
        finalize(config, outcome, patience)
        return outcome

    def command(
        self, folder: Path, *args: str, preexec_fn: Callable[[], None] | None = None, **more: str
    ) -> subprocess.Popen[str]:
        """Start the command line as a pod's entrypoint would."""
        modules = str(ROOT) if self.draws else f"{ROOT / 'tests' / 'without_matplotlib'}:{ROOT}"
        environ = {"PATH": os.environ["PATH"], "HOME": str(self.state_dir), "PYTHONPATH": modules}
        environ |= {name: os.environ[name] for name in os.environ if name.startswith("HF_XET_CLIENT_RETRY")}
        return subprocess.Popen(
            [sys.executable, "-m", "agent", *(args or ("finalize", "--json"))],
            env=environ | self.environ(folder, **more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=preexec_fn,  # noqa: PLW1509 - it only sets a limit
        )

    def row(self, job_id: str | None) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.state_dir / str(job_id) / "row.json").read_text())
        return found


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test talks to anything but this machine."""
    connect = socket.socket.connect

    def checked(self: socket.socket, address: Any) -> None:
        if self.family in {socket.AF_INET, socket.AF_INET6}:
            assert address[0] in {"127.0.0.1", "::1", "localhost"}, f"a test connects to {address}"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", checked)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """An embedded Hub with a writer, a reader and an organisation."""
    from agent.sandbox.hub import Hub

    cache = os.environ["HF_XET_CACHE"]
    shutil.rmtree(cache, ignore_errors=True)  # it is keyed by endpoint, ports come again
    with Hub(root=tmp_path / "hub") as running:
        running.add_user("ada", token=TOKEN, role="write", orgs={"lab": "write"})
        running.add_user("ada", token="hf_ReadOnlyTokenOfAda01234", role="read")
        yield running
    os.environ["HF_XET_CACHE"] = cache
    from huggingface_hub import close_session

    close_session()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real PostgreSQL; each test gets databases of its own."""
    from agent.sandbox.postgres import Cluster

    with Cluster() as running:
        yield running


def _app(cluster: Cluster, request: pytest.FixtureRequest, *, hardened: bool) -> Iterator[JobsApp]:
    from agent.sandbox.jobs_app import JobsApp

    with JobsApp(cluster, hardened=hardened) as app:
        if hardened and "hub" in request.fixturenames:
            app.allow_hub(request.getfixturevalue("hub").endpoint)
        yield app


@pytest.fixture
def app(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[JobsApp]:
    """A platform whose job rows open with their own token only."""
    yield from _app(cluster, request, hardened=True)


@pytest.fixture
def legacy_app(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[JobsApp]:
    """A platform with the job table as it was before the migrations."""
    yield from _app(cluster, request, hardened=False)


@pytest.fixture
def pod(hub: Hub, tmp_path: Path) -> Pod:
    return Pod(hub, tmp_path / "state")


def retrain(folder: Path, die: random.Random, *, keep_times: bool = False) -> None:
    """Give every weight of the folder another small value; names, shapes and headers stay."""
    for path in sorted(folder.glob("*.safetensors")):
        content, before = path.read_bytes(), path.stat()
        head = 8 + struct.unpack("<Q", content[:8])[0]
        weights = bytearray(die.randbytes(len(content) - head))
        weights[1::2] = b"\x3c" * (len(weights) // 2)  # exponents of small, finite numbers
        path.write_bytes(content[:head] + weights)
        if keep_times:
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def trained(tmp_path: Path) -> Any:
    """Copies of real training outputs: `trained("sft_full")` is a folder that a test may change."""

    def copy(name: str, to: str | None = None) -> Path:
        folder = tmp_path / "outputs" / (to or name)
        shutil.copytree(FIXTURES / name, folder)
        return folder

    return copy
