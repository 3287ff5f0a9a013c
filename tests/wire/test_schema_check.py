"""`migrations --check`: the pod finds out by its own rights what the job database is missing."""

from __future__ import annotations

import json

import pytest

from agent import migrations
from agent.config import load
from agent.errors import ConfigError, JobRefusedError, JobUnreachableError
from agent.retry import Patience
from agent.sandbox.loopback import Fault
from agent.schema_check import SchemaCheck, check_database

VERSIONS = [step.version for step in migrations.load()]


def checked(pod, folder, **environ):
    """What the check says, and the error that it ends with."""
    answer, clock = SchemaCheck(), pod.clock
    patience = Patience(60, clock=clock, sleep=clock.sleep, jitter=lambda: 0.0)
    config = load({name: value for name, value in pod.environ(folder, **environ).items() if value})
    try:
        check_database(config, answer, patience)
    except (ConfigError, JobRefusedError, JobUnreachableError) as error:
        return answer, error
    return answer, None


def roll_back(app, *names):
    with app.connect() as owner:
        owner.autocommit = True
        for step in reversed(migrations.load()):
            if step.name.partition("_")[2] in names:
                owner.execute(step.rollback.encode())


def test_a_database_with_all_of_them_is_in_order(app, pod, tmp_path):
    job = app.add_job()
    answer, error = checked(pod, tmp_path, **app.environ(job))
    assert (error, answer.missing, sorted(answer.applied)) == (None, [], VERSIONS)
    assert (answer.row.id, answer.row.status) == (job.id, "running")


def test_a_table_of_today_misses_all_and_works(legacy_app, pod, tmp_path):
    job = legacy_app.add_job()
    before = legacy_app.row(job.id)
    answer, error = checked(pod, tmp_path, **legacy_app.environ(job))
    assert isinstance(error, JobRefusedError)
    assert error.message == f"None of the {len(VERSIONS)} migrations is in force in {legacy_app.url}."
    assert [step.version for step in answer.missing] == VERSIONS
    assert answer.row.status == "running"
    assert legacy_app.row(job.id) == before


@pytest.mark.parametrize("name", ["job_token_index", "upload_events", "stale_jobs", "last_words"])
def test_one_that_is_missing_is_named_with_what_does_not_work_without_it(name, app, pod, tmp_path):
    job = app.add_job()
    roll_back(app, name)
    app.rest.refresh()
    answer, error = checked(pod, tmp_path, **app.environ(job))
    assert error.message == f"Not every one of the {len(VERSIONS)} migrations is in force in {app.url}."
    [missing] = answer.missing
    assert missing.name.partition("_")[2] == name
    assert missing.without in json.dumps(answer.as_json(), ensure_ascii=False).replace('\\"', '"')


def test_what_somebody_switched_off_later_is_missing_again(app, pod, tmp_path):
    """Told from what the database is, not from a record of what was once run."""
    job = app.add_job()
    app.sql("alter table local_training_jobs disable trigger guard_training_job")
    app.sql("grant select on local_training_jobs to anon")
    answer, error = checked(pod, tmp_path, **app.environ(job))
    assert error
    assert [step.name.partition("_")[2] for step in answer.missing] == ["row_rights", "row_rules"]


def test_a_token_that_opens_no_row_is_told_apart_from_missing_migrations(app, pod, tmp_path):
    job = app.add_job()
    answer, error = checked(pod, tmp_path, **app.environ(job) | {"JOB_TOKEN": "x" * 43})
    assert (answer.missing, answer.row) == ([], None)
    assert "has no row" in error.message


@pytest.mark.parametrize("unset", ["SUPABASE_URL", "JOB_ID"])
def test_without_a_job_database_there_is_nothing_to_check(unset, app, pod, tmp_path):
    job = app.add_job()
    environ = app.environ(job) | {unset: ""}
    environ |= {"SUPABASE_ANON_KEY": ""} if unset == "SUPABASE_URL" else {}
    answer, error = checked(pod, tmp_path, **environ)
    assert isinstance(error, ConfigError)
    assert (answer.applied, app.rest.requests) == (None, [])


def test_a_database_that_does_not_answer_is_no_verdict(app, pod, tmp_path):
    job = app.add_job()
    down = app.rest.faults.add(Fault("status", status=503))
    answer, error = checked(pod, tmp_path, **app.environ(job))
    assert isinstance(error, JobUnreachableError)
    assert (answer.applied, down.fired) == (None, 4)
    assert {one["applied"] for one in answer.as_json()["migrations"]} == {None}


@pytest.mark.parametrize("body", ['"yes"', "{}", '[{"version": "x"}]', "<html></html>", "[1]"])
def test_an_answer_of_another_shape_is_no_verdict(body, app, pod, tmp_path):
    job = app.add_job()
    app.rest.faults.add(Fault("status", match="agent_migrations", status=200, body=body))
    answer, error = checked(pod, tmp_path, **app.environ(job))
    assert isinstance(error, JobUnreachableError)
    assert answer.applied is None


@pytest.mark.parametrize(("kind", "code"), [("app", 0), ("legacy_app", 15)])
def test_the_command_tells_a_program_by_its_exit_code_and_one_object(kind, code, request, pod, tmp_path):
    running = request.getfixturevalue(kind)
    job = running.add_job()
    process = pod.command(tmp_path, "migrations", "--check", "--json", **running.environ(job))
    out, _ = process.communicate(timeout=60)
    answer = json.loads(out)
    assert process.returncode == code
    assert {one["applied"] for one in answer["migrations"]} == {code == 0}
    assert (answer["job"]["status"], answer["error"] is None) == ("running", code == 0)
    assert job.token not in out
