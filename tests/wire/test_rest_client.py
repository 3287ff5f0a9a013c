"""The official client against the embedded REST service: what its caller sees of every answer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import pytest
from postgrest.exceptions import APIError

from agent.sandbox.jobs_app import JobsApp
from agent.sandbox.loopback import Fault
from agent.sandbox.rest import misfortunes
from supabase import ClientOptions, create_client

TABLE = "local_training_jobs"
SHOWN = "id,status"


@pytest.fixture(scope="module")
def platform(cluster):
    with JobsApp(cluster) as running:
        yield running


@pytest.fixture
def app(platform):
    """One platform for all tests here; each has rows of its own."""
    yield platform
    platform.rest.faults.clear()


@pytest.fixture(scope="module")
def transport():
    """One connection pool for all clients, as the client's documentation recommends."""
    with httpx.Client(timeout=5, follow_redirects=False) as opened:
        yield opened


@pytest.fixture
def connect(app, transport):
    """Make a client: `connect(key, header=value)`; its own retries are off."""

    def make(key=None, url=None, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        options = ClientOptions(
            httpx_client=transport,
            headers=headers,
            auto_refresh_token=False,
            persist_session=False,
            postgrest_client_retry=False,
        )
        return create_client(url or app.url, key or app.key, options)

    return make


@pytest.fixture
def job(app):
    return app.add_job(progress=10)


@pytest.fixture
def table(connect, job):
    """The table as the pod of the job sees it."""
    return connect(x_job_token=job.token).table(TABLE)


def patch(table, job, **changes):
    return table.update(changes or {"status": "uploading"}).eq("id", job.id).select(SHOWN)


def refused(builder):
    with pytest.raises(APIError) as refusal:
        builder.execute()
    return refusal.value


# How errors surface


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"user_id": None}, "42501"),
        ({"no_such": 1}, "PGRST204"),
        ({"progress": "much"}, "22P02"),
        ({"status": "completed", "progress": 99}, "23514"),
        ({"status": "done"}, "PT409"),
    ],
)
def test_an_error_of_postgrest_or_postgresql_keeps_its_four_fields(table, job, changes, code):
    error = refused(patch(table, job, **changes))
    assert error.code == code
    assert error.message
    assert set(error.json()) == {"code", "message", "details", "hint"}


def test_the_details_of_a_trigger_reach_the_caller(app, table, job):
    app.change(job.id, status="cancelled")
    error = refused(patch(table, job, status="completed", progress=100))
    assert (error.code, error.message, error.hint) == (
        "PT409",
        "job is in a terminal state",
        "terminal states are immutable",
    )
    assert '"status" : "cancelled"' in error.details


def test_an_error_of_the_gateway_has_no_code(app, connect, table, job):
    error = refused(connect("sb_publishable_wrong").table(TABLE).select("id"))
    assert (error.code, error.message) == (None, "Invalid API key")
    assert error.hint == "Double check your Supabase `anon` or `service_role` API key."
    app.rest.faults.add(misfortunes.paused_project())
    error = refused(patch(table, job))
    assert (error.code, error.message) == (None, "Project paused")


@pytest.mark.parametrize(
    ("fault", "code", "message", "details"),
    [
        (misfortunes.html_502(), "502", "Bad Gateway", "502 Bad Gateway"),
        (Fault("status", status=503, body=""), "503", "Service Unavailable", None),
        (Fault("status", status=500, body="[1]"), "500", "Internal Server Error", "[1]"),
        (Fault("status", status=500, body='{"code": 7}'), "500", "Internal Server Error", '{"code": 7}'),
        (
            Fault("status", status=503, body="x", headers={"Proxy-Status": "PostgREST; error=PGRST002"}),
            "PGRST002",
            "Service Unavailable",
            "x",
        ),
        (misfortunes.redirect(302, "/elsewhere"), "302", "Found", "<html></html>"),
        (misfortunes.schema_reload(), "PGRST002", "Could not query the database for the schema cache", None),
        (misfortunes.rate_limited(3), None, "API rate limit exceeded", None),
        (Fault("status", status=400, body='{"error": "x"}'), None, None, None),
    ],
)
def test_an_answer_of_somebody_else_is_an_error_too(app, table, job, fault, code, message, details):
    fault = app.rest.faults.add(replace(fault))
    error = refused(patch(table, job))
    assert error.code == code
    assert message is None if error.message is None else error.message.startswith(message)
    assert error.details is None if details is None else details in error.details
    assert fault.fired == 1


@pytest.mark.parametrize(
    ("fault", "data"),
    [
        (misfortunes.html_200(), "<html>"),
        (Fault("status", status=200, body='[{"id": "'), '[{"id": "'),
        (Fault("status", status=200, body="{}"), {}),
        (Fault("status", status=200, body=""), []),
    ],
)
def test_a_success_of_somebody_else_is_no_error(app, table, job, fault, data):
    fault = app.rest.faults.add(replace(fault))
    answer = patch(table, job).execute()
    assert answer.data[: len(data)] == data if isinstance(data, str) else answer.data == data
    assert app.row(job.id)["status"] == "running"
    assert fault.fired == 1


@pytest.mark.parametrize(
    ("fault", "raised", "status"),
    [
        (Fault("reset"), httpx.TransportError, "running"),
        (Fault("lost"), httpx.TransportError, "uploading"),
        (Fault("truncated"), httpx.RemoteProtocolError, "uploading"),
    ],
)
def test_a_broken_connection_is_an_error_of_the_transport(app, table, job, fault, raised, status):
    fault = app.rest.faults.add(replace(fault))
    with pytest.raises(raised):
        patch(table, job).execute()
    assert (fault.fired, app.row(job.id)["status"]) == (1, status)


def test_nobody_there_is_an_error_of_the_transport(app, connect):
    with pytest.raises(httpx.ConnectError):
        connect(url=app.rest.closed_endpoint).table(TABLE).select("id").execute()


def test_silence_is_an_error_of_the_transport(app, job):
    fault = app.rest.faults.add(Fault("hang"))
    with httpx.Client(timeout=0.1) as impatient:
        options = ClientOptions(httpx_client=impatient, auto_refresh_token=False, persist_session=False)
        client = create_client(app.url, app.key, options)
        with pytest.raises(httpx.ReadTimeout):
            patch(client.table(TABLE), job).execute()
    assert fault.fired == 1


def test_a_write_is_never_repeated_by_itself(app, transport, job):
    """Whatever is the default for reads."""
    options = ClientOptions(httpx_client=transport, auto_refresh_token=False, persist_session=False)
    fault = app.rest.faults.add(misfortunes.schema_reload())
    refused(patch(create_client(app.url, app.key, options).table(TABLE), job))
    assert fault.fired == 1


# What an update returns


def test_an_update_without_a_row_is_a_success(app, connect, table, job):
    assert patch(connect(x_job_token="x" * 43).table(TABLE), job).execute().data == []
    assert patch(table, job).eq("status", "queued").execute().data == []
    assert app.row(job.id)["status"] == "running"


def test_every_column_is_wanted_unless_some_are_selected(table, job):
    assert refused(table.update({"status": "uploading"}).eq("id", job.id)).code == "42501"
    assert patch(table, job).execute().data == [{"id": job.id, "status": "uploading"}]


def test_a_minimal_answer_shows_only_in_its_count_whether_it_did_anything(table, job):
    def write(job_id, **options):
        return table.update({"progress": 11}, returning="minimal", **options).eq("id", job_id).execute()

    nobody = "00000000-0000-0000-0000-000000000000"
    assert [write(one).data for one in (job.id, nobody)] == [[], []]
    assert [write(one).count for one in (job.id, nobody)] == [None, None]
    assert [write(one, count="exact").count for one in (job.id, nobody)] == [1, 0]


def test_a_single_row_comes_as_an_object_and_none_is_an_error(app, table, job):
    assert patch(table, job).single().execute().data == {"id": job.id, "status": "uploading"}
    other = app.add_job()
    error = refused(patch(table, other).single())
    assert (error.code, error.details) == ("PGRST116", "The result contains 0 rows")


def test_perhaps_a_single_row_is_nothing_or_an_object(table, job):
    assert table.select(SHOWN).eq("status", "queued").maybe_single().execute() is None
    answer = table.select(SHOWN).eq("id", job.id).maybe_single().execute()
    assert answer.data == {"id": job.id, "status": "running"}


def test_more_rows_than_one_are_too_many_before_or_after_the_commit(app, connect, job):
    """single() fails in the database and rolls back; maybe_single() fails in the client, too late."""
    app.add_job()
    table = connect(app.rest.secret_key).table(TABLE)
    every = table.update({"loss": 1}).neq("status", "done").select("id")
    assert refused(every.single()).code == "PGRST116"
    assert app.row(job.id)["loss"] is None
    assert (
        refused(table.update({"loss": 1}).neq("status", "done").select("id").max_affected(1)).code
        == "PGRST124"
    )
    assert app.row(job.id)["loss"] is None
    assert refused(table.update({"loss": 1}).neq("status", "done").select("id").maybe_single()).code == "406"
    assert app.row(job.id)["loss"] == 1


def test_an_update_of_everything_is_refused_and_one_of_nothing_is_nothing(table):
    error = refused(table.update({"progress": 11}).select("id"))
    assert (error.code, error.message) == ("21000", "UPDATE requires a WHERE clause")
    assert table.update({}).select("id").execute().data == []


def test_none_is_compared_as_a_text(table):
    assert refused(table.select("id").eq("user_id", None)).code == "22P02"
    assert table.select("id").is_("completed_at", None).execute().data


def test_filters_mean_what_they_say(app, table, job):
    def found(builder):
        return [row["id"] for row in builder.execute().data]

    app.change(job.id, error_message='a "quoted", odd (one)')
    mine = [job.id]
    assert found(table.select("id").in_("status", ["running", "a,b", 'c"d'])) == mine
    assert found(table.select("id").in_("error_message", ["x", 'a "quoted", odd (one)'])) == mine
    assert found(table.select("id").neq("status", "failed")) == mine
    assert found(table.select("id").not_.in_("status", ["failed"])) == mine
    assert found(table.select("id").or_("status.eq.failed,and(progress.gte.10,id.not.is.null)")) == mine
    assert found(table.select("id").ilike("model_name", "M*").order("id").limit(1)) == mine
    assert found(table.select("id").neq("model_url", "x")) == []
    assert table.select("id", count="exact").execute().count == 1
    assert table.select("id", count="exact", head=True).execute().count == 1


def test_of_many_who_compare_and_set_one_wins(app, table, job):
    def claim(attempt):
        changes = {"status": "uploading", "upload_attempt": attempt}
        builder = table.update(changes).eq("id", job.id).in_("status", ["pending", "running"])
        return builder.select("upload_attempt").execute().data

    with ThreadPoolExecutor(6) as threads:
        won = [rows for rows in threads.map(claim, range(6)) if rows]
    assert won == [[{"upload_attempt": app.row(job.id)["upload_attempt"]}]]


def test_a_repeated_event_is_written_once(app, connect, job):
    events = connect(x_job_token=job.token).table("model_upload_events")
    event = {"job_id": job.id, "event_key": "k", "event": "started"}
    for _ in range(2):
        keys = {"on_conflict": "job_id,event_key", "ignore_duplicates": True}
        assert events.upsert(event, returning="minimal", **keys).execute().data == []
    assert len(app.sql("select id from model_upload_events where job_id = %s", job.id)) == 1
    error = refused(events.insert(event, returning="minimal"))
    assert error.code == "23505"


# Headers and keys


def test_the_headers_of_the_options_reach_the_policies_and_the_key_is_sent_twice(app, table, job):
    assert table.select("id").execute().data == [{"id": job.id}]
    sent = app.rest.requests[-1].headers
    assert sent["x-job-token"] == job.token
    assert (sent["apikey"], sent["authorization"]) == (app.key, f"Bearer {app.key}")
    assert (sent["accept-profile"], app.rest.requests[-1].user) == ("public", "anon")


def test_a_token_in_the_options_replaces_the_key_as_authorization(app, connect, job):
    owner = connect(Authorization=f"Bearer {app.rest.jwt('authenticated', sub=app.owner)}").table(TABLE)
    assert owner.select("id").eq("id", job.id).execute().data == [{"id": job.id}]
    sent = app.rest.requests[-1].headers
    assert sent["apikey"] == app.key
    assert sent["authorization"] != f"Bearer {app.key}"
    assert owner.update({"status": "cancelled"}).eq("id", job.id).select(SHOWN).execute().data
    assert refused(owner.update({"status": "completed"}).eq("id", job.id).select(SHOWN)).code == "PT409"


@pytest.mark.parametrize(
    ("key", "rows"), [("publishable_key", 0), ("anon_key", 0), ("secret_key", 1), ("service_key", 1)]
)
def test_every_kind_of_key_opens_what_its_role_may_see(app, connect, job, key, rows):
    table = connect(getattr(app.rest, key)).table(TABLE)
    assert len(table.select("id").eq("id", job.id).execute().data) == rows


def test_a_url_with_a_path_has_no_route(app, connect):
    error = refused(connect(url=f"{app.url}/rest/v1").table(TABLE).select("id"))
    assert error.code == "PGRST125"


def test_functions_are_called_by_name(app, connect):
    app.sql(
        "create function complete(job uuid, patch json default '{}') returns json stable language sql as"
        " $$ select json_build_object('job', job, 'keys', patch) $$"
    )
    app.rest.refresh()
    client, job = connect(), "00000000-0000-0000-0000-000000000000"
    assert client.rpc("complete", {"job": job, "patch": {"a": 1}}).execute().data == {
        "job": job,
        "keys": {"a": 1},
    }
    assert client.rpc("complete", {"job": job}, get=True).execute().data == {"job": job, "keys": {}}
    assert refused(client.rpc("complete", {"jab": job})).code == "PGRST202"
