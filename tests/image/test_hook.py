"""/post_start.sh below RunPod's /start.sh, with a stand-in for the agent that notes how it was called."""

from __future__ import annotations

import base64
import shutil

import pytest

from tests.image.container import SOMEBODY

SECRET = "hf_SecretOfTheTrainingScript0123456789"
SCRIPT = f"export HF_TOKEN={SECRET}\necho trained >>/workspace/done\n"
ENCODED = base64.b64encode(SCRIPT.encode()).decode()

# The agent as the hook calls it: what it was asked for, and the script; ends as the words of AGENT_ENDS say.
STAND_IN = """#!/bin/bash
echo "called: $1 $2 $3"
stat --format 'script: %a of %u in %n' "$4"
stat --format 'folder: %a' "${4%/*}"
echo "around: ${TRAINING_SCRIPT_B64:-nothing} in $PWD, umask $(umask)"
cp "$4" /asked
echo x >>/calls
ends=($AGENT_ENDS)
code=${ends[$(wc -l </calls) - 1]:-0}
[ "$code" -gt 128 ] && kill -$((code - 128)) $$
exit "$code"
"""
# Nobody waits here: a pause is told, and the sleep that keeps a pod alive ends it.
SLEEP = """#!/bin/sh
echo "sleeps: $1"
[ "$1" = 1 ] && exec /bin/sleep "${SECOND:-0.05}"
exit 0
"""


@pytest.fixture
def pod(container):
    """The container with the stand-ins; `pod(**variables)` is one life of it, and what was said."""
    container.write("/usr/local/bin/training-agent", STAND_IN)
    container.write("/usr/local/bin/sleep", SLEEP)

    def lived(user=0, **env):
        if user:
            (container.root / "etc/rp_environment").touch()
            (container.root / "etc/rp_environment").chmod(0o666)
        return container.run("/start.sh", env=env, user=user)

    return lived


def calls(said):
    return said.count("called: run -- bash")


def test_a_hook_that_fails_ends_the_container(container, pod):
    """Why ours never does: /start.sh runs under `set -e`."""
    container.write("/post_start.sh", "exit 7")
    code, said = pod()
    assert code == 7
    assert "sleeps" not in said


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"TRAINING_SCRIPT_B64": "no base64!"},
        {"TRAINING_SCRIPT_B64": ENCODED, "AGENT_ENDS": "2"},
        {"TRAINING_SCRIPT_B64": ENCODED, "AGENT_ENDS": "137 139 137 139 137 139 137"},
        {"TRAINING_SCRIPT_B64": ENCODED, "AGENT_ENDS": "143"},
    ],
)
def test_whatever_happens_the_pod_stays(pod, env):
    code, said = pod(**env)
    assert code == 0, said
    assert "sleeps: infinity" in said


def test_everything_gone_the_pod_stays(container, pod):
    """No agent, no place to write to: one sentence each, and the hook still ends with 0."""
    (container.root / "usr/local/bin/training-agent").unlink()
    assert pod(TRAINING_SCRIPT_B64=ENCODED)[0] == 0
    shutil.rmtree(container.root / "tmp")
    code, said = pod(TRAINING_SCRIPT_B64=ENCODED)
    assert code == 0
    assert "training-agent: nothing is trained: the script cannot be written to /tmp\n" in said


def test_a_script_in_a_variable_is_trained(container, pod):
    wrapped = "\r\n".join(ENCODED[at : at + 20] for at in range(0, len(ENCODED), 20)) + "\n"
    _, said = pod(TRAINING_SCRIPT_B64=wrapped)
    assert calls(said) == 1
    assert (container.root / "asked").read_text() == SCRIPT


@pytest.mark.parametrize("user", [0, SOMEBODY])
def test_a_script_in_a_variable_is_nobody_elses_business(container, pod, user):
    """It holds tokens: on the container's own disk, for its user, out of the log and the environment."""
    if user:
        (container.root / "calls").touch()
        (container.root / "asked").touch()
        for name in ("calls", "asked"):
            (container.root / name).chmod(0o666)
    _, said = pod(user=user, TRAINING_SCRIPT_B64=ENCODED, TMPDIR="/workspace")
    assert f"script: 700 of {user} in /tmp/training-agent." in said
    assert "folder: 700" in said
    assert "around: nothing in /workspace, umask 0022" in said
    assert list(container.volume.rglob("*")) == []
    assert SECRET not in said
    assert ENCODED not in said


@pytest.mark.parametrize("value", ["no base64!", "aGVsbG8", "====", " \n"])
def test_what_is_no_base64_is_said_once_and_nothing_else_is_trained(container, pod, value):
    (container.volume / "train.sh").write_text("echo other")
    _, said = pod(TRAINING_SCRIPT_B64=value)
    assert (
        said.count("training-agent: nothing is trained: TRAINING_SCRIPT_B64 is not the base64 of a script\n")
        == 1
    )
    assert "base64: " not in said
    assert calls(said) == 0
    if value.strip():
        assert value not in said


def test_a_script_on_the_volume_is_trained_where_there_is_no_variable(container, pod):
    (container.volume / "train.sh").write_text("echo mine")
    _, said = pod()
    assert calls(said) == 1
    assert (container.root / "asked").read_text() == "echo mine"
    assert "in /workspace/train.sh" in said


def test_without_a_script_the_pod_is_left_alone(pod):
    _, said = pod()
    sentence = "nothing is trained: neither TRAINING_SCRIPT_B64 nor /workspace/train.sh is there"
    assert said.count(f"training-agent: {sentence}\n") == 1
    assert calls(said) == 0


@pytest.mark.parametrize(("ends", "runs"), [("137 139 0", 3), ("134 17", 2), ("137 " * 9, 6)])
def test_an_agent_that_was_killed_goes_on(pod, ends, runs):
    _, said = pod(TRAINING_SCRIPT_B64=ENCODED, AGENT_ENDS=ends)
    assert calls(said) == runs
    assert said.count("sleeps: 10") == runs - 1
    assert "the agent was killed (" in said


@pytest.mark.parametrize("code", [0, 2, 10, 17, 75, 130, 143])
def test_an_agent_that_ended_by_itself_is_not_started_again(pod, code):
    _, said = pod(TRAINING_SCRIPT_B64=ENCODED, AGENT_ENDS=f"{code} 0")
    assert calls(said) == 1
    assert (f"training-agent: run ended with {code}\n" in said) == (code != 0)


def test_the_hook_of_the_base_comes_first_and_may_fail(pod):
    _, said = pod(TRAINING_SCRIPT_B64=ENCODED)
    assert "training-agent: the base image's own hook ended with 3\n" in said
    assert said.index("the hook of the base") < said.index("called: run")


def test_a_hook_of_the_base_that_never_ends_keeps_no_training_waiting(container, pod):
    container.write("/post_start.base.sh", "/bin/sleep infinity")
    _, said = pod(TRAINING_SCRIPT_B64=ENCODED, SECOND="0")
    assert said.count("sleeps: 1\n") == 60
    assert "the base image's own hook goes on beside the training" in said
    assert calls(said) == 1


def test_below_the_entrypoint_the_hook_trains_nothing(container, pod):
    (container.volume / "train.sh").write_text("echo mine")
    _, said = pod(TRAINING_AGENT_ENTRYPOINT="1", TRAINING_SCRIPT_B64=ENCODED)
    assert "the hook of the base" in said
    assert calls(said) == 0
    assert "nothing is trained" not in said
