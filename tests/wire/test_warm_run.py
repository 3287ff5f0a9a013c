"""The warm upload as a pod has it: a process beside a training under the real `run`, and how that ends."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.sandbox.loopback import Fault
from tests.conftest import ROOT, TOKEN
from tests.warmed import (
    WEIGHTS,
    UnderRun,
    content_bytes,
    has,
    is_warm,
    publications,
    save_checkpoint,
    save_model,
    weights,
)

MB = 1_000_000
SIZE = 3 * MB
XORB = "POST /v1/xorbs"
COMPLETED = (0, "completed", True)

KEYS = {
    "SUPABASE_SERVICE_ROLE_KEY": "planted-service-key-12345", "RUNPOD_API_KEY": "planted-key-of-the-pod-12",
    "RUNPOD_TERMINATE_API_KEY": "planted-own-key-of-the-pod", "GITHUB_TOKEN": "planted-github-token-123",
    "INTERNAL_API_KEY": "planted-internal-key-123", "WANDB_API_KEY": "planted-wandb-key-1234",
}  # fmt: skip


@pytest.fixture
def beside(pod, tmp_path):
    one = UnderRun(pod, tmp_path)
    yield one
    one.close()


@pytest.fixture
def of_job(pod, app, tmp_path):
    """The same with a job row, and with keys of every kind."""
    job = app.add_job(status="pending")
    one = UnderRun(pod, tmp_path, job=job.id, **app.environ(job), **KEYS)
    one.token = job.token
    yield one
    one.close()


def completed(beside, hub, content):
    """Let the training end; everything is as without anything beside it. The bytes that travelled then."""
    first = len(hub.requests)
    code, answer = beside.end()
    assert (code, answer["result"], answer["published"]) == COMPLETED, beside.said
    assert hub.read("ada/model", WEIGHTS) == content
    assert len(publications(hub)) == 1
    return content_bytes(hub.requests[first:])


def test_a_stable_model_is_sent_while_it_trains_and_only_committed_afterwards(of_job, hub, app):
    """With all constants as they are."""
    of_job.start(hurried=False)
    pid = of_job.until_warm()
    content = weights(SIZE, 1)
    save_model(of_job.out, content)
    of_job.until_sent(of_job.out)
    assert has(hub, content)
    assert not publications(hub)
    assert hub.repo("ada/model").private
    assert os.getpriority(os.PRIO_PROCESS, pid) == 19
    assert reads_as(pid) == reads_when_idle()
    environ, command = Path(f"/proc/{pid}/environ").read_text(), Path(f"/proc/{pid}/cmdline").read_text()
    withheld = [of_job.token, *(key for name, key in KEYS.items() if name != "WANDB_API_KEY")]
    assert not [secret for secret in withheld if secret in environ]
    assert TOKEN in environ
    assert completed(of_job, hub, content) == 0
    assert app.row(of_job.job)["status"] == "completed"
    told = [
        one["event"]
        for one in app.sql("select * from model_upload_events where source = 'agent' order by id")
    ]
    assert [told.count(event) for event in ("repo_created", "content_uploaded", "committed")] == [1, 1, 1]
    kept = [path.read_text() for path in of_job.pod.state_dir.rglob("*.json*")]
    assert len(kept) > 4
    everything = "\n".join([command, of_job.said, *kept])
    assert "sent ahead of the end" in everything
    assert not [secret for secret in (*withheld, *KEYS.values(), TOKEN) if secret in everything]


def reads_as(pid):
    """The class in which a process reads from disks; None where nobody can tell."""
    if not shutil.which("ionice"):
        return None
    return subprocess.run(["ionice", "-p", str(pid)], capture_output=True, text=True, check=False).stdout


def reads_when_idle():
    """The same of a process that asked for the idle class here; not every container grants it."""
    if not shutil.which("ionice"):
        return None
    command = ["ionice", "-c", "3", "-t", "ionice"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def test_a_final_model_that_is_saved_at_the_very_end_is_not_sent_again(beside, hub, tmp_path):
    content = weights(SIZE, 1)
    beside.start(f"save={save_model(tmp_path / 'final', content)}")
    beside.until_sent(save_checkpoint(beside.out, 100, content))
    assert completed(beside, hub, content) == 0


def test_a_final_model_that_differs_in_one_place_sends_that_place(beside, hub, tmp_path):
    """Another process, which knows what storage has from the cache on the volume."""
    content = weights(8 * MB, 1)
    final = content[: 2 * MB] + b"one place" + content[2 * MB + 9 :]
    beside.start(f"save={save_model(tmp_path / 'final', final)}")
    beside.until_sent(save_checkpoint(beside.out, 100, content))
    assert 0 < completed(beside, hub, final) < 0.5 * MB


def test_checkpoints_are_sent_one_after_the_other_and_none_that_will_be_replaced(beside, hub):
    beside.start()
    save_checkpoint(beside.out, 50, weights(SIZE, 50), max_steps=100, save_steps=50)
    last = save_checkpoint(beside.out, 100, weights(SIZE, 100), save_steps=50)
    beside.until_sent(last)
    assert not has(hub, weights(SIZE, 50))
    assert completed(beside, hub, weights(SIZE, 100)) == 0


def test_what_a_failed_training_left_was_sent_before_it_failed(beside, hub):
    beside.start("exit=1", AGENT_PUBLISH_ON_FAILURE="checkpoint")
    beside.until_sent(save_checkpoint(beside.out, 50, weights(SIZE, 50), max_steps=100, save_steps=10))
    first = len(hub.requests)
    code, answer = beside.end()
    assert (code, answer["published"], len(publications(hub))) == (17, True, 1)
    assert content_bytes(hub.requests[first:]) == 0
    assert hub.read("ada/model", WEIGHTS) == weights(SIZE, 50)


def test_switched_off_not_one_request_is_made_before_the_training_ends(beside, hub):
    beside.start(AGENT_WARM="off")
    save_model(beside.out, weights(SIZE, 1))
    assert not beside._children("agent.warm")
    assert not hub.requests
    assert completed(beside, hub, weights(SIZE, 1)) >= SIZE


def test_the_bandwidth_that_was_asked_for_is_not_exceeded(beside, hub):
    """6 MB at 4 MB a second; the first block does not wait."""
    beside.start(AGENT_WARM_MBPS="4")
    save_model(beside.out, weights(6 * MB, 1))
    begun = time.monotonic()
    beside.until_sent(beside.out)
    assert time.monotonic() - begun >= (6 * MB - 2**20) / (4 * MB)
    assert completed(beside, hub, weights(6 * MB, 1)) == 0


def test_a_file_with_a_secret_that_only_the_run_knows_is_not_sent(of_job, hub):
    """The token of the job is kept from the environment of the process, and not from its search."""
    of_job.start()
    last = save_checkpoint(of_job.out.with_name("saved"), 100, weights(SIZE, 1))
    (last / "notes.md").write_text(f"curl -H 'x-job-token: {of_job.token}'")
    last.rename(of_job.out / last.name)
    of_job.until(lambda: "holds a credential" in of_job.said)
    assert not hub.repos
    code, _ = of_job.end()
    assert (code, hub.repos, of_job.token in of_job.said) == (11, {}, False)


# Whatever happens to it, the training and what comes after are as without it.


def answer_with_errors(beside, hub):
    down = hub.faults.add(Fault("status", match="/v1/|/api/", status=503))
    yield lambda: down.fired > 3
    hub.faults.clear()


def hang_storage(beside, hub):
    """The request under way is left hanging when the training ends."""
    silent = hub.faults.add(Fault("hang", match=XORB))
    yield lambda: silent.fired
    hub.faults.clear()


def close_storage(beside, hub):
    hub.cas_reachable = False
    yield lambda: "not sent ahead" in beside.said
    hub.cas_reachable = True


def kill_it(beside, hub):
    """As the kernel does when memory runs out."""
    silent = hub.faults.add(Fault("hang", match=XORB))
    yield lambda: silent.fired
    os.kill(beside.until_warm(), signal.SIGKILL)
    hub.faults.clear()


def suspend_it(beside, hub):
    """As a volume that does not answer."""
    yield beside.until_warm
    os.kill(beside.until_warm(), signal.SIGSTOP)


@pytest.mark.parametrize("trouble", [answer_with_errors, hang_storage, close_storage, kill_it, suspend_it])
def test_in_whatever_trouble_it_is_the_training_and_finalize_end_as_without_it(trouble, beside, hub):
    beside.start(AGENT_STALL_S="30")
    troubles = trouble(beside, hub)
    in_trouble = next(troubles)
    save_model(beside.out, weights(SIZE, 1))
    beside.until(in_trouble)
    next(troubles, None)
    completed(beside, hub, weights(SIZE, 1))
    assert beside.diary == ["start", "end"]


def test_a_repo_of_the_wrong_visibility_is_refused_by_finalize_as_without_it(beside, hub):
    hub.create_repo("ada/model", private=False)
    beside.start(HF_REPO_PRIVATE="true")
    save_model(beside.out, weights(SIZE, 1))
    beside.until(lambda: "not sent ahead" in beside.said)
    code, answer = beside.end()
    assert (code, answer["error"]["code"]) == (13, "hub-refused")
    assert content_bytes(hub.requests) == 0


def test_after_storage_comes_back_it_is_sent_all_the_same(beside, hub):
    beside.start()
    hub.cas_reachable = False
    save_model(beside.out, weights(SIZE, 1))
    beside.until(lambda: "again_in_s" in beside.said)
    hub.cas_reachable = True
    beside.until_sent(beside.out)
    assert completed(beside, hub, weights(SIZE, 1)) == 0


def test_a_training_that_calls_finalize_itself_has_the_network_for_itself(beside, hub, tmp_path):
    """At two megabytes a second it would be at it for long; the commit takes longer than a block."""
    trainer = [
        sys.executable,
        ROOT / "tests" / "trainer.py",
        tmp_path / "diary",
        f"wait={tmp_path / 'go on'}",
    ]
    train = shlex.join(map(str, trainer))
    script = tmp_path / "train.sh"
    finalize = f"cd {ROOT} && {sys.executable} -m agent finalize --json"
    script.write_text(f"{train} && {finalize} && touch {tmp_path}/done\n")
    slow = hub.faults.add(Fault("slow", match="/commit/", delay_s=2.5))
    beside.start(command=["bash", str(script)], AGENT_WARM_MBPS="2")
    content = weights(20 * MB, 1)
    save_model(beside.out, content)
    beside.until(lambda: any("preupload" in one.path for one in hub.requests))
    assert completed(beside, hub, content) >= 20 * MB
    assert slow.fired == 1
    assert (tmp_path / "done").exists()
    assert "a finalize of this job is at work" in beside.said


def test_a_newer_checkpoint_takes_the_place_of_one_that_is_being_sent(beside, hub):
    beside.start(AGENT_WARM_MBPS="2", AGENT_PUBLISH_ON_FAILURE="checkpoint")
    save_checkpoint(beside.out, 50, weights(20 * MB, 50), max_steps=100)
    beside.until(lambda: any("preupload" in one.path for one in hub.requests))
    last = save_checkpoint(beside.out, 100, weights(SIZE, 100))
    beside.until_sent(last)
    assert not has(hub, weights(20 * MB, 50))
    assert "saved something newer" in beside.said
    assert completed(beside, hub, weights(SIZE, 100)) == 0


# Afterwards it is gone.


def sending(beside, hub):
    """Wait until it is in the middle of something."""
    silent = hub.faults.add(Fault("hang", match=XORB))
    pid = beside.until_warm()
    save_model(beside.out, weights(SIZE, 1))
    beside.until(lambda: silent.fired)
    return pid


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_it_is_gone_when_the_run_is_told_to_end_or_killed(signum, beside, hub):
    beside.start("say=never said", "exit=0")
    pid = sending(beside, hub)
    beside.process.send_signal(signum)
    code = beside.process.wait(120)
    assert code == {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGKILL: -9}[signum]
    beside.until(lambda: not is_warm(pid))
    assert not publications(hub)


def test_it_is_gone_when_the_training_fails(beside, hub):
    beside.start("exit=3")
    pid = sending(beside, hub)
    code, answer = beside.end()
    assert (code, answer["child_exit"], is_warm(pid)) == (17, 3, False)


def test_it_is_gone_when_the_job_is_cancelled(of_job, hub, app):
    of_job.start()
    pid = sending(of_job, hub)
    assert app.cancel(of_job.job)
    code, answer = of_job.ended()
    assert (code, answer["result"], is_warm(pid)) == (15, "cancelled", False)
    assert not publications(hub)


def test_a_signal_for_the_training_is_none_for_it(beside, hub):
    """A Ctrl-C in a terminal goes to every process of the group."""
    beside.start()
    pid = beside.until_warm()
    assert os.getpgid(pid) == pid
    assert len({os.getpgid(pid), os.getpgid(beside.process.pid), os.getpgid(0)}) >= 2
    beside.end()
