"""What a preflight makes of what it is told: rights of a token, statuses of a row, disks, clocks, silence."""

from __future__ import annotations

import io
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from agent import log, preflight
from agent.clocks import ahead_s
from agent.config import load
from agent.errors import ConfigError, HubAuthError, JobRefusedError
from agent.hub import rights
from agent.jobs import Row
from agent.jobs.survey import outlook
from agent.pod import room, runpod, storage
from agent.pod import survey as pod_survey
from agent.preflight_view import show
from agent.verdict import Check

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
SILENCE = Check.note("somebody", "did not answer in time", "")


def whoami(role="write", *, orgs=None, scopes=(), created="2026-11-01T00:00:00.000Z", **auth):
    """An answer of whoami-v2, as the Hub gives it; scopes are (type, name, permissions…)."""
    access = {"displayName": "pod", "role": role, "createdAt": created}
    if role == "fineGrained":
        scoped = [
            {"entity": {"_id": "64a", "type": kind, "name": name}, "permissions": list(permissions)}
            for kind, name, *permissions in scopes
        ]
        access["fineGrained"] = {"canReadGatedRepos": False, "global": [], "scoped": scoped}
    return {
        "type": "user",
        "name": "ada",
        "orgs": [{"type": "org", "name": name, "roleInOrg": role} for name, role in (orgs or {}).items()],
        "auth": {"type": "access_token", "accessToken": access, **auth},
    }


def token(*args, **more):
    return rights.read_token(whoami(*args, **more))


ORGS = {"lab": "write", "club": "contributor", "guild": "read", "board": "admin"}
ALL, PUSH = "repo.write", "repo.content.write"


@pytest.mark.parametrize(
    ("repo_id", "exists", "verdict"),
    [
        ("ada/model", False, "ok"),
        ("Ada/model", False, "ok"),
        ("lab/model", False, "ok"),
        ("board/model", True, "ok"),
        ("club/model", False, "ok"),
        ("guild/model", False, "error"),
        ("bob/model", False, "error"),
        ("adam/model", False, "error"),
    ],
)
def test_a_write_token_writes_where_its_user_may(repo_id, exists, verdict):
    check = rights.may_write(token(orgs=ORGS), repo_id, exists=exists)
    assert (check.name, check.verdict) == ("token rights", verdict)
    if verdict == "error":
        assert isinstance(check.error, HubAuthError)
        assert (
            check.cure == "This token may write to: ada, lab, club, board; set HF_REPO_NAME to one of these."
        )


@pytest.mark.parametrize("exists", [True, False])
def test_a_read_token_writes_nothing(exists):
    check = rights.may_write(token("read"), "ada/model", exists=exists)
    assert (check.verdict, check.said) == ("error", "HF_TOKEN (pod) is read-only.")


@pytest.mark.parametrize(
    ("scopes", "repo_id", "exists", "verdict"),
    [
        ([("model", "ada/model", "repo.content.read", PUSH)], "ada/model", True, "ok"),
        ([("model", "ada/model", ALL)], "ada/model", True, "ok"),
        ([("user", "ada", ALL)], "ada/model", True, "ok"),
        ([("user", "ada", ALL)], "ada/model", False, "ok"),
        ([("org", "lab", ALL)], "lab/model", False, "ok"),
        ([("model", "ada/model", ALL)], "ada/model", False, "warning"),
        ([("user", "ada", PUSH)], "ada/model", False, "warning"),
        ([("resource-group", "chat", ALL)], "lab/model", False, "warning"),
        ([("resource-group", "chat", "repo.content.read")], "lab/model", False, "error"),
        ([("model", "ada/model", "repo.content.read")], "ada/model", True, "error"),
        ([("model", "ada/other", ALL)], "ada/model", True, "error"),
        ([("dataset", "ada/model", ALL)], "ada/model", True, "error"),
        ([("user", "ada", "repo.content.read")], "ada/model", False, "error"),
        ([("user", "ada", ALL)], "lab/model", False, "error"),
        ([("org", "guild", ALL)], "guild/model", False, "error"),
        ([], "ada/model", True, "error"),
    ],
)
def test_a_fine_grained_token_writes_what_it_names(scopes, repo_id, exists, verdict):
    fine = token("fineGrained", orgs=ORGS, scopes=scopes)
    check = rights.may_write(fine, repo_id, exists=exists)
    assert check.verdict == verdict, check
    assert (check.error is not None) == (verdict == "error")
    assert bool(check.cure) == (verdict != "ok")


@pytest.mark.parametrize("role", [None, "god-mode", 7])
def test_a_role_that_nobody_knows_is_no_verdict(role):
    check = rights.may_write(token(role), "ada/model", exists=False)
    assert (check.verdict, check.said) == ("warning", "the Hub does not say what HF_TOKEN (pod) may do")
    assert rights.breadth(token(role), "ada/model", exists=False) == []


@pytest.mark.parametrize(
    "answer",
    [
        {"name": "ada"},
        {"name": "ada", "orgs": None, "auth": None},
        {"name": "ada", "auth": {"accessToken": {"fineGrained": None, "createdAt": "yesterday"}}},
        {"name": "ada", "auth": {"accessToken": {"role": "fineGrained", "fineGrained": {"scoped": [{}]}}}},
        {"name": "ada", "auth": {"accessToken": {"role": "fineGrained", "fineGrained": {"scoped": "all"}}}},
    ],
)
def test_an_answer_that_says_less_is_read_as_far_as_it_goes(answer):
    read = rights.read_token(answer)
    assert (read.user, read.created, read.expires) == ("ada", None, None)
    assert rights.may_write(read, "ada/model", exists=False).verdict != "ok"


@pytest.mark.parametrize("answer", [{}, [], None, "ada", {"error": "busy"}, {"name": "ada", "orgs": [7]}])
def test_an_answer_of_another_kind_is_none(answer):
    with pytest.raises(KeyError):
        rights.read_token(answer)


@pytest.mark.parametrize(
    ("days", "verdict"), [(0, "ok"), (89, "ok"), (90, "ok"), (90.01, "warning"), (700, "warning")]
)
def test_a_token_is_due_after_ninety_days(days, verdict):
    made = NOW - timedelta(days=days)
    [check] = rights.age(token(created=made.isoformat()), NOW)
    assert (check.verdict, str(int(days)) in check.said) == (verdict, True)


@pytest.mark.parametrize(("days", "told"), [(0.1, True), (6.9, True), (-1, True), (7.1, False), (400, False)])
def test_a_token_that_ends_with_the_training_is_told(days, told):
    ends = (NOW + timedelta(days=days)).isoformat()
    [check] = rights.age(token(expiresAt=ends), NOW)
    assert (check.verdict == "warning") is told
    assert ("expires" in check.said) is told


@pytest.mark.parametrize("created", [None, "", "soon", "2026-11-01T00:00:00"])
def test_an_age_that_the_hub_does_not_tell_is_not_made_up(created):
    assert rights.age(token(created=created), NOW) == []


@pytest.mark.parametrize(
    ("scopes", "exists", "said"),
    [
        ([("model", "ada/model", PUSH)], True, "fine-grained, for ada/model"),
        ([("model", "ada/model", PUSH), ("model", "ada/base", "repo.content.read")], True,
         "fine-grained, for ada/model"),
        ([("user", "ada", ALL)], False, "fine-grained, for ada"),
        ([("user", "ada", ALL)], True, "HF_TOKEN may also write all of ada"),
        ([("user", "ada", ALL), ("org", "lab", ALL)], False, "HF_TOKEN may also write all of lab"),
        ([("model", "ada/model", ALL), ("dataset", "ada/prompts", PUSH)], True,
         "HF_TOKEN may also write ada/prompts"),
    ],
)  # fmt: skip
def test_a_token_that_opens_more_than_the_repo_is_told(scopes, exists, said):
    [check] = rights.breadth(token("fineGrained", scopes=scopes), "ada/model", exists=exists)
    assert check.said == said
    assert (check.verdict == "warning") is ("also" in said)


def test_a_write_token_is_broader_than_one_repo_needs_and_how_to_get_one_is_said():
    [now] = rights.breadth(token(), "ada/model", exists=True)
    assert (now.verdict, now.said) == ("warning", "HF_TOKEN may write everything that ada may")
    assert now.cure.startswith("Make a fine-grained token, choose ada/model under 'Repositories permissions'")
    [later] = rights.breadth(token(), "ada/model", exists=False)
    assert later.cure.startswith("Once the repo exists, make a fine-grained token")


URL = "https://huggingface.co/ada/model"


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        (Row("1", "pending"), "ok"),
        (Row("1", "running"), "ok"),
        (Row("1", "failed", failure_stage="publish"), "ok"),
        (Row("1", "failed", failure_stage="lost"), "ok"),
        (Row("1", "completed"), "ok"),
        (Row("1", "completed", model_url=URL), "warning"),
        (Row("1", "completed", model_url="https://huggingface.co/ada/other"), "error"),
        (Row("1", "cancelled"), "error"),
        (Row("1", "failed", failure_stage="training"), "error"),
        (Row("1", "failed"), "error"),
        (Row("1", "archived"), "error"),
    ],
)
def test_the_status_of_the_row_tells_what_becomes_of_it(row, verdict):
    check = outlook(row, URL)
    assert (check.name, check.verdict) == ("row status", verdict)
    assert isinstance(check.error, JobRefusedError) == (verdict == "error")


def test_a_completed_row_is_no_refusal_as_long_as_nobody_knows_the_address():
    assert outlook(Row("1", "completed", model_url=URL), None).verdict == "warning"


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        ("Thu, 26 Nov 2026 12:00:00 GMT", 0.0),
        ("Thu, 26 Nov 2026 11:58:59 GMT", 61.0),
        ("Thu, 26 Nov 2026 12:05:00 GMT", -300.0),
        ("Thu, 26 Nov 2026 12:00:00 -0000", None),
        ("noon", None),
        ("", None),
    ],
)
def test_a_servers_clock_is_read_from_its_answer(date, seconds):
    assert ahead_s(NOW, {"Date": date}) == seconds
    assert ahead_s(NOW, {}) is None


@pytest.mark.parametrize(
    ("told", "verdict"),
    [
        ({"the Hub": 60.0, "the job database": -60.0}, "ok"),
        ({"the Hub": 60.5, "the job database": 1.0}, "warning"),
        ({"the Hub": None, "the job database": -61.0}, "warning"),
        ({"the Hub": None, "the job database": 3.0}, "ok"),
    ],
)
def test_a_clock_that_is_off_by_more_than_a_minute_is_told(told, verdict):
    [check] = preflight._clock(told)
    assert check.verdict == verdict


def test_the_clock_that_differs_most_is_named_and_nobodys_is_not_invented():
    [check] = preflight._clock({"the Hub": 75.0, "the job database": -4000.0})
    assert check.said.startswith("ours is 4,000 s behind that of the job database:")
    assert preflight._clock({"the Hub": None, "the job database": None}) == []


def test_what_was_found_before_an_error_stays():
    def ask():
        yield Check.fine("one", "is well")
        raise HubAuthError("The token is unknown.", hint="Make another.")

    one, two = preflight._Asked("hub", ask, SILENCE).gather(time.monotonic() + 60)
    assert (one.name, two.name, two.verdict, two.error.exit_code) == ("one", "hub", "error", 12)


def test_a_silent_server_costs_what_it_was_given_and_what_comes_later_is_not_added():
    asked, release = threading.Event(), threading.Event()

    def ask():
        yield Check.fine("one", "is well")
        asked.set()
        release.wait(60)
        yield Check.fine("two", "is well")

    thread = preflight._Asked("hub", ask, SILENCE)
    assert asked.wait(60)
    found = thread.gather(time.monotonic())
    release.set()
    thread._thread.join(60)
    assert [check.name for check in found] == ["one", "somebody"]


def test_a_bug_is_not_taken_for_a_silence():
    def ask():
        yield Check.fine("one", "is well")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        preflight._Asked("hub", ask, SILENCE).gather(time.monotonic() + 60)


def test_a_folder_is_tried_by_writing_and_nothing_stays(tmp_path):
    assert room.why_not_writable(tmp_path / "not" / "there" / "yet") is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    assert room.why_not_writable(tmp_path / "file" / "out") == f"{tmp_path}/file is not a folder"


def test_a_path_that_no_disk_takes_is_named(tmp_path):
    assert room.why_not_writable(tmp_path / ("x" * 300)).endswith("x: File name too long")


@pytest.mark.parametrize("place", ["/proc/nowhere", "/sys/fs"])
def test_a_place_that_takes_no_files_is_named(place):
    assert room.why_not_writable(Path(place)).startswith(place.removesuffix("/nowhere"))


def test_a_full_disk_shows_when_the_bytes_have_to_be_there(tmp_path, monkeypatch):
    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(room.os, "fsync", full)
    assert room.why_not_writable(tmp_path) == f"{tmp_path}: No space left on device"


@pytest.fixture
def disks(tmp_path, monkeypatch):
    """A pod's mounts: /workspace is `kind`, everything else is in the container."""

    def mount(kind):
        lines = ["20 1 0:20 / / rw - overlay overlay rw"]
        lines += [f"21 20 0:21 /data {tmp_path / 'workspace'} rw - {kind} /dev/x rw"] if kind else []
        (tmp_path / "mountinfo").write_text("\n".join(lines))
        (tmp_path / "workspace").mkdir(exist_ok=True)
        monkeypatch.setattr(storage, "_MOUNTINFO", tmp_path / "mountinfo")
        return tmp_path / "workspace"

    return mount


def folders(tmp_path, workspace, **more):
    environ = {
        "OUTPUT_DIR": str(workspace / "out"),
        "AGENT_STATE_DIR": str(tmp_path / "state"),
        "RUNPOD_POD_ID": "abc123",
        **more,
    }
    checks = pod_survey.folders(
        load({key: value for key, value in environ.items() if value}), workspace / "hf"
    )
    return {check.name: check for check in checks}


@pytest.mark.parametrize(
    ("kind", "volume", "verdict", "said"),
    [
        ("", "", "warning", "on the container's disk"),
        ("ext4", "", "ok", "on the pod's volume"),
        ("fuse", "vol-1", "ok", "on a network volume"),
    ],
)
def test_how_long_model_and_cache_live_is_said(kind, volume, verdict, said, disks, tmp_path, monkeypatch):
    monkeypatch.setattr(pod_survey, "free_bytes", lambda _: 10**12)
    found = folders(tmp_path, disks(kind), RUNPOD_VOLUME_ID=volume)
    for name in ("output folder", "model cache"):
        assert (found[name].verdict, said in found[name].said) == (verdict, True), found[name]
    assert found["state folder"].verdict == "ok"


def test_outside_of_runpod_nothing_is_said_about_volumes(disks, tmp_path, monkeypatch):
    monkeypatch.setattr(pod_survey, "free_bytes", lambda _: 10**12)
    found = folders(tmp_path, disks(""), RUNPOD_POD_ID="")
    assert found["output folder"].verdict == "ok"
    assert found["output folder"].said.endswith("; not on RunPod")
    assert "model cache" not in found


@pytest.mark.parametrize(
    ("free", "output", "state"),
    [
        (20 * 10**9, "ok", "ok"),
        (20 * 10**9 - 1, "warning", "ok"),
        (10**9, "warning", "ok"),
        (10**9 - 1, "warning", "warning"),
    ],
)
def test_a_disk_that_is_nearly_full_is_told(free, output, state, disks, tmp_path, monkeypatch):
    monkeypatch.setattr(pod_survey, "free_bytes", lambda _: free)
    found = folders(tmp_path, disks("ext4"))
    assert (found["output folder"].verdict, found["state folder"].verdict) == (output, state)


def test_a_state_folder_that_cannot_be_written_matters_where_the_row_lives_in_it(tmp_path, disks):
    workspace = disks("ext4")
    (tmp_path / "state").touch()
    found = folders(tmp_path, workspace)
    assert isinstance(found["state folder"].error, JobRefusedError)
    database = {
        "SUPABASE_URL": "https://abcdefghijkl.supabase.co",
        "SUPABASE_ANON_KEY": "sb_publishable_0123456789",
        "JOB_ID": "3f2b8c1e-5d4a-4b6f-9a7c-0d1e2f3a4b5c",
    }
    found = folders(tmp_path, workspace, **database)
    assert (found["state folder"].verdict, found["state folder"].error) == ("warning", None)


def test_an_output_folder_that_cannot_be_written_is_a_wrong_variable(tmp_path, disks):
    workspace = disks("ext4")
    (workspace / "out").touch()
    assert isinstance(folders(tmp_path, workspace)["output folder"].error, ConfigError)


@pytest.mark.parametrize(
    ("more", "verdict", "said"),
    [
        ({"RUNPOD_POD_ID": ""}, "ok", "not on RunPod: nothing is stopped"),
        ({"AGENT_ON_FINISH": "keep"}, "ok", "AGENT_ON_FINISH is keep: the pod costs until somebody ends it"),
        ({}, "warning", "after `run`: stop, but RunPod shows the pod to no key: There is no key"),
        ({"AGENT_ON_FINISH": "terminate"}, "warning", "AGENT_ON_FINISH is terminate, but RunPod shows the"),
    ],
)
def test_what_becomes_of_the_pod_is_said(more, verdict, said, tmp_path):
    environ = {"AGENT_STATE_DIR": str(tmp_path), "RUNPOD_POD_ID": "abc123", **more}
    check = pod_survey.release(load({key: value for key, value in environ.items() if value}))
    assert (check.verdict, check.said[: len(said)]) == (verdict, said)
    assert bool(check.cure) == (verdict == "warning")


@pytest.mark.parametrize(
    ("probe", "verdict", "said"),
    [
        (runpod.Probe("RUNNING", locked=False, because=""), "ok",
         "after `run`: stop; RunPod shows the pod (RUNNING) to RUNPOD_API_KEY"),
        (runpod.Probe("RUNNING", locked=True, because=""), "warning",
         "after `run`: stop, but the pod is locked"),
        (runpod.Probe(None, locked=False, because="403 Forbidden"), "warning",
         "after `run`: stop, but RunPod shows the pod to no key: 403 Forbidden"),
    ],
)  # fmt: skip
def test_what_runpod_says_of_the_pod_is_told(probe, verdict, said, tmp_path, monkeypatch):
    monkeypatch.setattr(runpod.RunPod, "status", lambda _: probe)
    environ = {
        "AGENT_STATE_DIR": str(tmp_path),
        "RUNPOD_POD_ID": "abc123",
        "RUNPOD_API_KEY": "rpa_0123456789",
    }
    check = pod_survey.release(load(environ))
    assert (check.verdict, check.said.partition(", which may")[0]) == (verdict, said)


def shown(answer):
    out = io.StringIO()
    show(answer, Console(file=out, width=120))
    return out.getvalue()


def test_a_person_sees_mark_finding_and_cure_and_no_secret():
    log.hide(["planted-secret"])
    answer = preflight.Preflight(
        [
            Check.fine("one", "is well"),
            Check.note("two", "the server said planted-secret", "Ask [bold]it[/bold] again."),
            Check.refused("three", HubAuthError("No.", hint="Make another.")),
        ]
    )
    answer.failed(
        HubAuthError("No.", hint="Make another."), code="hub-auth", message="No.", hint="Make another."
    )
    text = shown(answer)
    marks = [line.split("│")[1].strip() for line in text.splitlines() if "│" in line]
    assert marks == ["✓", "!", "", "✗", ""]
    assert "planted-secret" not in text
    assert "│ → Ask [bold]it[/bold] again. " in text
    assert "Ready." not in text
    assert answer.as_json()["ready"] is False
    assert answer.as_json()["checks"][2] == {
        "name": "three", "verdict": "error", "said": "No.", "cure": "Make another.", "code": "hub-auth",
    }  # fmt: skip


def test_of_a_configuration_that_cannot_be_read_there_is_no_table():
    assert shown(preflight.Preflight()) == ""
