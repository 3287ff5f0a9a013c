from __future__ import annotations

import base64
import json
import re

import pytest

from agent.config import load
from agent.database_config import filled_in, is_service_key, project_url
from agent.errors import ConfigError

JOB = "6f1c2a54-9d0e-4a57-8c11-0123456789ab"
TOKEN = "planted-token-of-the-job-0123456789-abcdefghij"
WHOLE = {
    "SUPABASE_URL": "https://abcdefghijkl.supabase.co",
    "SUPABASE_ANON_KEY": "sb_publishable_planted",
    "JOB_ID": JOB,
    "JOB_TOKEN": TOKEN,
}


def jwt(**claims):
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts) + ".c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("https://abcdefghijkl.supabase.co", "https://abcdefghijkl.supabase.co"),
        ("https://abcdefghijkl.supabase.co/", "https://abcdefghijkl.supabase.co"),
        ("http://127.0.0.1:54321", "http://127.0.0.1:54321"),
        ("http://kong:8000//", "http://kong:8000"),
    ],
)
def test_a_projects_address_loses_its_slash_and_nothing_else(given, url):
    assert project_url(given) == url


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("https://abc.supabase.co/rest/v1", "without /rest/v1: https://abc.supabase.co"),
        ("https://abc.supabase.co/rest/v1/", "without /rest/v1: https://abc.supabase.co"),
        ("abc.supabase.co", "must be the project's URL"),
        ("postgresql://abc.supabase.co", "must be the project's URL"),
        ("https://", "must be the project's URL"),
        ("https://abc.supabase.co?apikey=x", "must be the project's URL"),
        ("https://user:password@abc.supabase.co", "must be the project's URL"),
        ("https://xxxxxxxxxxxxx.supabase.co", "is a placeholder"),
        ("https://your-project.supabase.co", "is a placeholder"),
        ("https://<ref>.supabase.co", "is a placeholder"),
    ],
)
def test_an_address_that_cannot_work_is_named_with_its_reason(given, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        project_url(given)


@pytest.mark.parametrize(
    "key",
    [
        jwt(iss="supabase", ref="xxxxxxxxxxxxx", role="anon"),
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.xxxxxxxxxxxxxxxxxxxx.xxxxxxxxxxxxxxxxxx",
        "your_anon_key",
        "your-anon-key-here",
        "<anon key>",
        "sb_publishable_with a space",
        "sb_publishable_with\nline",
        "schlüssel",
    ],
)
def test_a_key_nobody_filled_in_is_refused(key):
    with pytest.raises(ValueError, match=r"placeholder|characters"):
        filled_in(key)


@pytest.mark.parametrize(
    "key",
    ["sb_publishable_abc", jwt(iss="supabase", ref="abcdefghijkl", role="anon"), "a.b.c", "e30.W10.e30"],
)
def test_a_key_of_any_kind_is_taken(key):
    assert filled_in(key) == key
    assert not is_service_key(key)


@pytest.mark.parametrize("key", ["sb_secret_abc", jwt(role="service_role", ref="abcdefghijkl")])
def test_a_key_that_opens_everything_is_recognised(key):
    assert is_service_key(key)
    [warning] = load(WHOLE | {"SUPABASE_ANON_KEY": key}).warnings
    assert warning.startswith("SUPABASE_ANON_KEY opens every row of the job database")
    assert key not in warning


def test_everything_set_opens_the_database_without_a_word():
    config = load(WHOLE)
    assert config.warnings == ()
    database = config.job_database
    assert (database.url, database.key, database.token, database.table) == (
        "https://abcdefghijkl.supabase.co",
        "sb_publishable_planted",
        TOKEN,
        "local_training_jobs",
    )
    assert TOKEN not in repr(database)
    assert "sb_publishable_planted" not in repr(database)
    assert TOKEN not in repr(config)


def test_the_weaker_of_two_keys_is_used_and_the_stronger_warned_about():
    config = load(WHOLE | {"SUPABASE_SERVICE_KEY": "sb_secret_planted"})
    assert config.job_database.key == "sb_publishable_planted"
    [warning] = config.warnings
    assert warning.startswith("SUPABASE_SERVICE_KEY opens every row")


def test_a_service_key_alone_is_taken_with_a_warning():
    config = load({**WHOLE, "SUPABASE_ANON_KEY": "", "SUPABASE_SECRET_KEY": "sb_secret_planted"})
    assert config.job_database.key == "sb_secret_planted"
    assert len(config.warnings) == 1


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("JOB_ID", "SUPABASE_URL is set but JOB_ID is not"),
        ("JOB_TOKEN", "JOB_TOKEN is not set"),
        ("SUPABASE_URL", "JOB_TOKEN is set but SUPABASE_URL is not"),
    ],
)
def test_what_is_missing_for_the_row_is_said(missing, said):
    config = load({**WHOLE, missing: ""})
    [warning] = config.warnings
    assert warning.startswith(said)
    assert (config.job_database is None) == (missing != "JOB_TOKEN")


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"SUPABASE_ANON_KEY": ""}, "SUPABASE_ANON_KEY: missing"),
        ({"SUPABASE_URL": "https://xxxxxxxxxxxxx.supabase.co"}, "SUPABASE_URL: is a placeholder"),
        ({"SUPABASE_ANON_KEY": "your-anon-key"}, "SUPABASE_ANON_KEY: is a placeholder"),
        ({"SUPABASE_URL": "https://abc.supabase.co/rest/v1"}, "SUPABASE_URL: must end after the host"),
        ({"JOB_TOKEN": "two\nlines"}, "JOB_TOKEN: contains characters"),
        ({"JOBS_TABLE": "jobs;drop"}, "JOBS_TABLE: "),
        ({"JOBS_TABLE": "rpc/jobs"}, "JOBS_TABLE: "),
    ],
)
def test_every_mistake_is_named_by_its_variable(bad, said):
    with pytest.raises(ConfigError) as raised:
        load(WHOLE | bad)
    assert said in raised.value.message


def test_all_mistakes_are_reported_at_once_and_no_secret_with_them():
    with pytest.raises(ConfigError) as raised:
        load(
            {
                "SUPABASE_URL": "ftp://x",
                "SUPABASE_ANON_KEY": "your-anon-key-planted",
                "JOB_ID": "7",
                "JOB_TOKEN": "tokén-planted",
            }
        )
    for name in ("SUPABASE_URL", "SUPABASE_ANON_KEY", "JOB_ID", "JOB_TOKEN"):
        assert f"{name}: " in raised.value.message
    assert "planted" not in raised.value.message


@pytest.mark.parametrize("name", ["JOB_TOKEN", "SUPABASE_ANON_KEY"])
def test_a_secret_may_come_from_a_file(name, tmp_path):
    path = tmp_path / "secret"
    path.write_text("from-a-file-0123456789\n")
    database = load({**WHOLE, name: "", f"{name}_FILE": str(path)}).job_database
    assert "from-a-file-0123456789" in {database.key, database.token}
