from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from agent.hub.environment import prepare

OURS = {
    "HF_XET_DATA_SESSION_XORB_METADATA_FLUSH_MAX_COUNT": "1",
    "HF_XET_CLIENT_AC_INITIAL_UPLOAD_CONCURRENCY": "2",
    "HF_XET_CLIENT_AC_MAX_UPLOAD_CONCURRENCY": "2",
    "HF_XET_DATA_MAX_CONCURRENT_FILE_INGESTION": "1",
    "HF_XET_DATA_INGESTION_BLOCK_SIZE": "1mb",
    "HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "5",
    "HF_XET_CLIENT_RETRY_BASE_DELAY": "1000ms",
    "HF_XET_CLIENT_RETRY_MAX_DURATION": "60s",
    "HF_XET_TELEMETRY_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}
CLEARED = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_ENABLE_HF_TRANSFER"]


def test_a_plain_environment_gets_our_settings_and_a_cache_beside_the_state(tmp_path):
    environ = {"PATH": "/bin"}
    assert prepare(environ, tmp_path) == []
    assert environ == {"PATH": "/bin", "HF_XET_CACHE": str(tmp_path / "xet"), **OURS}


@pytest.mark.parametrize("name", CLEARED)
@pytest.mark.parametrize("value", ["1", "true", "TRUE", "yes", "ON", " 1 ", "2", "anything"])
def test_a_variable_that_forbids_the_network_is_cleared_with_a_warning(tmp_path, name, value):
    environ = {name: value}
    assert prepare(environ, tmp_path) == [f"{name} is set; cleared it, because publishing needs the network"]
    assert name not in environ


@pytest.mark.parametrize("name", CLEARED)
@pytest.mark.parametrize("value", ["", " ", "0", "false", "False", "NO", "off", " 0\n"])
def test_one_that_is_switched_off_is_cleared_without_a_word(tmp_path, name, value):
    environ = {name: value}
    assert prepare(environ, tmp_path) == []
    assert name not in environ


def test_each_cleared_variable_is_named(tmp_path):
    warnings = prepare(dict.fromkeys(CLEARED, "1"), tmp_path)
    assert [warning.split()[0] for warning in warnings] == CLEARED


@pytest.mark.parametrize("name", [*OURS, "HF_XET_CACHE"])
def test_a_setting_of_the_users_own_is_kept(tmp_path, name):
    environ = {name: "theirs"}
    prepare(environ, tmp_path)
    assert environ[name] == "theirs"


@pytest.mark.parametrize("name", [*OURS, "HF_XET_CACHE"])
def test_an_empty_setting_is_an_unset_one(tmp_path, name):
    environ = {name: ""}
    prepare(environ, tmp_path)
    assert environ[name] == (OURS | {"HF_XET_CACHE": str(tmp_path / "xet")})[name]


def test_the_cache_is_there_to_be_written(tmp_path):
    prepare({}, tmp_path / "new" / "state")
    assert (tmp_path / "new" / "state" / "xet").is_dir()


def test_a_state_folder_that_cannot_be_made_costs_the_cache_only(tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "state").write_text("a file where the folder should be")
    environ = {}
    assert prepare(environ, tmp_path / "state") == []
    assert Path(environ["HF_XET_CACHE"]).is_dir()
    assert Path(environ["HF_XET_CACHE"]).parent == tmp_path / "temporary"


def test_other_settings_of_hf_xet_are_left_alone(tmp_path):
    environ = {"HF_XET_SOMETHING_ELSE": "7", "HF_HOME": "/h"}
    prepare(environ, tmp_path)
    assert (environ["HF_XET_SOMETHING_ELSE"], environ["HF_HOME"]) == ("7", "/h")


def test_the_memory_of_the_machine_is_not_taken_for_speed(tmp_path):
    environ = {"HF_XET_HIGH_PERFORMANCE": "1"}
    prepare(environ, tmp_path)
    assert "HF_XET_HIGH_PERFORMANCE" not in environ


def test_preparing_twice_is_preparing_once(tmp_path):
    environ = {"HF_HUB_OFFLINE": "1"}
    prepare(environ, tmp_path)
    before = dict(environ)
    assert prepare(environ, tmp_path) == []
    assert environ == before
