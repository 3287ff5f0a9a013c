"""`status` reads whatever lies in a state folder: nobody is asked, nothing is changed, nothing stops it."""

from __future__ import annotations

import fcntl
import io
import json
import os
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent import glance, log
from agent.config import load
from agent.errors import Interrupted
from agent.journal import Journal
from agent.pod.marker import FINISHED, STOPPED, TRAINED, TRAINING, Mark, process_mark
from agent.pulse import Beat
from agent.status import Status, look
from agent.status.view import show
from agent.status.watch import EVERY_S, follow, watching
from agent.status.watch_view import LineScreen

JOB = "3f2b8c1e-5d4a-4b6f-9a7c-0d1e2f3a4b5c"
OTHER = "7d9f5f5c-1111-4a3b-9c5e-0123456789ab"
LETTER = {"kind": "complete", "job_id": JOB, "model_url": "https://huggingface.co/ada/m", "note": None}
SECRET = "planted-secret-of-the-status"
ROW = {"id": JOB, "status": "running", "progress": 12.5}


class Volume:
    """A state folder, and what `status` says of it."""

    def __init__(self, root):
        self.root, self.environ = root, {"AGENT_STATE_DIR": str(root), "OUTPUT_DIR": "/out"}
        self.ticks = iter(f"2026-01-01T00:00:{second:02}+00:00" for second in range(60))

    def write(self, path, content, job=JOB):
        target = self.root / job / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            target.write_bytes(content)
        else:
            target.write_text(content if isinstance(content, str) else json.dumps(content))
        return target

    def note(self, *events, job=JOB, pid=None, folder="", **facts):
        """Let the journal note events, each with its facts."""
        journal = Journal(self.root / job / folder, now=lambda: next(self.ticks))
        for event in events:
            journal.note(event, **facts)
        if pid is not None:
            trail = self.root / job / folder / "audit.jsonl"
            trail.write_text(trail.read_text().replace(f'"pid": {os.getpid()}', f'"pid": {pid}'))
        return journal

    def beat(self, job=JOB, **facts):
        beat = Beat(os.getpid(), process_mark(os.getpid()), "2026-01-01", "2026-01-01")
        return self.write("pulse.json", {"version": 1, **asdict(beat), **facts}, job)

    def mark(self, pod="here", job=JOB, **facts):
        path = self.root / "pods" / pod / f"{job}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"version": 1, **asdict(Mark(**facts))}))
        return path

    def look(self, *, locks=True, **environ):
        answer = Status()
        look(load(self.environ | environ), answer, locks=locks)
        return answer

    def job(self, **options):
        [found] = self.look(**options).jobs
        return found

    def shown(self, capsys, **options):
        show(self.look(**options))
        return capsys.readouterr().out


@pytest.fixture
def volume(tmp_path):
    return Volume(tmp_path)


def test_a_volume_that_is_not_there_knows_nothing(tmp_path, capsys):
    volume = Volume(tmp_path / "missing")
    answer = volume.look()
    assert (answer.jobs, answer.remarks, answer.error) == ([], [], None)
    assert volume.shown(capsys) == f"Nothing is known in {volume.root}.\n"
    assert volume.shown(capsys, JOB_ID=JOB) == f"Nothing is known of job {JOB} in {volume.root}.\n"
    assert not volume.root.exists()


def test_of_several_jobs_each_is_told_and_job_id_leaves_one(volume):
    for name in (JOB, OTHER, "unnamed-0123456789ab", "repo-0123456789ab"):
        volume.note("started", job=name)
    volume.write("model.safetensors", b"", job="xet")
    volume.mark(job="gone")
    assert [job.job for job in volume.look().jobs] == [
        JOB, OTHER, "repo-0123456789ab", "unnamed-0123456789ab",
    ]  # fmt: skip
    assert [job.job for job in volume.look(JOB_ID=OTHER).jobs] == [OTHER]


def test_the_steps_are_those_of_the_last_run_and_the_commits_are_all(volume):
    volume.note("started", "failed")
    volume.note("committed", commit="a" * 40, repo_id="ada/m")
    volume.note("started", "content_uploaded")
    volume.note("committed", commit="b" * 40, repo_id="ada/m")
    job = volume.job()
    assert [step["event"] for step in job.steps] == ["started", "content_uploaded", "committed"]
    assert [commit["commit"] for commit in job.commits] == ["a" * 40, "b" * 40]
    assert {commit["repo_id"] for commit in job.commits} == {"ada/m"}


def test_the_training_of_a_run_is_part_of_it(volume):
    for _ in range(2):
        volume.note("training_started", "training_ended", folder="training", exit_code=0)
    volume.note("started", "recorded", status="completed")
    events = [step["event"] for step in volume.job().steps]
    assert events == ["training_started", "training_ended", "started", "recorded"]


def test_a_training_after_the_last_finalize_comes_after_it(volume):
    volume.note("started", "interrupted")
    volume.note("training_started", folder="training")
    events = [step["event"] for step in volume.job().steps]
    assert events == ["started", "interrupted", "training_started"]


def test_what_only_a_rollback_did_is_told(volume):
    volume.note(
        "rolled_back", job="repo-0123456789ab", commit="c" * 40, repo_id="ada/m", rolled_back_to="d" * 40
    )
    assert [step["event"] for step in volume.job().steps] == ["rolled_back"]


def test_nobody_is_at_work_where_no_process_is(volume):
    volume.note("started", pid=4194305)
    volume.beat(pid=4194305, process="boot:4194305:1", step="content", time="2026-01-01T00:00:09+00:00")
    job = volume.job()
    assert (job.at_work, job.now) == (False, None)
    assert job.last_error["code"] == "vanished"
    assert job.last_error["message"] == "process 4194305 ended without a word in step content"
    assert job.last_error["time"] == "2026-01-01T00:00:09+00:00"
    assert job.next == f"training-agent finalize --job-id {JOB}"


def test_a_living_process_is_at_work_and_tells_how_far_it_is(volume):
    volume.note("started")
    volume.beat(
        step="content", since="2026-01-01T00:00:02", what="uploading", done_bytes=4_000_000,
        total_bytes=10_000_000, sent_bytes=1, rate_bytes_s=2_000_000, retries=3,
    )  # fmt: skip
    job = volume.job(locks=False)
    assert job.at_work
    assert job.now == {
        "step": "content", "since": "2026-01-01T00:00:02", "pid": os.getpid(), "what": "uploading",
        "done_bytes": 4_000_000, "total_bytes": 10_000_000, "sent_bytes": 1, "rate_bytes_s": 2_000_000,
        "retries": 3, "time": "2026-01-01", "left_s": 3,
    }  # fmt: skip
    assert (job.next, job.last_error, job.result) == (None, None, None)


@pytest.mark.parametrize(("age_s", "at_work"), [(5, True), (29, True), (31, False), (-5, True), (-31, False)])
def test_on_another_machine_a_beat_of_just_now_is_a_sign_of_life(age_s, at_work, volume):
    moment = datetime.now(UTC) - timedelta(seconds=age_s)
    volume.beat(process="another-boot:7:7", time=moment.isoformat())
    assert (
        volume.look(locks=False, JOB_ID=JOB).jobs[0].at_work is at_work
        if at_work
        else not [job for job in volume.look(JOB_ID=JOB).jobs if job.at_work]
    )


def test_a_beat_of_no_known_moment_is_no_sign_of_life(volume):
    volume.note("started")
    volume.beat(process="another-boot:7:7", time="just now")
    assert not volume.job().at_work


def test_here_a_process_that_is_gone_is_gone_however_fresh_its_last_beat(volume):
    volume.note("started")
    boot = process_mark(os.getpid()).partition(":")[0]
    volume.beat(process=f"{boot}:4194305:1", time=datetime.now(UTC).isoformat())
    assert volume.job().last_error["code"] == "vanished"


@pytest.mark.parametrize(
    "unknown",
    [{"rate_bytes_s": 0}, {"rate_bytes_s": None}, {"total_bytes": None}, {"done_bytes": "x"}],
)
def test_without_a_rate_no_time_left_is_invented(unknown, volume):
    volume.beat(**{"done_bytes": 4, "total_bytes": 9, "rate_bytes_s": 5} | unknown)
    assert volume.job().now["left_s"] is None


def test_more_than_all_bytes_is_no_negative_time(volume):
    volume.beat(done_bytes=12, total_bytes=9, rate_bytes_s=1)
    assert volume.job().now["left_s"] == 0


def test_a_finalize_that_began_this_moment_is_not_shown_with_the_steps_of_the_last_one(volume):
    volume.note("started", "failed", pid=1)
    volume.beat(step=None)
    job = volume.job()
    assert (job.at_work, job.steps) == (True, [])


def test_how_an_earlier_run_ended_is_not_taken_for_the_end_of_the_last_one(volume):
    volume.beat(pid=1, ended="2026-01-01", result="completed")
    volume.note("started", pid=2)
    job = volume.job()
    assert job.result is None
    assert job.next == f"training-agent finalize --job-id {JOB}"


HOLDER = """
import fcntl, sys
stream = open(sys.argv[1], "rb")
fcntl.flock(stream, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def held(path):
    """A process that holds the kernel's lock in a file, as a finalize does."""
    path.touch()
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_who_holds_the_lock_is_at_work_though_it_tells_nothing(volume):
    volume.note("started")
    process = held(volume.root / JOB / "lock")
    try:
        assert volume.job().at_work
        assert volume.job().now["step"] is None
        assert not volume.job(locks=False).at_work
    finally:
        process.communicate()
    assert not volume.job().at_work


def test_a_look_leaves_the_lock_to_whoever_wants_it(volume):
    volume.note("started")
    path = volume.write("lock", b"")
    volume.look()
    with path.open("r+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_look_without_locks_takes_none(volume, monkeypatch):
    volume.note("started")
    volume.write("lock", b"")
    volume.mark(phase=TRAINING, begun_at=1.0).with_suffix(".lock").touch()

    def never(*_args):
        raise AssertionError("a lock was tried")

    monkeypatch.setattr(glance.fcntl, "flock", never)
    volume.look(locks=False)


def test_two_who_look_at_once_do_not_take_each_other_for_somebody_at_work(volume):
    volume.note("started")
    path = volume.write("lock", b"")
    with path.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_SH)
        assert not volume.job().at_work


def test_a_training_is_at_work(volume):
    volume.mark(phase=TRAINING, begun_at=1_767_225_600.0, process=process_mark(os.getpid()))
    volume.write("training.log", "step 1\n")
    job = volume.job(locks=False)
    assert (job.at_work, job.next) == (True, None)
    assert (job.now["step"], job.now["since"]) == ("training", "2026-01-01T00:00:00+00:00")
    assert job.run["log"] == str(volume.root / JOB / "training.log")


def test_a_run_that_is_over_is_not_at_work_though_its_process_number_is_in_use(volume):
    volume.mark(phase=FINISHED, begun_at=1.0, process=process_mark(os.getpid()))
    volume.write("training.log", "")
    assert not volume.job().at_work


def test_how_a_run_ended_is_told_when_it_is_over(volume):
    volume.write("training.log", "")
    volume.mark(phase=TRAINED, begun_at=1.0)
    assert (volume.job().run["exit_code"], volume.job().run["result"]) == (None, None)
    volume.mark(phase=FINISHED, begun_at=1.0, exit_code=75, result="pending")
    assert (volume.job().run["exit_code"], volume.job().run["result"]) == (75, "pending")


@pytest.mark.parametrize("begun_at", [1e300, float("nan"), True, "x", None])
def test_a_moment_that_is_none_is_not_told(begun_at, volume):
    volume.write("training.log", "")
    volume.mark(phase=FINISHED, begun_at=begun_at)
    assert volume.job().run["begun"] in {None, "1970-01-01T00:00:01+00:00"}


def test_an_exit_code_that_is_no_number_is_not_told(volume):
    volume.write("training.log", "")
    volume.mark(phase=FINISHED, begun_at=1.0, exit_code="x", child_exit=[1])
    assert (volume.job().run["exit_code"], volume.job().run["child_exit"]) == (None, None)


def test_a_marker_of_another_version_is_none(volume):
    volume.note("started")
    path = volume.mark(phase=FINISHED, begun_at=1.0)
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    assert volume.job().run is None


def test_the_log_of_another_node_is_found(volume):
    log_of_node = volume.write("node-here/training.log", "step 1\n")
    volume.note("started")
    volume.mark(phase=FINISHED, begun_at=1.0)
    assert volume.job().run["log"] == str(log_of_node)


def test_between_two_attempts_run_is_at_work(volume):
    volume.note("started", "failed", code="hub-unreachable")
    volume.beat(ended="2026-01-01T00:00:09", error={"code": "hub-unreachable", "message": "m", "hint": "h"})
    process = held(volume.mark(phase=TRAINED, begun_at=1.0).with_suffix(".lock"))
    try:
        job = volume.job()
        assert (job.at_work, job.next, job.last_error) == (True, None, None)
        assert (job.now["step"], job.now["since"]) == ("waiting to try again", "2026-01-01T00:00:09")
    finally:
        process.communicate()
    assert volume.job().last_error["code"] == "hub-unreachable"


def test_a_finalize_that_says_nothing_of_itself_is_not_taken_for_the_pause_before_it(volume):
    volume.note("started")
    holders = [held(volume.write("lock", b"")), held(volume.mark(phase=TRAINED).with_suffix(".lock"))]
    try:
        assert volume.job().now["step"] is None
    finally:
        for holder in holders:
            holder.communicate()


def test_of_several_pods_the_one_that_began_last_is_told(volume):
    volume.mark(pod="old", phase=FINISHED, begun_at=1.0, exit_code=75)
    volume.mark(pod="new", phase=FINISHED, begun_at=2.0, exit_code=0, result="completed", child_exit=0)
    volume.write("row.json", ROW)
    run = volume.job().run
    assert (run["pod"], run["exit_code"], run["result"], run["child_exit"]) == ("new", 0, "completed", 0)


@pytest.mark.parametrize("phase", [TRAINING, STOPPED])
def test_a_training_that_was_cut_off_is_trained_again_by_no_command_that_a_shell_takes(phase, volume):
    volume.note("training_started", folder="training")
    volume.mark(phase=phase, begun_at=1.0)
    volume.write("row.json", ROW)
    following = volume.job().next
    assert following.startswith("training-agent run -- <")
    assert subprocess.run(
        ["sh", "-c", f"cd /nowhere-at-all; {following}"], capture_output=True, check=False
    ).returncode


def test_a_training_that_failed_is_final(volume):
    volume.note("training_started", "training_ended", folder="training", exit_code=1)
    volume.mark(phase=FINISHED, begun_at=1.0, exit_code=17, child_exit=1)
    volume.write("journal.json", {"version": 1})
    job = volume.job()
    assert (job.last_error["code"], job.next) == ("training-failed", None)
    assert job.last_error["message"] == "it ended with exit code 1"
    volume.write("row.json", ROW | {"error_message": "CUDA out of memory"})
    assert volume.job().last_error["message"] == "CUDA out of memory"


def test_a_training_that_ended_and_was_not_finalized_is_to_be_finalized(volume):
    volume.note("training_started", "training_ended", folder="training", exit_code=0)
    volume.mark(phase=TRAINED, begun_at=1.0)
    volume.write("journal.json", {"version": 1})
    assert volume.job(JOB_ID=JOB).next == "training-agent finalize"


NOTHING_LEFT = {
    "completed": {"row": ROW | {"status": "completed"}},
    "completed, and the pulse knows": {"pulse": "completed"},
    "nothing to publish": {"pulse": "not-published"},
}


@pytest.mark.parametrize("end", NOTHING_LEFT)
def test_what_is_done_needs_no_command(end, volume):
    volume.note("started")
    if "row" in NOTHING_LEFT[end]:
        volume.write("row.json", NOTHING_LEFT[end]["row"])
        volume.note("recorded", status="completed")
    else:
        volume.beat(ended="2026-01-01", result=NOTHING_LEFT[end]["pulse"])
    assert (volume.job().next, volume.job().last_error) == (None, None)
    assert volume.job().result in {"completed", "not-published"}


def test_what_run_found_to_be_done_is_done(volume):
    volume.write("training.log", "")
    volume.mark(phase=FINISHED, begun_at=1.0, result="completed")
    assert (volume.job().result, volume.job().next) == ("completed", None)


def test_the_last_thing_that_a_row_was_told_is_how_it_ended(volume):
    volume.note("started")
    for status in ("failed", "completed"):
        volume.note("recorded", status=status)
    assert volume.job().result == "completed"


@pytest.mark.parametrize("row", [{"status": "cancelled"}, {"status": "failed", "failure_stage": "training"}])
def test_a_row_that_is_final_needs_no_command(row, volume):
    volume.note("started", "failed", code="job-refused", because="no")
    volume.write("row.json", ROW | row)
    assert volume.job().next is None
    volume.write("row.json", ROW | {"status": "failed", "failure_stage": "publish"})
    assert volume.job().next is not None


def test_the_last_error_is_told_by_its_code_with_the_cure(volume):
    volume.note("started", "failed", code="artifact", because="no model")
    volume.note("recorded", status="failed")
    assert volume.job().last_error == {
        "time": "2026-01-01T00:00:01+00:00", "code": "artifact", "message": "no model", "hint": None,
    }  # fmt: skip
    assert volume.job(JOB_ID=JOB).next == "training-agent finalize"
    volume.beat(ended="2026-01-02", error={"code": "artifact", "message": "no model", "hint": "Train."})
    assert volume.job().last_error == {
        "time": "2026-01-02", "code": "artifact", "message": "no model", "hint": "Train.",
    }  # fmt: skip


def test_a_signal_is_told_as_what_it_was(volume):
    volume.note("started", "interrupted", because="stopped by SIGTERM")
    assert volume.job().last_error["code"] == "interrupted"


def test_an_error_of_an_earlier_run_is_over(volume):
    volume.note("started", "failed", code="artifact", because="no model")
    volume.note("started")
    volume.note("recorded", status="completed")
    assert (volume.job().last_error, volume.job().next) == (None, None)


def test_what_the_row_is_still_to_be_told_is_told(volume, capsys):
    journal = volume.note("started")
    journal.post(LETTER)
    job = volume.job()
    assert (job.to_tell, job.next) == (LETTER, f"training-agent finalize --job-id {JOB}")
    assert "  to tell   the row: completed, https://huggingface.co/ada/m\n" in volume.shown(capsys)
    path = volume.root / JOB / "journal.json"
    path.write_text(path.read_text().replace("ada/m", "eve/m"))
    job = volume.job()
    assert job.to_tell is None
    assert job.remarks == [f"{path}: what the row was to be told is damaged"]


def test_the_events_that_the_database_was_not_told_are_counted(volume, capsys):
    journal = volume.note("started", "repo_created", "committed")
    assert volume.job().untold_events == 3
    journal.told(journal.untold[:2])
    assert volume.job().untold_events == 1
    assert "  to tell   the job database: 1 event; the next run does\n" in volume.shown(capsys)
    journal.told(journal.untold)
    assert volume.job().untold_events == 0


def test_a_trail_that_lost_events_leaves_none_to_be_told(volume):
    volume.note("started")
    volume.write("journal.json", {"version": 1, "told_events": 5})
    assert volume.job().untold_events == 0


def test_a_row_that_waits_to_be_told_is_told_by_finalize(volume):
    volume.note("started")
    volume.note("recorded", status="completed").post(LETTER)
    assert volume.job(JOB_ID=JOB).next == "training-agent finalize"


def test_a_row_that_is_a_file_here_waits_for_no_events(volume):
    volume.note("started")
    volume.write("row.json", ROW)
    assert volume.job().untold_events == 0


def test_the_next_command_can_be_pasted_as_it_is(volume):
    volume.note("started", output_dir="/a folder/of models")
    assert volume.job(JOB_ID=JOB).next == "training-agent finalize --output-dir '/a folder/of models'"
    assert volume.job(JOB_ID=JOB, OUTPUT_DIR="/a folder/of models").next == "training-agent finalize"


def test_a_job_without_a_name_gets_no_job_id(volume):
    volume.note("started", job="unnamed-0123456789ab", output_dir="/x")
    assert volume.job().next == "training-agent finalize --output-dir /x"


def test_a_rollback_that_was_cut_off_is_finished_by_the_same_command(volume):
    begun = {"asked": "previous", "repo": "ada/model", "branch": "dev"}
    volume.write("journal.json", {"version": 1, "rollback": begun}, job="repo-0123456789ab")
    assert volume.job().next == "training-agent rollback ada/model --revision dev --to previous"


def test_a_bug_report_is_pointed_at(volume, capsys):
    volume.note("started")
    (volume.root / "bug-report.txt").write_text("trace")
    os.utime(volume.root / "bug-report.txt", (0, 0))
    assert volume.look().bug_report == {
        "path": str(volume.root / "bug-report.txt"), "time": "1970-01-01T00:00:00+00:00",
    }  # fmt: skip
    assert f"bug report  {volume.root}/bug-report.txt, written 1970-01-01 00:00:00" in volume.shown(capsys)


DAMAGED = {
    "journal.json": (b'{"version": 1', "is damaged: not JSON"),
    "row.json": (b"[]", "is damaged: not a JSON object"),
    "pulse.json": (b"\xff\xfe\x00", "is damaged: "),
    "audit.jsonl": (b'{"event": "started"}\n{"torn\n[]\n', "has 2 damaged lines, passed over"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_a_line_and_the_rest_is_told(name, volume, capsys):
    content, remark = DAMAGED[name]
    volume.note("started")
    path = volume.write(name, content)
    job = volume.job()
    assert [step["event"] for step in job.steps] == ["started"]
    assert len(job.remarks) == 1
    assert job.remarks[0].startswith(f"{path} {remark}")
    assert f"  damaged   {job.remarks[0]}" in volume.shown(capsys)


def test_a_file_of_another_version_is_left_alone(volume):
    volume.note("started")
    for name in ("journal.json", "pulse.json"):
        volume.write(name, {"version": 2, "outbox": 1, "process": process_mark(os.getpid())})
    job = volume.job()
    assert (job.to_tell, job.at_work) == (None, False)
    assert sorted(remark.rpartition("/")[2] for remark in job.remarks) == [
        "journal.json is of another version of the agent", "pulse.json is of another version of the agent",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["journal.json", "audit.jsonl", "row.json", "pulse.json"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file_is_not_waited_for(make, name, volume):
    volume.write("training.log", "")
    make(volume.root / JOB / name)
    [remark] = volume.look(JOB_ID=JOB).jobs[0].remarks
    assert remark in {
        f"{volume.root / JOB / name} is not a file",
        f"{volume.root / JOB / name} cannot be read: Is a directory",
    }


def test_what_is_far_too_large_is_not_read(volume, monkeypatch):
    monkeypatch.setattr(glance, "_LONGEST_DOCUMENT", 100)
    volume.note("started")
    path = volume.write("row.json", {"id": "x" * 100})
    assert volume.job().remarks == [f"{path} is too large to be ours (110 bytes)"]


def test_a_folder_that_cannot_be_read_is_a_line(volume, capsys):
    volume.note("started")
    (volume.root / OTHER).symlink_to(OTHER)  # a link to itself, which root cannot read either
    assert [job.job for job in volume.look().jobs] == [JOB]
    answer = volume.look(JOB_ID=OTHER)
    assert "Too many levels of symbolic links" in answer.jobs[0].remarks[0]
    assert volume.shown(capsys, JOB_ID=OTHER).count("damaged") >= 1


def test_a_state_dir_that_is_a_file_is_a_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    volume = Volume(tmp_path / "file")
    assert volume.look().remarks == [f"{tmp_path / 'file'} cannot be read: Not a directory"]
    assert "Not a directory" in volume.shown(capsys)


def test_a_file_is_read_anew_when_it_is_another_one_or_longer(volume):
    path = volume.write("row.json", ROW | {"status": "aaaaaaa"})
    os.utime(path, (1, 1))
    assert volume.job().row["status"] == "aaaaaaa"
    other = volume.write("other", ROW | {"status": "bbbbbbb"})
    os.utime(other, (1, 1))
    other.replace(path)
    assert volume.job().row["status"] == "bbbbbbb"
    path.write_text(json.dumps(ROW | {"status": "cccccccc"}))
    os.utime(path, (1, 1))
    assert volume.job().row["status"] == "cccccccc"


def test_an_event_without_a_name_is_none(volume):
    volume.note("started")
    with volume.root.joinpath(JOB, "audit.jsonl").open("a") as trail:
        trail.write('{"event": ["started"]}\n{"event": {}}\n')
    assert [step["event"] for step in volume.job().steps] == ["started"]


def test_what_json_readers_refuse_is_not_passed_on(volume):
    volume.note("started")
    volume.write(
        "row.json", b'{"status": "running", "progress": NaN, "deep": ' + b"[" * 500 + b"]" * 500 + b"}"
    )
    text = json.dumps(volume.look().as_json(), allow_nan=False)
    assert json.loads(text)["jobs"][0]["row"]["progress"] is None


def test_the_object_has_what_programs_were_promised(volume):
    volume.note("started")
    answer = volume.look().as_json()
    assert {"where", "jobs", "error"} <= answer.keys()
    assert answer["jobs"][0].keys() >= {
        "job", "folder", "at_work", "now", "steps", "commits", "to_tell", "untold_events", "last_error",
        "row", "run", "next",
    }  # fmt: skip


def test_control_characters_and_secrets_do_not_reach_a_terminal(volume, capsys):
    log.hide([SECRET])
    volume.note("started", output_dir="/o\x1b[31m\nut")
    volume.write("row.json", ROW | {"error_message": f"{SECRET}\x1b]0;title\x07"})
    shown = volume.shown(capsys)
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert SECRET not in shown


def test_a_look_changes_nothing(volume):
    volume.note("started", "failed")
    volume.write("lock", b"")
    volume.mark(phase=TRAINING, begun_at=1.0)

    def stamps():
        return {path: path.stat().st_mtime_ns for path in volume.root.rglob("*")}

    before = stamps()
    volume.look()
    assert stamps() == before


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_lies_there_is_told_without_a_stumble(data, tmp_path_factory):
    volume = Volume(tmp_path_factory.mktemp("volume"))
    volume.note("started", "committed", "failed", commit="c", repo_id="r", because="b")
    volume.note("training_started", folder="training").post(LETTER)
    volume.beat(step="content", done_bytes=1, total_bytes=2)
    mark = volume.mark(phase=TRAINING, begun_at=1.0)
    volume.write("row.json", ROW)
    paths = sorted(path for path in [*volume.root.joinpath(JOB).rglob("*"), mark] if path.is_file())
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    values = st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    )
    for path in data.draw(st.lists(st.sampled_from(paths), min_size=1, max_size=4, unique=True)):
        content = path.read_bytes()
        how = data.draw(st.sampled_from(["cut", "bytes", "values", "gone"]))
        if how == "cut":
            path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
        elif how == "bytes":
            at = data.draw(st.integers(0, len(content)))
            path.write_bytes(content[:at] + data.draw(st.binary(max_size=8)) + content[at:])
        elif how == "values":
            lines = (
                [json.loads(line) for line in content.splitlines()]
                if path.suffix == ".jsonl"
                else [json.loads(content)]
            )
            for line in lines:
                for name in data.draw(st.lists(st.sampled_from(sorted(line)), max_size=4)):
                    line[name] = data.draw(values)
            path.write_text("\n".join(json.dumps(line) for line in lines))
        else:
            path.unlink()
    answer = volume.look()
    json.dumps(answer.as_json(), allow_nan=False)
    show(answer)
    screen = LineScreen(io.StringIO())
    screen.show(answer)


class Screen:
    """What a watcher was shown."""

    def __init__(self):
        self.seen = []

    def show(self, answer):
        self.seen.append([job.at_work for job in answer.jobs])


def followed(volume, *acts):
    """Follow the volume; before each look one act. It must have ended when all are done."""
    screen, answer, acts = Screen(), Status(), iter(acts)

    def sleep(seconds):
        assert seconds == EVERY_S
        act = next(acts)
        if act:
            act()

    follow(load(volume.environ | {"JOB_ID": JOB}), answer, screen, sleep)
    assert next(acts, "over") == "over"
    return screen.seen, answer


def test_after_the_end_a_watcher_looks_three_times_and_returns(volume):
    volume.note("started", "failed")
    seen, answer = followed(volume, None, None)
    assert seen == [[False], [False]]
    assert [job.job for job in answer.jobs] == [JOB]


def test_before_the_beginning_a_watcher_waits(volume):
    seen, _ = followed(
        volume,
        None,
        None,
        None,
        lambda: (volume.note("started"), volume.beat(step="look")),
        None,
        None,
        None,
        lambda: volume.beat(ended="2026-01-01", result="completed"),
        None,
        None,
    )
    assert seen == [[], [], [], [], [True], [True], [True], [True], [False], [False]]


def test_who_waits_for_the_beginning_tries_no_lock(volume, monkeypatch):
    tried = []
    monkeypatch.setattr(glance, "is_held", lambda path: tried.append(path.name))
    followed(volume, None, lambda: volume.note("started"), None, None)
    assert tried == ["lock"]


def test_what_still_changes_is_not_the_end(volume):
    volume.note("started")
    seen, _ = followed(volume, None, lambda: volume.note("released"), None, None)
    assert len(seen) == 4


def lines(volume, out, clock=lambda: 0.0):
    screen = LineScreen(out, clock)
    return lambda: screen.show(volume.look(JOB_ID=JOB))


def test_elsewhere_than_on_a_terminal_each_change_is_one_line(volume, clock):
    out = io.StringIO()
    show_it = lines(volume, out, clock)
    for _ in range(2):
        show_it()
    volume.note("started", output_dir="/out")
    volume.beat(step="content", since="2026-01-01T00:00:01", done_bytes=0, total_bytes=1000)
    for done in range(0, 1000, 50):
        volume.beat(step="content", since="2026-01-01T00:00:01", done_bytes=done, total_bytes=1000)
        show_it()
    said = out.getvalue().splitlines()
    assert said[0].endswith("Waiting for a finalize to begin; Ctrl-C ends the wait.")
    assert said[1] == "2026-01-01 00:00:00  started           output_dir /out"
    assert [line.split(", ")[2] for line in said[2:]] == [
        f"{done} bytes of 1.0 kB" for done in range(0, 1000, 100)
    ]


def test_a_slow_upload_says_a_line_every_ten_seconds(volume, clock):
    out = io.StringIO()
    show_it = lines(volume, out, clock)
    for done in range(40):
        volume.beat(step="content", done_bytes=done, total_bytes=1_000_000)
        show_it()
        clock.now += 1.0
    assert len(out.getvalue().splitlines()) == 4


def test_work_without_bytes_says_nothing_while_nothing_changes(volume, clock):
    out = io.StringIO()
    show_it = lines(volume, out, clock)
    volume.beat(step="verify")
    for _ in range(3):
        show_it()
        clock.now += 60.0
    assert len(out.getvalue().splitlines()) == 1


def test_two_jobs_are_told_apart(volume):
    out = io.StringIO()
    for job in (JOB, OTHER):
        volume.note("started", job=job)
    LineScreen(out).show(volume.look())
    assert [line[:36] for line in out.getvalue().splitlines()] == [JOB, OTHER]


def test_who_stops_looking_is_told_nothing_more(capsys):
    answer = Status()
    answer.failed(Interrupted(2), code="interrupted", message="stopped by SIGINT", hint="…")
    show(answer)
    assert (answer.error, capsys.readouterr().out) == (None, "")


def test_a_reader_who_has_seen_enough_ends_it(volume):
    class Closed(io.StringIO):
        def write(self, _text):
            raise BrokenPipeError

    volume.note("started")
    answer = Status()
    watching(load(volume.environ), answer, Closed(), sleep=lambda _: None)
    assert answer.stopped


def test_the_end_of_a_trail_is_read_without_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr(glance, "_BLOCK", 7)
    path = tmp_path / "audit.jsonl"
    events = [{"event": "e", "n": number, "text": "ä" * number} for number in range(20)]
    whole = "\n".join(json.dumps(event, ensure_ascii=False) for event in events)
    for text in (whole, whole + "\n", "\n" + whole + "\n\n"):
        path.write_text(text)
        for count in (1, 3, 19, 20, 25):
            assert glance.newest(path, count) == events[-count:]
    path.write_text(f'{whole}\n{{"torn\n[]\n{{"no": 1}}\n')
    assert glance.newest(path, 2) == events[-2:]
    assert glance.newest(tmp_path / "missing", 2) == []
