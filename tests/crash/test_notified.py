"""kill -9 while people are told: at every request, and between what was sent and the note that it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from agent.sandbox.loopback import Fault
from tests.conftest import ROOT
from tests.crash.conftest import ended
from tests.notified import GITHUB_TOKEN, JOB, REPO, Job

pytest_plugins = ("tests.receiving",)
# One of apprise's plugins still needs it.
pytestmark = pytest.mark.filterwarnings("ignore:.imghdr. is deprecated:DeprecationWarning")
# As the command does it once the job is over; what came before has crash tests of its own.
TELL = textwrap.dedent("""
    import sys
    from agent import config, log, notify
    from agent.outcome import Outcome
    log.configure(style="json", level="info")
    if sys.argv[1] == "well":
        outcome = Outcome("completed", published=True, model_url="https://huggingface.co/ada/model", files=1)
        notify.tell(config.load(), outcome, 0)
    else:
        error = {"code": "hub-auth", "message": "HF_TOKEN is read-only.", "hint": "Set another one."}
        notify.tell(config.load(), Outcome(error=error), 12)
""")
WELL, FAILED = "well", "failed"
HOOKS, GITHUB = "hooks", "github"
MOMENTS = {
    FAILED: [(HOOKS, 0), (GITHUB, 0), (GITHUB, 1)],
    WELL: [(HOOKS, 0), (GITHUB, 0), (GITHUB, 1), (GITHUB, 2), (GITHUB, 3)],
}


class Scene:
    """A job, its receivers, and processes that tell of it and may die over it."""

    def __init__(self, home, github, hooks, mailbox):
        self.servers = {HOOKS: hooks, GITHUB: github}
        self.hooks, self.mailbox, self.repo = hooks, mailbox, github.repositories[REPO]
        self.environ = {
            "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "AGENT_STATE_DIR": str(home / "state"),
            "AGENT_NOTIFY_URLS": f"{hooks.mattermost},{mailbox.address}", "JOB_ID": JOB,
            "GITHUB_TOKEN": GITHUB_TOKEN, "GITHUB_REPOSITORY": REPO, "GITHUB_API_URL": github.endpoint,
        }  # fmt: skip

    def start(self, how):
        command = [sys.executable, "-c", TELL, how]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=self.environ, stdout=pipe, stderr=pipe, text=True)

    def run(self, how):
        """Tell it in this process, undisturbed: another run knows no more than the volume does."""
        job = Job(Path(self.environ["AGENT_STATE_DIR"]), **self.environ)
        job.succeed() if how == WELL else job.fail()

    def kill_at(self, how, server, index, *, after):
        fault = self.servers[server].faults.add(Fault("kill", nth=index, after=after))
        process = self.start(how)
        fault.pid = process.pid
        code, _, err = ended(process)
        self.servers[server].faults.clear()
        assert (fault.fired, code) == (1, -signal.SIGKILL), err

    def kill_at_mail(self, how):
        """The mail is in the box, and its sender dies before it hears so."""
        process = None

        def kill():
            process.kill()
            process.wait()

        self.mailbox.on_mail = kill
        process = self.start(how)
        code, _, err = ended(process)
        self.mailbox.on_mail = lambda: None
        assert code == -signal.SIGKILL, err

    def told(self, title):
        """How often chat and mailbox heard it."""
        chats = [document for _, document in self.hooks.messages if document["text"].startswith(title)]
        mails = [mail for mail in self.mailbox.mails if mail["Subject"].startswith(title)]
        return len(chats), len(mails)


@pytest.fixture
def scene(tmp_path, github, hooks, mailbox, _apprise_as_before):
    return Scene(tmp_path, github, hooks, mailbox)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("server", "index"), MOMENTS[FAILED])
def test_a_failure_is_told_in_spite_of_a_kill(server, index, after, scene):
    scene.kill_at(FAILED, server, index, after=after)
    scene.run(FAILED)
    chats, mails = scene.told("Not published")
    assert chats == (2 if (server, after) == (HOOKS, True) else 1)
    assert mails == 1
    [issue] = scene.repo.issues
    assert issue["state"] == "open"
    # Who died after it was opened and failed again has a second failure to tell.
    assert len(scene.repo.comments[1]) == ((server, index, after) == (GITHUB, 1, True))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("server", "index"), MOMENTS[WELL])
def test_a_success_is_told_in_spite_of_a_kill(server, index, after, scene):
    scene.run(FAILED)
    scene.servers[GITHUB].requests.clear()
    scene.kill_at(WELL, server, index, after=after)
    scene.run(WELL)
    scene.run(WELL)
    chats, mails = scene.told("Published")
    assert chats == (2 if (server, after) == (HOOKS, True) else 1)
    assert mails == 1
    [issue] = scene.repo.issues
    [comment] = scene.repo.comments[1]
    assert issue["state"] == "closed"
    assert "Published" in comment["body"]


def test_a_mail_that_arrived_before_the_kill_comes_a_second_time_and_never_a_third(scene):
    for _ in range(2):
        scene.kill_at_mail(WELL)
    scene.run(WELL)
    assert scene.told("Published") == (1, 2)


def test_kills_at_the_same_place_end_after_two_messages(scene):
    for _ in range(2):
        scene.kill_at(WELL, HOOKS, 0, after=True)
    for _ in range(2):
        scene.run(WELL)
    assert scene.told("Published") == (2, 1)


def test_the_command_that_dies_over_a_message_is_run_again(scene, pod, trained, hooks):
    """The whole finalize: it is published once, and told by the rerun."""
    folder, environ = (
        trained("sft_lora"),
        {k: v for k, v in scene.environ.items() if k.startswith(("A", "G", "J"))},
    )
    environ.pop("AGENT_STATE_DIR")
    fault = hooks.faults.add(Fault("kill", nth=0))
    process = pod.command(folder, **environ)
    fault.pid = process.pid
    code, out, _ = ended(process)
    assert (fault.fired, code) == (1, -signal.SIGKILL)
    assert '"result": "completed"' in out  # the answer is given before anybody is told
    hooks.faults.clear()
    code, _, err = ended(pod.command(folder, **environ))
    assert code == 0, err
    assert scene.told("Published") == (1, 1)
    assert len(pod.hub.repo("ada/model").commits()) == 2
