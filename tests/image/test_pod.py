"""A pod of the image from its start to the completed row, on the embedded Hub and job database."""

from __future__ import annotations

import base64
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import FIXTURES, ROOT, TOKEN
from tests.image.container import SOMEBODY, Container, until

if TYPE_CHECKING:
    from agent.sandbox.hub import Hub
    from agent.sandbox.jobs_app import JobsApp, JobSecret

SECRET = "wandb_SecretOfTheTrainingScript0123456789"
TRAINING = f"""
export WANDB_API_KEY={SECRET}
python3 /trainer.py /workspace/diary env=HF_HUB_ENABLE_HF_TRANSFER env=PYTHONPATH save=/trained
"""
# What keeps a pod alive ends it here, so that nobody has to look when it got there.
SLEEP = """#!/bin/sh
[ "$1" = infinity ] && echo "the pod sleeps" && exec touch /tmp/sleeps
exec /bin/sleep "$@"
"""


@dataclass
class Pod:
    """One container, the services it talks to, and the job it has."""

    container: Container
    hub: Hub
    app: JobsApp
    job: JobSecret

    def template(self, **more: str) -> dict[str, str]:
        return {
            **self.app.environ(self.job),
            "HF_TOKEN": TOKEN,
            "HF_ENDPOINT": self.hub.endpoint,
            "HF_REPO_NAME": "ada/model",
            "OUTPUT_DIR": "/workspace/out",
            "RUNPOD_POD_ID": "pod1",
            "AGENT_ON_FINISH": "keep",
            **more,
        }

    def lives(self, *command: str, **options) -> tuple[int, str]:
        """Start the container with the template, and stay until it ends."""
        return self.container.end(self.starts(*command, **options))

    def starts(self, *command: str, env=None, user=0):
        mounts = {ROOT / "tests/trainer.py": "/trainer.py", FIXTURES / "sft_lora": "/trained"}
        env = self.template() if env is None else env
        return self.container.start(*command, env=env, user=user, cwd="/workspace", mounts=mounts)

    def row(self):
        return self.app.row(self.job.id)

    def commits(self):
        return [one for one in self.hub.repo("ada/model").commits() if "Finalize-Id: " in one.message]

    def diary(self):
        return (self.container.volume / "diary").read_text().splitlines()

    def completed(self) -> bool:
        row = self.row()
        return (row["status"], row["progress"], row["model_url"]) == (
            "completed",
            100,
            f"{self.hub.endpoint}/ada/model",
        )

    def volume_holds(self, secret: str) -> list[str]:
        files = (path for path in self.container.volume.rglob("*") if path.is_file())
        return [str(path) for path in files if secret.encode() in path.read_bytes()]


@pytest.fixture
def pod(container, hub, app):
    container.write("/usr/local/bin/sleep", SLEEP)
    return Pod(container, hub, app, app.add_job(status="pending"))


@pytest.fixture
def script():
    return base64.b64encode(TRAINING.encode()).decode()


def test_the_hook_trains_publishes_and_records_and_after_a_restart_does_nothing(pod, script):
    env = pod.template(TRAINING_SCRIPT_B64=script)
    code, said = pod.lives("/start.sh", env=env)
    assert (code, "the pod sleeps" in said) == (0, True), said
    assert pod.completed(), said
    assert len(pod.commits()) == 1
    diary, row = pod.diary(), pod.row()
    assert "plots could not be drawn" not in said

    again, heard = pod.lives("/start.sh", env=env)
    assert (again, "the pod sleeps" in heard) == (0, True), heard
    assert "this pod did all of it already" in heard
    assert pod.diary() == diary
    assert len(pod.commits()) == 1
    assert pod.row() == row

    for secret in (SECRET, TOKEN, pod.job.token, script):
        assert secret not in said + heard
        assert pod.volume_holds(secret) == []


def test_the_training_has_the_environment_that_the_image_and_the_template_give_it(pod, script):
    """What the agent clears or sets for itself is not taken from or given to the training."""
    env = pod.template(TRAINING_SCRIPT_B64=script, HF_HUB_OFFLINE="1")
    _, said = pod.lives("/start.sh", env=env)
    assert "HF_HUB_ENABLE_HF_TRANSFER=1" in pod.diary(), said
    assert "PYTHONPATH=/opt/modules:/opt/agent-launcher" in pod.diary()


def test_a_training_that_fails_is_told_and_the_pod_stays(pod):
    (pod.container.volume / "train.sh").write_text("python3 /trainer.py /workspace/diary exit=3")
    code, said = pod.lives("/start.sh")
    assert (code, "the pod sleeps" in said) == (0, True), said
    assert "training-agent: run ended with 17\n" in said
    assert (pod.row()["status"], pod.row()["failure_stage"]) == ("failed", "training")


@pytest.mark.parametrize("python", ["/usr/bin/python3", "/venv/bin/python"])
def test_finalize_from_a_python_that_holds_another_huggingface_hub(pod, python):
    code, said = pod.lives(
        "bash",
        "-c",
        f"{python} /trainer.py /workspace/diary save=/trained && {python} -m agent finalize --json",
    )
    assert code == 0, said
    assert pod.completed()
    kept = pod.lives(python, "-c", "import huggingface_hub; print(huggingface_hub.__version__)")
    assert kept == (0, "0.36.0\n")


def test_finalize_among_modules_that_shadow_what_it_needs(pod):
    """The template's PYTHONPATH holds a package called agent and libraries that are none."""
    for name in ("json", "numpy", "matplotlib", "agent/__init__"):
        file = pod.container.volume / "src" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("raise SystemExit('theirs was imported')")
    pod.lives("/usr/bin/python3", "/trainer.py", "/workspace/diary", "save=/trained")
    code, said = pod.lives("training-agent", "finalize", env=pod.template(PYTHONPATH="/workspace/src"))
    assert (code, pod.completed()) == (0, True), said
    assert "theirs was imported" not in said
    assert "plots could not be drawn" not in said


def test_a_shell_that_was_not_given_the_pods_variables_finds_them(pod):
    """As over SSH: what is set for the container is known to its main process only."""
    shell = "env -i PATH=$PATH HOME=/root python3 -m agent finalize"
    trains = "python3 /trainer.py /workspace/diary save=/trained"
    code, said = pod.lives("bash", "-c", f"{trains}; {shell}; exit $?")
    assert (code, pod.completed()) == (0, True), said


def test_somebody_without_rights_trains_and_publishes(pod, script):
    """A template's user who is not root: nothing of the image needs to be written."""
    os.chown(pod.container.volume, SOMEBODY, SOMEBODY)
    (pod.container.root / "etc/rp_environment").touch()
    os.chown(pod.container.root / "etc/rp_environment", SOMEBODY, SOMEBODY)
    code, said = pod.lives(
        "/start.sh", user=SOMEBODY, env=pod.template(TRAINING_SCRIPT_B64=script, HOME="/tmp")
    )
    assert (code, pod.completed()) == (0, True), said
    assert {path.stat().st_uid for path in pod.container.volume.rglob("*")} == {SOMEBODY}


def test_the_entrypoint_trains_beside_the_bases_services_and_hears_that_it_shall_stop(pod):
    """The agent itself is the main process: a shell in that place would not pass a SIGTERM on."""
    (pod.container.volume / "train.sh").write_text("echo 'trained by the hook' >>/workspace/diary")
    trainer = ("python3", "/trainer.py", "/workspace/diary", "gentle", "wait=/workspace/go")
    process = pod.starts("training-agent-entrypoint", *trainer)
    first = pod.container.main_process(process)
    for sign in (pod.container.volume / "diary", pod.container.root / "tmp/sleeps"):
        until(lambda sign=sign: sign.exists() or process.poll() is not None)
    command = Path(f"/proc/{first}/cmdline").read_bytes().split(b"\0")
    assert command[:4] == [b"/opt/agent/bin/python", b"-I", b"-m", b"agent"]
    os.kill(first, signal.SIGTERM)
    code, said = pod.container.end(process)
    assert code == 143, said
    assert "gentle" in pod.diary()
    assert "trained by the hook" not in pod.diary()
    assert "Pod is ready to use." in said
    assert "the hook of the base" in said
    assert pod.row()["status"] == "running"


def test_the_entrypoint_completes_the_job_and_then_keeps_the_container(pod):
    process = pod.starts(
        "training-agent-entrypoint", "python3", "/trainer.py", "/workspace/diary", "save=/trained"
    )
    until(lambda: pod.completed() or process.poll() is not None)
    first = pod.container.main_process(process)
    os.kill(first, signal.SIGTERM)
    code, said = pod.container.end(process)
    assert pod.completed(), said
    assert code in {0, 143}, said


def test_an_entrypoint_without_a_command_says_how_it_is_used(pod):
    assert pod.lives("training-agent-entrypoint")[0] == 2
