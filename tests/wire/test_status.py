"""`status` beside a real finalize: what it does, how far it is, how it ended, and what to run next."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading

import pytest

from agent.config import load
from agent.sandbox.hub import Hub
from agent.sandbox.loopback import Fault
from agent.sandbox.sample import make_output_folder
from agent.status import Status, look
from tests.conftest import ROOT, TOKEN, Pod
from tests.crash.conftest import ended, until

JOB, OTHER = "3f2b8c1e-5d4a-4b6f-9a7c-0d1e2f3a4b5c", "7d9f5f5c-1111-4a3b-9c5e-0123456789ab"
SLOW_BYTES_S = 4_000_000.0  # the sample's 12.6 MB take three seconds
TRAINER = ROOT / "tests" / "trainer.py"


@pytest.fixture
def folder(tmp_path):
    make_output_folder(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def slow_pod(tmp_path):
    """A pod whose Hub takes a few megabytes a second."""
    with Hub(root=tmp_path / "slow-hub", rate_bytes_s=SLOW_BYTES_S) as hub:
        hub.add_user("ada", token=TOKEN, role="write")
        yield Pod(hub, tmp_path / "state")


@contextlib.contextmanager
def at_the_commit(pod, hub, folder):
    """A finalize whose commit the Hub does not answer; killed in the end, if the test has not done that."""
    commit = hub.faults.add(Fault("hang", match="/commit/"))
    work = pod.command(folder, JOB_ID=JOB)
    try:
        until(lambda: commit.fired and step_of(pod, folder, JOB_ID=JOB) == "commit")
        yield work
    finally:
        work.kill()
        work.communicate()
        hub.faults.clear()


def told(pod, folder, *args, **environ):
    code, out, err = ended(pod.command(folder, "status", *args, **environ))
    assert code == 0, err
    return out


def standing(pod, folder, **environ):
    """What `status` knows in this process: quick enough to look again and again."""
    answer = Status()
    look(load(pod.environ(folder, **environ)), answer)
    return answer.jobs


def step_of(pod, folder, **environ):
    jobs = standing(pod, folder, **environ)
    return jobs[0].now["step"] if jobs and jobs[0].now else None


def test_bytes_grow_while_a_finalize_uploads_and_the_watcher_returns_with_its_end(slow_pod, folder):
    work = slow_pod.command(folder, JOB_ID=JOB)
    watcher = slow_pod.command(folder, "status", "--watch", JOB_ID=JOB)
    seen = []

    def moves():
        jobs = standing(slow_pod, folder, JOB_ID=JOB)
        now = jobs[0].now if jobs else None
        if now and now["done_bytes"] and now["done_bytes"] not in seen:
            seen.append(now["done_bytes"])
            assert (now["step"], now["what"], now["pid"]) == ("content", "uploading", work.pid)
            assert now["total_bytes"] > 12_500_000
            assert jobs[0].next is None
        return len(seen) > 1

    until(moves)
    assert seen == sorted(seen)
    code, out, err = ended(work)
    assert code == 0, err
    url, commit = json.loads(out)["model_url"], json.loads(out)["commit"]
    code, shown, err = ended(watcher)
    assert code == 0, err
    lines = shown.splitlines()
    uploading = [line for line in lines if line.startswith("content, since ")]
    assert len(uploading) > 1
    assert all(re.search(r" of 12\.6 MB, .*process \d+$", line) for line in uploading)
    assert any(line[21:].startswith("verified") for line in lines)
    assert lines[-1] == "  ended     completed"
    assert f"  commit    ada/model at {commit}" in lines
    assert f"  row       completed, 100.0 %, {url}" in lines


def test_a_watcher_that_was_there_first_waits_for_the_beginning(pod, hub, trained, tmp_path):
    folder = trained("sft_lora")
    watcher = pod.command(folder, "status", "--watch", JOB_ID=JOB)
    first = watcher.stdout.readline()
    assert first == (
        f"Nothing is known of job {JOB} in {pod.state_dir}. "
        "Waiting for a finalize to begin; Ctrl-C ends the wait.\n"
    )
    assert not pod.state_dir.joinpath(JOB).exists()
    assert ended(pod.command(folder, JOB_ID=JOB))[0] == 0
    code, shown, err = ended(watcher)
    assert code == 0, err
    assert shown.splitlines()[-1] == "  ended     completed"


def test_a_watcher_that_comes_after_the_end_shows_it(pod, hub, trained):
    folder = trained("sft_lora")
    assert ended(pod.command(folder, JOB_ID=JOB))[0] == 0
    shown = told(pod, folder, "--watch", JOB_ID=JOB)
    assert "  at work   nobody\n" in shown
    assert shown.endswith("  ended     completed\n")


def test_a_rerun_that_had_nothing_to_do_is_known_to_have_ended_well(pod, hub, trained):
    folder = trained("sft_lora")
    for _ in range(2):
        assert ended(pod.command(folder, JOB_ID=JOB))[0] == 0
    [job] = json.loads(told(pod, folder, "--json", JOB_ID=JOB))["jobs"]
    assert [step["event"] for step in job["steps"]] == ["started"]
    assert (job["result"], job["last_error"], job["next"]) == ("completed", None, None)
    assert len(job["commits"]) == 1


def test_after_kill_9_nobody_is_at_work_and_the_next_command_finishes_it(pod, hub, trained):
    folder = trained("sft_lora")
    with at_the_commit(pod, hub, folder) as work:
        [job] = standing(pod, folder, JOB_ID=JOB)
        assert job.now["pid"] == work.pid
    [job] = json.loads(told(pod, folder, "--json"))["jobs"]
    assert (job["at_work"], job["now"]) == (False, None)
    assert job["last_error"]["code"] == "vanished"
    assert job["last_error"]["message"] == f"process {work.pid} ended without a word in step commit"
    assert job["next"] == f"training-agent finalize --job-id {JOB}"
    code, _, err = ended(pod.command(folder, *job["next"].split()[1:]))
    assert code == 0, err
    [job] = standing(pod, folder)
    assert (job.result, job.next, len(job.commits)) == ("completed", None, 1)


def test_two_jobs_on_one_volume_are_told_each_as_it_is(pod, hub, trained):
    done, failed = trained("sft_lora"), trained("sft_lora", "broken")
    (failed / "adapter_model.safetensors").write_bytes(b"")
    assert ended(pod.command(done, JOB_ID=JOB))[0] == 0
    assert ended(pod.command(failed, JOB_ID=OTHER))[0] == 11
    first, second = json.loads(told(pod, done, "--json"))["jobs"]
    assert (first["job"], first["result"], first["next"]) == (JOB, "completed", None)
    assert (second["job"], second["result"]) == (OTHER, "failed")
    assert second["last_error"]["code"] == "artifact"
    assert second["last_error"]["hint"]
    assert second["next"] == f"training-agent finalize --job-id {OTHER} --output-dir {failed}"
    [only] = json.loads(told(pod, done, "--json", JOB_ID=OTHER))["jobs"]
    assert only["job"] == OTHER


def test_what_a_database_was_not_told_is_known_here(app, pod, hub, trained):
    job, folder = app.add_job(), trained("sft_lora")
    fault = app.rest.faults.add(Fault("status", status=503, match="PATCH", times=None))
    environ = app.environ(job) | {"AGENT_STALL_S": "1"}
    code, out, _ = ended(pod.command(folder, **environ))
    assert (code, fault.fired > 0) == (76, True)
    [known] = json.loads(told(pod, folder, "--json", JOB_ID=job.id))["jobs"]
    assert known["to_tell"]["model_url"] == json.loads(out)["model_url"]
    assert known["untold_events"] == len(known["steps"]) > 0
    assert (known["last_error"]["code"], known["next"]) == ("job-unreachable", "training-agent finalize")
    app.rest.faults.clear()
    assert ended(pod.command(folder, **app.environ(job)))[0] == 0
    [known] = standing(pod, folder, JOB_ID=job.id)
    assert (known.to_tell, known.untold_events, known.next) == (None, 0, None)


def test_retries_are_told_while_the_hub_does_not_answer(pod, hub, trained):
    folder = trained("sft_lora")
    down = hub.faults.add(Fault("status", status=503, match="/commit/", times=None))
    work = pod.command(folder, JOB_ID=JOB)
    until(lambda: any(job.now and job.now["retries"] for job in standing(pod, folder, JOB_ID=JOB)))
    assert down.fired
    work.send_signal(signal.SIGTERM)
    assert ended(work)[0] == 143
    [job] = standing(pod, folder, JOB_ID=JOB)
    assert (job.last_error["code"], job.next) == ("interrupted", "training-agent finalize")


def test_a_training_under_run_is_watched_to_the_end_of_its_finalize(pod, hub, tmp_path):
    go_on = tmp_path / "go on"
    model = ROOT / "tests" / "fixtures" / "trl" / "sft_lora"
    deeds = ["say=step 1", f"wait={go_on}", f"save={model}"]
    train = [sys.executable, str(TRAINER), str(tmp_path / "diary"), *deeds]
    work = pod.command(tmp_path / "out", "run", "--", *train, JOB_ID=JOB)
    until(lambda: step_of(pod, tmp_path / "out", JOB_ID=JOB) == "training")
    [job] = standing(pod, tmp_path / "out", JOB_ID=JOB)
    assert (job.at_work, job.run["phase"], job.next) == (True, "training", None)
    watcher = pod.command(tmp_path / "out", "status", "--watch", JOB_ID=JOB)
    assert watcher.stdout.readline()
    go_on.touch()
    assert ended(work)[0] == 0
    code, shown, err = ended(watcher)
    assert code == 0, err
    assert "training_ended" in shown
    assert shown.splitlines()[-1] == "  ended     completed"
    assert f"  log       {pod.state_dir / JOB / 'training.log'}" in shown


def on_a_terminal(pod, folder, *args, **environ):
    """Start a command on a terminal of its own, and read what a person would see of it."""
    ours, its = pty.openpty()
    more = {"PATH": os.environ["PATH"], "TERM": "xterm", "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    process = subprocess.Popen(
        [sys.executable, "-m", "agent", *args],
        env=more | pod.environ(folder, **environ), stdin=its, stdout=its, stderr=its, start_new_session=True,
    )  # fmt: skip
    os.close(its)
    seen = bytearray()

    def read():
        with contextlib.suppress(OSError):  # the other end is closed
            while piece := os.read(ours, 65536):
                seen.extend(piece)
        os.close(ours)

    reader = threading.Thread(target=read)
    reader.start()
    return process, reader, seen


def test_on_a_terminal_a_bar_grows_and_is_gone_in_the_end(slow_pod, folder):
    work = slow_pod.command(folder, JOB_ID=JOB)
    watcher, reader, seen = on_a_terminal(slow_pod, folder, "status", "--watch", JOB_ID=JOB)
    assert ended(work)[0] == 0
    assert watcher.wait(60) == 0
    reader.join(60)
    text = seen.decode()
    assert "━" in text
    assert re.search(r"content, since .* of 12\.6 MB, .*/s, .* left", text)
    end = text.rpartition("\x1b[?25h")[2]  # the cursor is shown again when the live view is taken down
    assert "at work   nobody" in end
    assert "━" not in end
    assert end.endswith("  ended     completed\r\n")


def test_ctrl_c_ends_a_watcher_quietly_and_leaves_the_work_alone(pod, hub, trained):
    folder = trained("sft_lora")
    with at_the_commit(pod, hub, folder) as work:
        watcher, reader, seen = on_a_terminal(pod, folder, "status", "--watch", JOB_ID=JOB)
        until(lambda: b"commit, since" in seen)
        watcher.send_signal(signal.SIGINT)
        assert watcher.wait(60) == 130
        reader.join(60)
        after = seen.decode().rpartition("\x1b[?25h")[2]
        assert re.sub(r"\x1b\[\d*[A-Z]", "", after).strip() == ""
        assert work.poll() is None
        assert step_of(pod, folder, JOB_ID=JOB) == "commit"


def test_a_closed_pipe_ends_a_watcher_without_a_word(pod, hub, trained):
    folder = trained("sft_lora")
    watcher = pod.command(folder, "status", "--watch", JOB_ID=JOB)
    assert watcher.stdout.readline()
    watcher.stdout.close()
    assert ended(pod.command(folder, JOB_ID=JOB))[0] == 0
    assert watcher.wait(60) == 0
    assert "Traceback" not in watcher.stderr.read()
    watcher.stderr.close()
    assert not (pod.state_dir / "bug-report.txt").exists()


def test_a_finalize_that_is_looked_at_without_a_pause_is_done_like_any_other(pod, hub, trained):
    folder, over = trained("sft_lora"), threading.Event()

    def look_on():
        while not over.is_set():
            standing(pod, folder, JOB_ID=JOB)

    watchers = [threading.Thread(target=look_on) for _ in range(4)]
    for watcher in watchers:
        watcher.start()
    try:
        code, _, err = ended(pod.command(folder, JOB_ID=JOB))
    finally:
        over.set()
        for watcher in watchers:
            watcher.join()
    assert code == 0, err


def test_status_asks_nobody_and_needs_no_slow_library(pod, hub, trained):
    folder = trained("sft_lora")
    assert ended(pod.command(folder, JOB_ID=JOB))[0] == 0
    asked = len(hub.requests)
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | pod.environ(folder, JOB_ID=JOB)
    command = [sys.executable, "-X", "importtime", "-m", "agent", "status"]
    found = subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=60)
    imported = {line.rpartition("|")[2].strip() for line in found.stderr.splitlines()}
    assert not imported & {
        "huggingface_hub",
        "hf_xet",
        "supabase",
        "tenacity",
        "rich.live",
        "agent.status.watch",
        "numpy",
    }
    assert "agent.status" in imported
    assert len(hub.requests) == asked


def test_watch_shows_to_people_only(pod, tmp_path):
    code, _, err = ended(pod.command(tmp_path, "status", "--watch", "--json"))
    assert code == 2
    assert "--watch shows to people" in err
