"""The process that sends ahead, as `run` starts and ends it: when there is one, and what it is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent import log
from agent.config import load
from agent.warm import worker
from agent.warm.worker import made_repo, sending_ahead
from tests.conftest import ROOT

TOKEN = "hf_TokenOfThisTest0123456789"
SECRETS = {
    "JOB_TOKEN": "the-token-of-the-job-1234", "SUPABASE_SERVICE_ROLE_KEY": "service-key-1234567",
    "GITHUB_TOKEN": "github-token-1234567", "AGENT_NOTIFY_URLS": "json://user:password-123@host/",
    "INTERNAL_API_KEY": "internal-key-1234567", "RUNPOD_API_KEY": "runpod-key-1234567",
    "RUNPOD_TERMINATE_API_KEY": "runpod-key-7654321", "SUPABASE_SERVICE_KEY": "service-key-7654321",
}  # fmt: skip


class Started:
    """A process that only notes how it was started and ended."""

    def __init__(self):
        self.command = self.options = None
        self.ends, self.told = [], b""
        self.stdin = self

    def __call__(self, command, **options):
        self.command, self.options = command, options
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ends.append("stdin closed")

    def write(self, content):
        self.told += content

    def kill(self):
        self.ends.append("killed")

    def wait(self, timeout):
        self.ends.append("buried")


@pytest.fixture
def started(monkeypatch):
    one = Started()
    monkeypatch.setattr(worker.subprocess, "Popen", one)
    return one


def around(environ, begun_s=1.5):
    environ = {"HF_TOKEN": TOKEN, "PATH": os.environ["PATH"], **environ}
    config = load({name: value for name, value in environ.items() if value})
    with sending_ahead(config, environ, begun_s):
        pass


def test_a_training_with_a_token_has_one_beside_it_and_it_is_ended_with_it(started):
    around({})
    assert started.ends == ["stdin closed", "killed", "buried"]
    assert started.command[-4:] == ["-m", "agent.warm", "1.5", str(os.getpid())]
    assert started.options["start_new_session"]


def test_what_an_earlier_training_had_sent_is_no_news_of_this_one(started, tmp_path):
    environ = {"AGENT_STATE_DIR": str(tmp_path), "JOB_ID": "7d9f5f5c-1111-4a3b-9c5e-0123456789ab"}
    path = tmp_path / environ["JOB_ID"] / "warm.json"
    path.parent.mkdir()
    path.write_text('{"repo_created": "ada/model"}')
    config = load({"HF_TOKEN": TOKEN, **environ})
    assert made_repo(config) == "ada/model"
    around(environ)
    assert not path.exists()
    assert made_repo(config) is None


@pytest.mark.parametrize("said", ["{", "[]", '{"repo_created": null}', '{"repo_created": 7}'])
def test_what_is_damaged_tells_of_no_repo(said, tmp_path):
    config = load({"AGENT_STATE_DIR": str(tmp_path), "JOB_ID": "7d9f5f5c-1111-4a3b-9c5e-0123456789ab"})
    path = tmp_path / str(config.job_id) / "warm.json"
    path.parent.mkdir()
    path.write_text(said)
    assert made_repo(config) is None


@pytest.mark.parametrize(
    "environ", [{"AGENT_WARM": "off"}, {"HF_TOKEN": ""}, {"RANK": "1"}, {"NODE_RANK": "2"}]
)
def test_where_nothing_is_to_be_sent_there_is_none(started, environ):
    around(environ)
    assert started.command is None


def test_a_process_that_cannot_be_started_costs_nothing(monkeypatch):
    def none(*_, **__):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(worker.subprocess, "Popen", none)
    around({})


def test_what_goes_wrong_in_the_training_goes_wrong_all_the_same(started):
    with pytest.raises(KeyError), sending_ahead(load({"HF_TOKEN": TOKEN}), {}, 1.5):
        raise KeyError
    assert started.ends[-2:] == ["killed", "buried"]


def test_a_process_that_does_not_die_is_not_waited_for_for_ever(started, monkeypatch):
    def never(timeout):
        started.ends.append(f"waited {timeout:g} s")
        raise subprocess.TimeoutExpired("agent.warm", timeout)

    monkeypatch.setattr(started, "wait", never)
    around({})
    assert started.ends[-1] == "waited 10 s"


def test_a_process_that_died_before_it_was_told_costs_nothing(started, monkeypatch):
    def broken(_):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(started, "write", broken)
    around({})
    assert started.ends[-2:] == ["killed", "buried"]


def test_no_secret_that_it_does_not_need_is_in_its_environment_or_command(started):
    around({**SECRETS, "WANDB_API_KEY": "key-of-wandb-123"})
    environ = started.options["env"]
    assert not [name for name, value in SECRETS.items() if value in str([*environ.items(), *started.command])]
    assert (environ["HF_TOKEN"], environ["WANDB_API_KEY"]) == (TOKEN, "key-of-wandb-123")
    assert TOKEN not in str(started.command)


def test_it_is_told_the_secrets_so_that_it_sends_none_of_them(started):
    around(SECRETS)
    told = json.loads(started.told)
    wanted = set(SECRETS.values()) - {SECRETS["AGENT_NOTIFY_URLS"]} | {"password-123", TOKEN}
    assert wanted <= set(told)
    assert set(told) == log.hidden()


def test_a_pod_that_holds_a_service_key_only_gives_it_a_configuration_that_it_can_read(started):
    database = {"SUPABASE_URL": "https://abc.supabase.co", "SUPABASE_SERVICE_ROLE_KEY": "service-key-1234567"}
    around({**database, "JOB_ID": "11111111-2222-4333-8444-555555555555"})
    assert load(started.options["env"]).token == TOKEN


def test_what_lies_in_the_training_s_folder_is_not_imported(started):
    around({"PYTHONPATH": f"/of/the/user{os.pathsep}"})
    assert "-P" in started.command
    assert started.options["env"]["PYTHONPATH"].split(os.pathsep) == ["/of/the/user", str(ROOT)]


def test_it_reads_when_nobody_else_does_and_where_that_cannot_be_set_it_reads_all_the_same(
    started, monkeypatch, tmp_path
):
    ionice = tmp_path / "ionice"
    ionice.write_text("")
    ionice.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    around({})
    assert started.command[:5] == [str(ionice), "-c", "3", "-t", sys.executable]
    monkeypatch.setenv("PATH", "/nonexistent")
    around({})
    assert started.command[0] == sys.executable


def warm(*args, **environ):
    environ = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "HF_TOKEN": TOKEN, **environ}
    command = [sys.executable, "-P", "-m", "agent.warm", *args]
    return subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_one_whose_run_is_gone_before_it_began_ends_by_itself():
    """Somebody else is its parent by then."""
    with warm("1.5", "1") as process:  # on its stdin it waits to be told
        assert process.wait(60) == 0


def test_one_that_is_not_told_as_it_should_be_says_so_and_ends():
    process = warm("1.5", str(os.getpid()))
    _, said = process.communicate("{", timeout=60)
    assert (process.returncode, "nothing more is sent ahead" in said) == (0, True)


def test_when_memory_runs_out_it_is_rather_this_process_than_the_training(tmp_path):
    process = warm("1.5", str(os.getpid()), AGENT_STATE_DIR=str(tmp_path))
    path, over = Path(f"/proc/{process.pid}/oom_score_adj"), time.monotonic() + 60
    with process:
        while path.read_text() != "1000\n":
            assert process.poll() is None
            assert time.monotonic() < over
            time.sleep(0.002)
        process.kill()
