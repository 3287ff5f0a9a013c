"""The action installs the agent on a machine that has none, from the wheels that the image is made of."""

from __future__ import annotations

import faulthandler
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.workflows import ROOT, Machine, load

INSTALL, RUN = load(ROOT / "action.yml")["runs"]["steps"]


def pins(lock):
    """Names and versions of a lock, spelled as nobody does twice."""
    lines = (ROOT / "requirements" / f"{lock}.lock").read_text().splitlines()
    return {_spelled(line.split()[0]) for line in lines if "==" in line and not line.startswith(" ")}


def installed(home):
    """What the agent's environment holds, in the same spelling; ours has no pin."""
    pip = [home / "build" / "bin" / "pip", "--python", home / "agent" / "bin" / "python"]
    subprocess.run([*pip, "check"], check=True)
    frozen = subprocess.run([*pip, "freeze"], capture_output=True, text=True, check=True).stdout
    return {_spelled(line.partition(" @ ")[0]) for line in frozen.splitlines()}


def _spelled(name):
    return name.lower().replace("_", "-").replace(".", "-")


@pytest.fixture
def machine(store, tmp_path):
    """A machine with Python, and a package index that holds just the wheels."""
    faulthandler.cancel_dump_traceback_later()  # at first the wheels are fetched
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(Path(sys.base_prefix) / "bin" / "python3")
    environ = {
        "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(store._wheels),
    }
    return Machine(tmp_path / "machine", environ, {}, {})


def test_the_agent_is_installed_once_and_nothing_else_is_on_the_path(machine, tmp_path):
    again = {"run": "command -v training-agent >>seen; command -v python3 >>seen; ! command -v hf"}
    steps = [INSTALL, {"run": "training-agent --version"}, INSTALL, again]
    job = machine.run({"jobs": {"only": {"steps": steps}}})
    assert job.conclusion == "success", job.log
    assert job.steps[1].log.startswith("training-agent, version ")
    [home] = machine.temp.glob("training-agent-*")
    seen = (machine.workspace / "seen").read_text().splitlines()
    assert seen == [str(home / "bin" / "training-agent"), str(tmp_path / "bin" / "python3")]
    assert [path.name for path in (home / "bin").iterdir()] == ["training-agent"]
    assert installed(home) <= pins("image") | {"training-completion-agent"}


def test_a_wheel_that_is_not_the_locked_one_is_not_installed(machine, tmp_path, store):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for wheel in store._wheels.iterdir():
        (wheels / wheel.name).symlink_to(wheel)
    [changed] = wheels.glob("click-*.whl")
    content = changed.read_bytes()
    changed.unlink()
    changed.write_bytes(content + b"\0")
    machine.environ["PIP_FIND_LINKS"] = str(wheels)
    job = machine.run({"jobs": {"only": {"steps": [INSTALL]}}})
    assert job.conclusion == "failure"
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in job.log
    assert not list(machine.temp.glob("training-agent-*/bin"))
