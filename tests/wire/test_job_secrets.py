"""Token, keys and JWT of the job database: planted everywhere, searched for everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.sandbox.loopback import Fault
from tests.conftest import ROOT

JOB_TOKEN = "PlantedTokenOfTheJob-0123456789_abcdefghijk"
OTHER_ROW = "TokenOfAnotherRowThatNobodyToldUs"
ECHO = (
    '{"code":"23514","message":"no %s","details":"Failing row contains (%s, ' + OTHER_ROW + ')","hint":"%s"}'
)


def quiet(app, job):
    return {}


def wrong_token(app, job):
    app.sql("update local_training_jobs set job_token = repeat('x', 43)")
    return {}


def echoing_refusal(app, job):
    """A server that repeats what it was sent, in every field of its answer."""
    app.rest.faults.add(Fault("status", match="PATCH", status=400, body=ECHO % ((JOB_TOKEN,) * 3)))
    return {}


def silent(app, job):
    app.rest.faults.add(Fault("reset", match="PATCH"))
    return {"AGENT_STALL_S": "0.5"}


def bug(app, job):
    broken = (
        f"def broken(*a, **k): raise ZeroDivisionError('planted {JOB_TOKEN} and {app.rest.service_key}')\n"
    )
    return {"sitecustomize": f"import agent.publication as p\n{broken}p.make = broken\n"}


SCENES = {quiet: 0, wrong_token: 15, echoing_refusal: 15, silent: 76, bug: 70}


@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_no_secret_of_the_row_is_ever_shown(scene, style, app, pod, hub, trained, tmp_path):
    job = app.add_job(token=JOB_TOKEN)
    more = app.environ(job) | scene(app, job)
    secrets = [JOB_TOKEN, OTHER_ROW, app.rest.anon_key, app.rest.service_key, app.rest.anon_key.split(".")[1]]
    if patch := more.pop("sitecustomize", None):
        (tmp_path / "broken").mkdir()
        (tmp_path / "broken" / "sitecustomize.py").write_text(patch)
        more["PYTHONPATH"] = f"{tmp_path / 'broken'}:{ROOT}"
    process = pod.command(
        trained("sft_lora"),
        **more | {"SUPABASE_ANON_KEY": app.rest.anon_key, "SUPABASE_SERVICE_KEY": app.rest.service_key},
        AGENT_LOG_LEVEL="debug",
        AGENT_LOG_FORMAT=style,
    )
    command_line = Path(f"/proc/{process.pid}/cmdline").read_text()
    out, err = process.communicate(timeout=60)
    assert process.returncode == SCENES[scene], err
    assert "SUPABASE_SERVICE_KEY opens every row" in err
    assert app.rest.requests
    assert {request.headers["x-job-token"] for request in app.rest.requests} == {JOB_TOKEN}

    kept = "".join(path.read_text(errors="replace") for path in pod.state_dir.rglob("*") if path.is_file())
    urls = "".join(f"{request.path}?{request.query}" for request in [*app.rest.requests, *hub.requests])
    tree = hub.repo("ada/model").commits("main")[0].tree
    published = b"".join(hub.read("ada/model", path) for path in tree).decode(errors="replace")
    row = {name: value for name, value in app.row(job.id).items() if not name.startswith("job_token")}
    events = app.sql("select * from model_upload_events")
    for place in (out, err, command_line, kept, urls, published, str(row), str(events)):
        assert not [secret for secret in secrets if secret in place]


def test_on_a_legacy_table_no_url_carries_the_token(legacy_app, pod, hub, trained):
    job = legacy_app.add_job(token=JOB_TOKEN)
    process = pod.command(trained("sft_lora"), **legacy_app.environ(job), AGENT_LOG_LEVEL="debug")
    out, err = process.communicate(timeout=60)
    assert json.loads(out)["job"]["status"] == "completed"
    assert "no per-job rights" in err
    assert JOB_TOKEN not in out + err
    assert not [request for request in legacy_app.rest.requests if JOB_TOKEN in request.path + request.query]
