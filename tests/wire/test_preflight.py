"""`preflight` against a Hub and a job database that enforce their rules: the truth, and nothing changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from huggingface_hub import set_client_factory
from huggingface_hub.utils._http import default_client_factory

from agent.config import load
from agent.errors import AgentError
from agent.jobs import probe
from agent.pod import runpod
from agent.preflight import Preflight, preflight
from agent.sandbox.hub.scopes import Scope
from agent.sandbox.loopback import Fault
from agent.sandbox.runpod import RunPodApi
from tests.conftest import ROOT, TOKEN

SOON_S = 0.5  # the patience of tests that meet a server which never answers
ALL, PUSH = "repo.write", "repo.content.write"
COMMAND = """
import sys
from agent import boundary
from agent.boundary import on_console
from agent.preflight import Preflight, preflight
from agent.preflight_view import show
as_json = "--json" in sys.argv
sys.exit(boundary.run(preflight, {}, Preflight(), as_json=as_json, show=on_console(show)))
"""


@dataclass
class Looked:
    """What a preflight found, by the name of each check, and the error it ended with."""

    answer: Preflight
    error: AgentError | None

    def __getitem__(self, name):
        [check] = [check for check in self.answer.checks if check.name == name]
        return check

    def __contains__(self, name):
        return any(check.name == name for check in self.answer.checks)

    @property
    def exit_code(self):
        return self.error.exit_code if self.error else 0

    @property
    def marks(self):
        return {check.name: check.verdict for check in self.answer.checks}


@pytest.fixture
def look(pod, hub, tmp_path):
    """Run a preflight of the pod in this process; whatever it finds, it only reads the Hub."""

    def run(*, patience_s=20.0, now=None, **environ):
        environ = pod.environ(tmp_path / "out", **environ)
        config = load({name: value for name, value in environ.items() if value})
        answer, error = Preflight(), None
        clock = {"now": now} if now else {}
        before = len(hub.requests)
        try:
            preflight(config, answer, patience_s=patience_s, **clock)
        except AgentError as raised:
            error = raised
        assert {request.method for request in hub.requests[before:]} <= {"GET"}
        return Looked(answer, error)

    yield run
    set_client_factory(default_client_factory)  # ours ends with a patience, which ended with the test


def test_all_is_well_with_a_new_token_for_one_repo(look, hub, app):
    hub.create_repo("ada/model", private=True)
    made = (datetime.now(UTC) - timedelta(days=3)).isoformat()
    scopes = [Scope("model", "ada/model", ("repo.content.read", PUSH))]
    hub.add_user("ada", token="hf_OneRepo", role="fineGrained", scopes=scopes, created_at=made)
    found = look(HF_TOKEN="hf_OneRepo", **app.environ(app.add_job()))
    assert found.error is None
    assert found.marks == dict.fromkeys(
        [
            "configuration", "token", "token age", "token rights", "token scope", "repo", "job row",
            "row writable", "row status", "output folder", "state folder", "end of the pod", "clock",
            "versions",
        ],
        "ok",
    )  # fmt: skip
    assert found["token"].said == "ada-fineGrained, a fine-grained token of ada"
    assert found["token age"].said == "3 days"
    assert found["token rights"].said == "the Hub opens the storage of ada/model to ada"
    assert found["versions"].said.startswith("agent 0.1.0, python 3.")
    assert found["clock"].said == "agrees with the Hub and the job database"


def fine(*scopes):
    return {"role": "fineGrained", "scopes": [Scope(*scope) for scope in scopes]}


TOKENS = {
    "write": {"role": "write"},
    "read": {"role": "read"},
    "all of ada": fine(("user", "ada", (ALL,))),
    "all of lab": fine(("org", "lab", (ALL,))),
    "pushes to ada": fine(("user", "ada", (PUSH,))),
    "one model": fine(("model", "ada/model", (PUSH,))),
    "another model": fine(("model", "ada/other", (ALL,))),
    "reads": fine(("user", "ada", ("repo.content.read",))),
}


@pytest.mark.parametrize("private", [True, None], ids=["private", "new"])
@pytest.mark.parametrize(
    ("kind", "repo_id", "may_if_it_exists", "may_create"),
    [
        ("write", "ada/model", "ok", "ok"),
        ("write", "lab/model", "ok", "ok"),
        ("write", "guild/model", "error", "error"),
        ("write", "club/model", "error", "ok"),  # a contributor writes only what is their own
        ("write", "bob/model", "error", "error"),
        ("read", "ada/model", "error", "error"),
        ("all of ada", "ada/model", "ok", "ok"),
        ("all of ada", "lab/model", "error", "error"),
        ("all of lab", "lab/model", "ok", "ok"),
        ("pushes to ada", "ada/model", "ok", "warning"),
        ("one model", "ada/model", "ok", "warning"),
        ("another model", "ada/model", "error", "error"),
        ("reads", "ada/model", "error", "error"),
    ],
)
def test_the_verdict_on_the_token_is_what_finalize_meets(
    kind, repo_id, may_if_it_exists, may_create, private, look, hub, pod, trained
):
    orgs = {"lab": "write", "guild": "read", "club": "contributor"}
    hub.add_user("ada", token="hf_Asked", orgs=orgs, **TOKENS[kind])
    if private is not None:
        hub.create_repo(repo_id, private=private)
    found = look(HF_TOKEN="hf_Asked", HF_REPO_NAME=repo_id)
    rights = found["token rights"]
    # A private repo that this token is not shown looks free.
    is_seen = private is not None and "free" not in found["repo"].said
    assert rights.verdict == (may_if_it_exists if is_seen else may_create), rights
    try:
        code = 0 if pod.finalize(trained("sft_lora"), HF_TOKEN="hf_Asked", HF_REPO_NAME=repo_id) else None
    except AgentError as refused:
        code = refused.exit_code
    assert code == {"ok": 0, "error": 12, "warning": 12}[rights.verdict]
    assert found.exit_code == {"ok": 0, "error": 12, "warning": 0}[rights.verdict]


def test_a_public_repo_that_the_token_may_only_read_is_told(look, hub):
    hub.create_repo("ada/model", private=False)
    hub.add_user("ada", token="hf_Other", **TOKENS["another model"])
    found = look(HF_TOKEN="hf_Other")
    assert (found.exit_code, found["token rights"].verdict) == (12, "error")
    assert found["token rights"].said == (
        "HF_TOKEN (ada-fineGrained) is fine-grained and may not write to ada/model."
    )


def test_a_contributor_may_write_what_they_created(look, hub, pod, trained):
    hub.add_user("ada", token=TOKEN, orgs={"club": "contributor"})
    pod.finalize(trained("sft_lora"), HF_REPO_NAME="club/mine")
    assert look(HF_REPO_NAME="club/mine")["token rights"].verdict == "ok"


def test_a_hub_without_xet_storage_is_judged_by_what_it_says_of_the_token(look, hub):
    hub.xet_enabled = False
    hub.create_repo("ada/model", private=True)
    assert look()["token rights"].said == "ada may write to ada/model"
    assert look(HF_TOKEN="hf_ReadOnlyTokenOfAda01234").exit_code == 12


def test_a_token_nobody_knows_ends_what_the_hub_is_asked(look, hub):
    found = look(HF_TOKEN="hf_unknown")
    assert (found.exit_code, found["hub"].verdict) == (12, "error")
    assert "401 Invalid credentials" in found["hub"].said
    assert found["hub"].cure.startswith("HF_TOKEN is wrong, expired or revoked")
    assert [request.path for request in hub.requests] == ["/api/whoami-v2"]
    assert found["job row"].verdict == "ok"


def test_without_a_token_the_hub_is_not_asked(look, hub):
    found = look(HF_TOKEN="")
    assert (found.exit_code, found["token"].verdict, hub.requests) == (0, "warning", [])
    assert found["token"].said.startswith("HF_TOKEN is not set: the upload would be skipped")


def test_the_name_is_made_in_the_namespace_of_the_token(look):
    found = look(HF_REPO_NAME="", TRAINING_CONFIG_NAME="My Chat!")
    assert found["repo"].said.startswith("ada/my-chat is free")


@pytest.mark.parametrize(("name", "cure"), [("ada/-bad-", "A name has letters"), ("", "Set HF_REPO_NAME")])
def test_a_repo_that_cannot_be_named_is_an_error_of_the_configuration(name, cure, look):
    found = look(HF_REPO_NAME=name)
    assert (found.exit_code, found["repo name"].verdict) == (10, "error")
    assert found["repo name"].cure.startswith(cure)
    assert "token age" in found


@pytest.mark.parametrize(("private", "wanted"), [(True, "false"), (False, "true")])
def test_the_other_visibility_is_refused_as_finalize_refuses_it(private, wanted, look, hub, pod, trained):
    hub.create_repo("ada/model", private=private)
    found = look(HF_REPO_PRIVATE=wanted)
    assert (found.exit_code, found["visibility"].verdict) == (13, "error")
    with pytest.raises(AgentError) as refused:
        pod.finalize(trained("sft_lora"), HF_REPO_PRIVATE=wanted)
    assert (found["visibility"].said, found["visibility"].cure) == (refused.value.message, refused.value.hint)


def test_a_public_repo_is_told_unless_it_was_asked_for(look, hub):
    hub.create_repo("ada/model", private=False)
    found = look()
    assert (found["visibility"].verdict, found.exit_code) == ("warning", 0)
    assert found["visibility"].said == "ada/model is public: everybody can download this model"
    assert "visibility" not in look(HF_REPO_PRIVATE="false")


def test_whose_model_will_be_replaced_is_said(look, hub, pod, app, trained):
    job, folder = app.add_job(), trained("sft_lora")
    hub.create_repo("ada/model", private=True)
    assert look()["repo"].said == "ada/model exists and holds no model"
    pod.finalize(folder, **app.environ(job))
    mine = look(**app.environ(job))["repo"]
    assert mine.verdict == "ok"
    assert mine.said.startswith("ada/model is ours: published at 20")
    assert mine.said.endswith(" for this job")
    assert look(**app.environ(app.add_job()))["repo"].said.endswith(f" for job {job.id}")
    hub.commit("ada/model", {"model.safetensors": b"x", "notes.txt": b"y"}, title="by hand")
    theirs = look()["repo"]
    assert theirs.verdict == "warning"
    assert "holds a model that this agent did not publish ('by hand' at 20" in theirs.said
    assert theirs.said.endswith("3 of its files will be replaced or deleted")
    branch = look(HF_REVISION="next")
    assert branch["repo"].said == "ada/model exists; its branch next will be made"
    assert branch["token rights"].said == "the Hub opens the storage of ada/model to ada"


def test_a_free_name_is_only_free_as_far_as_the_token_sees(look, hub):
    hub.create_repo("ada/hidden", private=True)
    hub.add_user("ada", token="hf_Fine", **TOKENS["one model"])
    hidden = look(HF_TOKEN="hf_Fine", HF_REPO_NAME="ada/hidden")["repo"].said
    assert hidden.startswith("ada/hidden is free, or private and not shown to this token; how much private")
    assert look(HF_REPO_NAME="ada/none")["repo"].said.startswith("ada/none is free; how much private storage")
    public = look(HF_REPO_NAME="ada/none", HF_REPO_PRIVATE="false")["repo"].said
    assert public == "ada/none is free; it will be public"


def test_private_storage_that_is_full_is_recognised_where_the_hub_says_so(look, hub):
    hub.full_private.add("ada")
    assert look().exit_code == 0, "of a repo that is not there yet it says nothing"
    hub.create_repo("ada/model", private=True)
    found = look()
    assert (found.exit_code, found["private storage"].verdict) == (13, "error")
    assert "Private repository storage limit reached" in found["private storage"].said
    assert found["private storage"].cure.startswith("Free private storage, upgrade the plan")


def test_a_storage_door_that_stays_shut_for_a_while_is_no_verdict(look, hub):
    hub.create_repo("ada/model", private=True)
    down = hub.faults.add(Fault("status", "xet-write-token", status=503))
    found = look(patience_s=SOON_S)
    assert down.fired
    assert (found.exit_code, found["token"].verdict) == (75, "ok")
    assert "the Hub answered 503" in found["hub"].said


STATUSES = {
    "pending": ({}, "ok", 0),
    "queued": ({}, "ok", 0),
    "running": ({}, "ok", 0),
    "paused": ({}, "ok", 0),
    "uploading": ({}, "ok", 0),
    "failed": ({"failure_stage": "publish"}, "ok", 0),
    "completed": ({}, "ok", 0),
    "cancelled": ({}, "error", 15),
}


def whole(app, job):
    """The row to the last system column, and how much is written elsewhere for it."""
    row = app.sql("select xmin::text, ctid::text, * from local_training_jobs where id = %s", job.id)[0]
    trail = app.sql("select to_regclass('public.model_upload_events') is not null as kept")[0]["kept"]
    events = app.sql("select count(*) as n from model_upload_events")[0]["n"] if trail else 0
    return row, events


@pytest.mark.parametrize("kind", ["app", "legacy_app"])
@pytest.mark.parametrize("status", STATUSES)
def test_a_row_is_found_writable_without_being_written(kind, status, look, request):
    app = request.getfixturevalue(kind)
    columns, verdict, code = STATUSES[status]
    if columns and kind == "legacy_app":
        columns = {"error_message": "Not published: the Hub was full"}
    progress = 100 if status == "completed" else 12.5
    job = app.add_job(status=status, progress=progress, **columns)
    before = whole(app, job)
    found = look(**app.environ(job))
    assert whole(app, job) == before
    assert (found["row status"].verdict, found.exit_code) == (verdict, code)
    writes = [(request.method, request.status) for request in app.rest.requests if request.method != "GET"]
    if status in {"completed", "cancelled"}:
        assert (writes, "row writable" in found) == ([], False)
    else:
        assert writes == [("PATCH", 400)]
        assert found["row writable"].said == "written with its own values, and taken back"
        assert ("job rights" in found) is (kind == "legacy_app")


def test_a_training_after_a_preflight_is_not_taken_for_a_lost_pod(look, app):
    job = app.add_job()
    app.sql("alter table local_training_jobs disable trigger guard_training_job")
    app.sql("update local_training_jobs set updated_at = now() - interval '1 day'")
    app.sql("alter table local_training_jobs enable trigger guard_training_job")
    assert look(**app.environ(job))["row writable"].verdict == "ok"
    assert app.sql("select * from mark_stale_jobs()") == []
    assert app.row(job.id)["heartbeat_at"] is None


def test_a_wrong_id_and_a_wrong_token_look_the_same_and_that_is_said(look, app):
    job, other = app.add_job(), app.add_job()
    environ = app.environ(job)
    by_token = look(**environ | {"JOB_TOKEN": other.token})
    by_id = look(**environ | {"JOB_ID": "3f2b8c1e-5d4a-4b6f-9a7c-0d1e2f3a4b5c"})
    for found in (by_token, by_id):
        assert (found.exit_code, found["job row"].verdict) == (15, "error")
        assert "JOB_ID or JOB_TOKEN is wrong, or the token expired: the database does not tell which" in (
            found["job row"].cure
        )
        assert "row status" not in found


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("drop policy agent_update on local_training_jobs", "can be seen but not changed"),
        ("revoke update (model_url) on local_training_jobs from anon", "42501"),
        ("revoke update (result_note) on local_training_jobs from anon", "42501"),
    ],
)
def test_a_right_that_is_missing_shows_before_the_training(harm, said, look, app):
    job = app.add_job()
    app.sql(harm)
    found = look(**app.environ(job))
    assert found.exit_code == 15
    assert said in found.error.message


def test_a_right_that_is_missing_on_a_table_of_today_shows_too(look, legacy_app):
    job = legacy_app.add_job()
    legacy_app.sql("revoke update on local_training_jobs from anon")
    legacy_app.sql("grant update (status, progress) on local_training_jobs to anon")
    found = look(**legacy_app.environ(job))
    assert found.exit_code == 15
    assert "42501" in found.error.message


def test_a_table_of_today_works_and_its_weakness_is_told(look, legacy_app):
    found = look(**legacy_app.environ(legacy_app.add_job()))
    assert (found.exit_code, found["job rights"].verdict) == (0, "warning")
    assert "anybody with the public key reads the token of every job" in found["job rights"].said


def test_a_database_that_cannot_take_a_write_back_is_not_written(look, app):
    body = json.dumps({"code": "PGRST122", "message": "Invalid preferences given with handling=strict"})
    old = app.rest.faults.add(Fault("status", "PATCH", status=400, body=body))
    found = look(**app.environ(app.add_job()))
    assert (old.fired, found.exit_code, found["row writable"].verdict) == (1, 0, "warning")
    assert found["row writable"].said.startswith("not tried")


def test_a_row_that_moves_at_that_moment_is_tried_again(look, app, monkeypatch):
    job, take_back = app.add_job(status="pending"), probe._Probe.take_back
    tried = []

    def meanwhile(self, row, job_id):
        tried.append(row["status"])
        if len(tried) == 1:
            app.change(job.id, status="running")
        return take_back(self, row, job_id)

    monkeypatch.setattr(probe._Probe, "take_back", meanwhile)
    assert look(**app.environ(job))["row writable"].verdict == "ok"
    assert (tried, app.row(job.id)["status"]) == (["pending", "running"], "running")


def test_a_completed_row_is_compared_with_the_address_the_model_will_have(look, app, hub):
    url = f"{hub.endpoint}/ada/model"
    job = app.add_job(status="completed", progress=100, model_url=url)
    assert look(**app.environ(job))["row status"].verdict == "warning"
    found = look(HF_REPO_NAME="ada/another", **app.environ(job))
    assert (found.exit_code, found["row status"].verdict) == (15, "error")


def test_a_local_row_is_looked_at_too(look, pod):
    job_id = "3f2b8c1e-5d4a-4b6f-9a7c-0d1e2f3a4b5c"
    assert look(JOB_ID=job_id)["row status"].said == "pending"
    path = pod.state_dir / job_id / "row.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"id": job_id, "status": "cancelled"}))
    found = look(JOB_ID=job_id)
    assert (found.exit_code, found["row status"].said) == (15, f"Job {job_id} was cancelled.")


def test_what_the_configuration_warns_of_is_in_the_table(look, app):
    environ = app.environ(app.add_job()) | {
        "SUPABASE_SERVICE_ROLE_KEY": app.rest.secret_key,
        "AGENT_STALS": "1",
    }
    found = look(**environ)
    warned = [check.said for check in found.answer.checks if check.name == "configuration"]
    assert [said.split(" ")[0] for said in warned] == ["AGENT_STALS", "SUPABASE_SERVICE_ROLE_KEY"]
    assert found.marks["configuration"] == "warning"


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (["hub"], 75),
        (["row"], 76),
        (["hub", "row"], 75),
        (["token", "row"], 12),
        (["token", "id"], 12),
        (["id"], 15),
        (["folder", "token", "id"], 10),
    ],
)
def test_the_first_refusal_in_the_order_of_a_finalize_is_the_exit_code(
    broken, code, look, hub, app, tmp_path
):
    (tmp_path / "file").touch()
    wrong = {
        "hub": {"HF_ENDPOINT": hub.closed_endpoint},
        "token": {"HF_TOKEN": "hf_unknown"},
        "row": {"SUPABASE_URL": app.rest.closed_endpoint},
        "id": {"JOB_ID": "3f2b8c1e-5d4a-4b6f-9a7c-0d1e2f3a4b5c"},
        "folder": {"OUTPUT_DIR": str(tmp_path / "file" / "out")},
    }
    environ = app.environ(app.add_job())
    for name in broken:
        environ |= wrong[name]
    found = look(patience_s=2 * SOON_S, **environ)
    assert found.exit_code == code
    assert list(found.marks.values()).count("error") == len(broken), found.marks


def test_servers_that_hang_do_not_hang_the_preflight(look, hub, app):
    """The client of the job database alone would wait 15 seconds for each answer."""
    stuck = hub.faults.add(Fault("hang")), app.rest.faults.add(Fault("hang"))
    environ, began = app.environ(app.add_job()), time.monotonic()
    found = look(patience_s=SOON_S, **environ)
    assert time.monotonic() - began < 10
    assert [fault.fired for fault in stuck] == [1, 1]
    assert (found.exit_code, found["hub"].verdict, found["job row"].verdict) == (75, "error", "error")
    assert found["job row"].said == f"{app.url} did not answer in time."
    assert found["output folder"].verdict == "ok"


def test_one_that_hangs_holds_up_nobody_else(look, hub, app):
    stuck = hub.faults.add(Fault("hang", "commits"))
    hub.create_repo("ada/model", private=True)
    found = look(patience_s=4 * SOON_S, **app.environ(app.add_job()))
    assert (stuck.fired, found.exit_code) == (1, 75)
    assert found["token"].verdict == found["row writable"].verdict == "ok"


def test_a_server_that_stumbles_is_asked_again(look, hub, app):
    stumbles = (
        hub.faults.add(Fault("status", nth=0, status=502)),
        app.rest.faults.add(Fault("reset", nth=0)),
    )
    found = look(**app.environ(app.add_job()))
    assert [fault.fired for fault in stumbles] == [1, 1]
    assert found.error is None


@pytest.mark.parametrize("body", ["[]", "{}", '"ada"', '{"name": "ada", "orgs": 7}', "<html>", ""])
def test_an_answer_of_another_shape_is_no_verdict(body, look, hub):
    odd = hub.faults.add(Fault("status", "whoami", status=200, body=body))
    found = look(patience_s=SOON_S)
    assert odd.fired
    assert (found.exit_code, found["hub"].verdict) == (75, "error")


@pytest.mark.parametrize(("off_s", "verdict"), [(-120, "warning"), (0, "ok"), (120, "warning")])
def test_our_clock_is_compared_with_the_servers(off_s, verdict, look, app):
    found = look(
        now=lambda: datetime.now(UTC) + timedelta(seconds=off_s), **app.environ(app.add_job(status="pending"))
    )
    assert (found["clock"].verdict, found.exit_code) == (verdict, 0)
    if off_s:
        assert ("ahead of" if off_s > 0 else "behind") in found["clock"].said


@pytest.fixture
def runpods(monkeypatch):
    """A RunPod with this pod; none of its pods is ever ended."""
    with RunPodApi() as api:
        place = api.endpoint
        monkeypatch.setattr(runpod, "APIS", runpod.Apis(f"{place}/v2", f"{place}/graphql", f"{place}/v1"))
        api.add_pod("abc123")
        yield api
    assert (api.pods["abc123"].stops, api.pods["abc123"].terminates, api.catastrophes) == (0, 0, [])


POD = {"RUNPOD_POD_ID": "abc123", "RUNPOD_API_KEY": "rpa_PodScopedKey9876543210"}


def test_on_runpod_the_pod_is_looked_at_and_nothing_ordered(look, runpods):
    runpods.add_key(POD["RUNPOD_API_KEY"])
    found = look(**POD)
    assert (found.exit_code, found["end of the pod"].verdict) == (0, "ok")
    assert found["end of the pod"].said.startswith("after `run`: stop; RunPod shows the pod (RUNNING) to")
    assert "model cache" in found
    assert [(request.method, request.path) for request in runpods.requests] == [("GET", "/v2/pods/abc123")]


def test_a_pod_that_is_locked_and_one_that_no_key_sees_are_told(look, runpods):
    unseen = look(**POD)["end of the pod"]
    assert (unseen.verdict, unseen.cure.split(" ")[:2]) == ("warning", ["Set", "RUNPOD_TERMINATE_API_KEY"])
    assert unseen.said.startswith("after `run`: stop, but RunPod shows the pod to no key: ")
    runpods.add_key(POD["RUNPOD_API_KEY"])
    runpods.pods["abc123"].locked = True
    assert look(**POD)["end of the pod"].said == "after `run`: stop, but the pod is locked"


def test_a_pod_that_is_kept_needs_no_key(look, runpods):
    assert look(AGENT_ON_FINISH="keep", **POD)["end of the pod"].verdict == "ok"
    assert runpods.requests == []


def command(pod, folder, *args, **more):
    environ = {"PATH": os.environ["PATH"], "HOME": str(pod.state_dir), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *args],
        env=environ | pod.environ(folder, **more),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("level", ["info", "debug"])
@pytest.mark.parametrize("args", [(), ("--json",)])
def test_no_secret_is_in_anything_it_prints(args, level, pod, hub, app, tmp_path):
    job, service_key = app.add_job(), app.rest.secret_key
    hub.create_repo("ada/model", private=True)
    echo = json.dumps({"message": f"no {job.token} {TOKEN}"})
    said = app.rest.faults.add(Fault("status", "PATCH", status=403, body=echo))
    more = app.environ(job) | {"SUPABASE_SERVICE_ROLE_KEY": service_key, "AGENT_LOG_LEVEL": level}
    ran = command(pod, tmp_path / "out", *args, **more)
    assert (ran.returncode, said.fired) == (15, 1), ran.stderr
    everything = ran.stdout + ran.stderr
    assert [
        secret for secret in (TOKEN, job.token, service_key, app.key, "xet_") if secret in everything
    ] == []
    assert "[hidden]" in ran.stdout
    assert "Traceback" not in everything


def test_the_command_prints_one_object(pod, hub, app, tmp_path):
    ran = command(pod, tmp_path / "out", "--json", **app.environ(app.add_job()))
    answer = json.loads(ran.stdout)
    assert (ran.returncode, answer["ready"], answer["error"]) == (0, True, None)
    assert {check["verdict"] for check in answer["checks"]} == {"ok", "warning"}
    ran = command(pod, tmp_path / "out", "--json", HF_TOKEN="hf_unknown")
    answer = json.loads(ran.stdout)
    assert (ran.returncode, answer["ready"], answer["error"]["code"]) == (12, False, "hub-auth")
    assert [check["code"] for check in answer["checks"] if check["code"]] == ["hub-auth"]


def test_a_wrong_variable_is_told_before_anybody_is_asked(pod, hub, tmp_path):
    ran = command(pod, tmp_path / "out", "--json", JOB_ID="42")
    answer = json.loads(ran.stdout)
    assert (ran.returncode, answer["checks"], answer["error"]["code"]) == (10, [], "config")
    assert hub.requests == []


def test_a_person_sees_a_table_and_the_first_cure_again_at_the_end(pod, hub, app, tmp_path):
    ran = command(pod, tmp_path / "out", AGENT_LOG_FORMAT="console", HF_TOKEN="hf_ReadOnlyTokenOfAda01234")
    assert ran.returncode == 12
    [row] = [line for line in ran.stdout.splitlines() if "token rights" in line]
    assert row.startswith("│ ✗ │ token rights")
    assert "HF_TOKEN (ada-read) is read-only." in row
    assert "hub-auth (exit 12): Make one that may write the contents of ada/model" in ran.stderr
    assert "Ready." not in ran.stdout
