from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from agent import config as configuration
from agent import log
from agent.config import load, variables
from agent.errors import ConfigError
from agent.gate import Gate
from agent.patterns import Patterns
from agent.repo_paths import Placement

JOB = "6f1c2a54-9d0e-4a57-8c11-0123456789ab"
JOB_2 = "0b0b0b0b-9d0e-4a57-8c11-0123456789ab"
TOKEN = "hf_PlantedTokenForTheUnitTests01"
JOB_TOKEN = "planted-token-of-the-job-0123456789-abcdefghij"
KEY = "sb_publishable_planted"


@pytest.fixture(autouse=True)
def _no_workspace(monkeypatch):
    """The machine's own /workspace and home play no part, unless a test says so."""
    monkeypatch.setattr(configuration, "DEFAULT_PATH", Path("/nowhere/config.json"))


@pytest.fixture
def training_config(tmp_path):
    def write(text, name="config.json"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def problems_of(environ, flags=None):
    with pytest.raises(ConfigError) as raised:
        load(environ, flags)
    return raised.value.message


def test_the_variables_and_their_aliases_are_those_of_the_contract():
    assert variables() == {
        "hf_token": ("HF_TOKEN",),
        "repo_name": ("HF_REPO_NAME",),
        "hf_username": ("HF_USERNAME",),
        "revision": ("HF_REVISION",),
        "endpoint": ("HF_ENDPOINT",),
        "private": ("HF_REPO_PRIVATE",),
        "output_dir": ("OUTPUT_DIR",),
        "commit_message": ("AGENT_COMMIT_MESSAGE",),
        "job_id": ("JOB_ID", "AGENT_JOB_ID"),
        "job_token": ("JOB_TOKEN",),
        "supabase_url": ("SUPABASE_URL", "NEXT_PUBLIC_SUPABASE_URL"),
        "supabase_anon_key": (
            "SUPABASE_ANON_KEY",
            "SUPABASE_PUBLISHABLE_KEY",
            "NEXT_PUBLIC_SUPABASE_ANON_KEY",
        ),
        "supabase_service_key": (
            "SUPABASE_SERVICE_ROLE_KEY",
            "SUPABASE_SERVICE_KEY",
            "SUPABASE_SECRET_KEY",
        ),
        "jobs_table": ("JOBS_TABLE",),
        "training_method": ("TRAINING_METHOD",),
        "training_config_name": ("TRAINING_CONFIG_NAME", "CONFIG_NAME"),
        "training_config_id": ("TRAINING_CONFIG_ID",),
        "base_model": ("BASE_MODEL", "MODEL_NAME"),
        "dataset": ("DATASET",),
        "evaluation_report": ("EVALUATION_REPORT",),
        "benchmark_report": ("BENCHMARK_REPORT",),
        "samples_dir": ("SAMPLES_DIR",),
        "gpu_name": ("RUNPOD_GPU_NAME",),
        "gpu_count": ("RUNPOD_GPU_COUNT",),
        "git_revision": ("GITHUB_SHA",),
        "git_ref": ("GITHUB_REF",),
        "publish_if": ("AGENT_PUBLISH_IF",),
        "checkpoint": ("AGENT_CHECKPOINT",),
        "exclude": ("AGENT_EXCLUDE",),
        "include": ("AGENT_INCLUDE",),
        "files": ("AGENT_FILES",),
        "expect": ("AGENT_EXPECT",),
        "check_weights": ("AGENT_CHECK_WEIGHTS",),
        "allow_partial": ("AGENT_ALLOW_PARTIAL",),
        "allow_pickle": ("AGENT_ALLOW_PICKLE",),
        "allow_stale": ("AGENT_ALLOW_STALE",),
        "state_dir": ("AGENT_STATE_DIR",),
        "stall_s": ("AGENT_STALL_S",),
        "deadline_s": ("AGENT_DEADLINE_S",),
        "log_format": ("AGENT_LOG_FORMAT",),
        "log_level": ("AGENT_LOG_LEVEL",),
        "pod_id": ("RUNPOD_POD_ID",),
        "volume_id": ("RUNPOD_VOLUME_ID",),
        "pod_key": ("RUNPOD_API_KEY",),
        "own_pod_key": ("RUNPOD_TERMINATE_API_KEY",),
        "on_finish": ("AGENT_ON_FINISH",),
        "stop_after_s": ("AGENT_STOP_AFTER_S",),
        "give_up_s": ("AGENT_GIVE_UP_S",),
        "withheld": ("AGENT_CHILD_ENV",),
        "publish_on_failure": ("AGENT_PUBLISH_ON_FAILURE",),
        "warm": ("AGENT_WARM",),
        "warm_mb_s": ("AGENT_WARM_MBPS",),
        "notify_urls": ("AGENT_NOTIFY_URLS",),
        "alert_url": ("ALERT_API_URL",),
        "alert_key": ("INTERNAL_API_KEY",),
        "user_id": ("USER_ID", "JOB_USER_ID"),
        "github_token": ("GITHUB_TOKEN",),
        "github_repository": ("GITHUB_REPOSITORY",),
        "github_api": ("GITHUB_API_URL",),
        "github_server": ("GITHUB_SERVER_URL",),
        "github_run": ("GITHUB_RUN_ID",),
        "github_actor": ("GITHUB_ACTOR",),
    }


EVERY_VARIABLE = [
    ("HF_TOKEN", TOKEN, "token", TOKEN),
    ("HF_REPO_NAME", "ada/model", "repo_name", "ada/model"),
    ("HF_USERNAME", "ada", "hf_username", "ada"),
    ("HF_REVISION", "exp/run-2", "revision", "exp/run-2"),
    ("HF_ENDPOINT", "http://127.0.0.1:8080", "endpoint", "http://127.0.0.1:8080"),
    ("HF_REPO_PRIVATE", "true", "private", True),
    ("OUTPUT_DIR", "/data/out", "output_dir", Path("/data/out")),
    ("AGENT_COMMIT_MESSAGE", "Version two", "commit_message", "Version two"),
    ("JOB_ID", JOB, "job_id", UUID(JOB)),
    ("AGENT_JOB_ID", JOB, "job_id", UUID(JOB)),
    ("JOB_TOKEN", JOB_TOKEN, "job_token", SecretStr(JOB_TOKEN)),
    ("SUPABASE_URL", "https://x.supabase.co/", "supabase_url", "https://x.supabase.co"),
    ("NEXT_PUBLIC_SUPABASE_URL", "https://x.supabase.co", "supabase_url", "https://x.supabase.co"),
    ("SUPABASE_ANON_KEY", KEY, "supabase_anon_key", SecretStr(KEY)),
    ("SUPABASE_PUBLISHABLE_KEY", KEY, "supabase_anon_key", SecretStr(KEY)),
    ("NEXT_PUBLIC_SUPABASE_ANON_KEY", KEY, "supabase_anon_key", SecretStr(KEY)),
    ("SUPABASE_SERVICE_ROLE_KEY", KEY, "supabase_service_key", SecretStr(KEY)),
    ("SUPABASE_SERVICE_KEY", KEY, "supabase_service_key", SecretStr(KEY)),
    ("SUPABASE_SECRET_KEY", KEY, "supabase_service_key", SecretStr(KEY)),
    ("JOBS_TABLE", "fine_tuning_jobs", "jobs_table", "fine_tuning_jobs"),
    ("TRAINING_METHOD", "DPO", "training_method", "DPO"),
    ("TRAINING_CONFIG_NAME", "My run", "training_config_name", "My run"),
    ("CONFIG_NAME", "My run", "training_config_name", "My run"),
    ("TRAINING_CONFIG_ID", "abc-1", "training_config_id", "abc-1"),
    ("BASE_MODEL", "org/base", "base_model", "org/base"),
    ("MODEL_NAME", "org/base", "base_model", "org/base"),
    ("DATASET", "org/data", "dataset", "org/data"),
    ("GITHUB_SHA", "c0ffee", "git_revision", "c0ffee"),
    ("EVALUATION_REPORT", "/o/eval.json", "evaluation_report", Path("/o/eval.json")),
    ("BENCHMARK_REPORT", "/o/mmlu.json", "benchmark_report", Path("/o/mmlu.json")),
    ("SAMPLES_DIR", "/o/samples", "samples_dir", Path("/o/samples")),
    ("RUNPOD_GPU_NAME", "NVIDIA+A40", "hardware", "NVIDIA A40"),
    ("RUNPOD_GPU_COUNT", "2", "gpu_count", "2"),
    ("AGENT_CHECKPOINT", "best", "checkpoint", "best"),
    ("AGENT_EXCLUDE", "*.tmp,/scratch/", "exclude", Patterns("*.tmp,/scratch/")),
    ("AGENT_INCLUDE", "training_args.bin", "include", Patterns("training_args.bin")),
    (
        "AGENT_FILES",
        "/data/onnx:onnx, b.txt:docs/",
        "files",
        (Placement(Path("/data/onnx"), "onnx"), Placement(Path("b.txt"), "docs/b.txt")),
    ),
    ("AGENT_EXPECT", "onnx/model.onnx, config.json", "expect", ("onnx/model.onnx", "config.json")),
    ("AGENT_CHECK_WEIGHTS", "full", "check_weights", "full"),
    ("AGENT_ALLOW_PARTIAL", "true", "allow_partial", True),
    ("AGENT_ALLOW_PICKLE", "1", "allow_pickle", True),
    ("AGENT_ALLOW_STALE", "yes", "allow_stale", True),
    ("GITHUB_REF", "refs/heads/main", "git_ref", "refs/heads/main"),
    ("AGENT_PUBLISH_IF", "loss<1 and branch:main", "publish_if", Gate(("loss<1", "branch:main"))),
    ("RUNPOD_POD_ID", "x1y2", "pod_id", "x1y2"),
    ("RUNPOD_VOLUME_ID", "v1", "volume_id", "v1"),
    ("RUNPOD_API_KEY", "rpa_1", "pod_key", SecretStr("rpa_1")),
    ("RUNPOD_TERMINATE_API_KEY", "rpa_2", "own_pod_key", SecretStr("rpa_2")),
    ("AGENT_ON_FINISH", "terminate", "on_finish", "terminate"),
    ("AGENT_STOP_AFTER_S", "0", "stop_after_s", 0.0),
    ("AGENT_GIVE_UP_S", "60", "give_up_s", 60.0),
    ("AGENT_CHILD_ENV", "A_KEY, B_KEY", "withheld", ("A_KEY", "B_KEY")),
    ("AGENT_PUBLISH_ON_FAILURE", "checkpoint", "publish_on_failure", "checkpoint"),
    ("AGENT_WARM", "off", "warm", "off"),
    ("AGENT_WARM_MBPS", "12.5", "warm_mb_s", 12.5),
    ("AGENT_STATE_DIR", "/data/state", "state_dir", Path("/data/state")),
    ("AGENT_STALL_S", "12.5", "stall_s", 12.5),
    ("AGENT_DEADLINE_S", "60", "deadline_s", 60.0),
    ("AGENT_LOG_FORMAT", "json", "log_format", "json"),
    ("AGENT_LOG_LEVEL", "debug", "log_level", "debug"),
    ("AGENT_NOTIFY_URLS", "json://h/a", "notify_urls", (SecretStr("json://h/a"),)),
    ("ALERT_API_URL", "https://app.example.com/api/", "alert_url", "https://app.example.com/api"),
    ("INTERNAL_API_KEY", "internal-key", "alert_key", SecretStr("internal-key")),
    ("USER_ID", "u-1", "user_id", "u-1"),
    ("JOB_USER_ID", "u-1", "user_id", "u-1"),
    ("GITHUB_TOKEN", "ghs_1", "github_token", SecretStr("ghs_1")),
    ("GITHUB_REPOSITORY", "ada/train.py", "github_repository", "ada/train.py"),
    ("GITHUB_API_URL", "https://git.example.com/api/v3", "github_api", "https://git.example.com/api/v3"),
    ("GITHUB_SERVER_URL", "https://git.example.com", "github_server", "https://git.example.com"),
    ("GITHUB_RUN_ID", "17", "github_run", "17"),
    ("GITHUB_ACTOR", "ada", "github_actor", "ada"),
]


DATABASE = {
    "SUPABASE_URL": "https://x.supabase.co",
    "SUPABASE_ANON_KEY": KEY,
    "JOB_ID": JOB,
    "JOB_TOKEN": "t" * 43,
}
BESIDE = {
    "job_token": DATABASE,
    "supabase_url": {name: value for name, value in DATABASE.items() if name != "SUPABASE_URL"},
}


@pytest.mark.parametrize(("name", "text", "field", "value"), EVERY_VARIABLE)
def test_each_variable_sets_its_field(name, text, field, value):
    config = load(BESIDE.get(field, {}) | {name: text})
    assert getattr(config, field) == value
    assert len(config.warnings) == (field == "supabase_service_key")


def test_every_alias_of_the_contract_was_tried_above():
    assert {row[0] for row in EVERY_VARIABLE} == {name for names in variables().values() for name in names}


@pytest.mark.parametrize("blank", ["", " ", " \t\n"])
@pytest.mark.parametrize("name", [row[0] for row in EVERY_VARIABLE])
def test_an_empty_variable_is_an_unset_one(name, blank):
    assert load({name: blank}) == load({})


@pytest.mark.parametrize(
    ("environ", "field", "value"),
    [
        ({"NODE_RANK": "2"}, "other_rank", "NODE_RANK is 2"),
        ({"RANK": "0"}, "other_rank", None),
        ({"TRAINING_AGENT_REPORTS": "/tmp/r"}, "under_run", True),
    ],
)
def test_where_this_process_stands_is_told_by_what_started_it(environ, field, value):
    assert getattr(load(environ), field) == value


@pytest.mark.parametrize("names", ["A KEY", "A_KEY;B_KEY", "A-KEY", "1KEY"])
def test_a_list_of_variables_that_is_none_is_refused(names):
    with pytest.raises(ConfigError, match=r"AGENT_CHILD_ENV: .* is no name of a variable"):
        load({"AGENT_CHILD_ENV": names})


def test_the_defaults_are_those_of_the_contract():
    config = load({"AGENT_STATE_DIR": "/s"})
    assert config.model_dump() == {
        "hf_token": None,
        "repo_name": None,
        "hf_username": None,
        "revision": "main",
        "endpoint": "https://huggingface.co",
        "private": None,
        "output_dir": Path("/workspace/fine_tuned_model"),
        "commit_message": None,
        "job_id": None,
        "job_token": None,
        "supabase_url": None,
        "supabase_anon_key": None,
        "supabase_service_key": None,
        "jobs_table": "local_training_jobs",
        "training_method": None,
        "training_config_name": None,
        "training_config_id": None,
        "base_model": None,
        "dataset": None,
        "evaluation_report": None,
        "benchmark_report": None,
        "samples_dir": None,
        "gpu_name": None,
        "gpu_count": None,
        "hyperparameters": {},
        "other_rank": None,
        "under_run": False,
        "git_revision": None,
        "git_ref": None,
        "publish_if": {"conditions": ()},
        "checkpoint": "last",
        "exclude": {"text": ""},
        "include": {"text": ""},
        "files": (),
        "expect": (),
        "check_weights": "sample",
        "allow_partial": False,
        "allow_pickle": False,
        "allow_stale": False,
        "state_dir": Path("/s"),
        "stall_s": 900.0,
        "deadline_s": None,
        "log_format": None,
        "log_level": "info",
        "warnings": (),
        "pod_id": None,
        "volume_id": None,
        "pod_key": None,
        "own_pod_key": None,
        "on_finish": None,
        "stop_after_s": None,
        "give_up_s": 86400.0,
        "withheld": (
            "SUPABASE_SERVICE_ROLE_KEY",
            "SUPABASE_SERVICE_KEY",
            "SUPABASE_SECRET_KEY",
            "SUPABASE_SERVICE_ROLE_KEY_FILE",
            "GITHUB_TOKEN",
            "AGENT_NOTIFY_URLS",
            "ALERT_API_URL",
            "INTERNAL_API_KEY",
            "RUNPOD_API_KEY",
            "RUNPOD_TERMINATE_API_KEY",
        ),
        "publish_on_failure": "no",
        "warm": "on",
        "warm_mb_s": None,
        "notify_urls": (),
        "alert_url": None,
        "alert_key": None,
        "user_id": None,
        "github_token": None,
        "github_repository": None,
        "github_api": "https://api.github.com",
        "github_server": "https://github.com",
        "github_run": None,
        "github_actor": None,
    }


@pytest.mark.parametrize(
    ("canonical", "alias", "field", "value", "other"),
    [
        ("JOB_ID", "AGENT_JOB_ID", "job_id", JOB, JOB_2),
        (
            "SUPABASE_URL",
            "NEXT_PUBLIC_SUPABASE_URL",
            "supabase_url",
            "https://a.example",
            "https://b.example",
        ),
        ("TRAINING_CONFIG_NAME", "CONFIG_NAME", "training_config_name", "a", "b"),
        ("BASE_MODEL", "MODEL_NAME", "base_model", "org/a", "org/b"),
    ],
)
def test_the_canonical_name_beats_its_alias(canonical, alias, field, value, other):
    beside = BESIDE.get(field, {})
    assert str(getattr(load(beside | {alias: other, canonical: value}), field)) == value
    assert str(getattr(load(beside | {alias: other, canonical: ""}), field)) == other


@pytest.mark.parametrize(
    ("environ", "flags", "field", "value"),
    [
        ({"OUTPUT_DIR": "/variable"}, {"OUTPUT_DIR": "/flag"}, "output_dir", Path("/flag")),
        ({"HF_REPO_NAME": "a/variable"}, {"HF_REPO_NAME": "a/flag"}, "repo_name", "a/flag"),
        ({"AGENT_JOB_ID": JOB}, {"JOB_ID": JOB_2}, "job_id", UUID(JOB_2)),
        ({"MODEL_NAME": "org/variable"}, {"BASE_MODEL": "org/flag"}, "base_model", "org/flag"),
        ({"HF_REPO_PRIVATE": "true"}, {"HF_REPO_PRIVATE": False}, "private", False),
        ({"HF_REPO_PRIVATE": "false"}, {"HF_REPO_PRIVATE": None}, "private", False),
        ({"HF_REVISION": "dev"}, {"HF_REVISION": None}, "revision", "dev"),
    ],
)
def test_a_flag_beats_a_variable_and_a_flag_not_given_leaves_it(environ, flags, field, value):
    assert getattr(load(environ, flags), field) == value


def test_a_flag_beats_the_training_config(training_config):
    path = training_config('{"output_dir": "/file", "model": {"name": "org/file"}}')
    config = load({"TRAINING_CONFIG": path}, {"OUTPUT_DIR": "/flag", "BASE_MODEL": "org/flag"})
    assert (config.output_dir, config.base_model) == (Path("/flag"), "org/flag")


def test_the_process_environment_is_read_when_none_is_given(monkeypatch):
    monkeypatch.setenv("HF_REPO_NAME", "ada/from-the-process")
    assert load().repo_name == "ada/from-the-process"


def test_a_config_cannot_be_changed():
    with pytest.raises(ValidationError):
        load({}).revision = "other"


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("https://hub.example/", "https://hub.example"),
        ("https://hub.example///", "https://hub.example"),
        ("https://hub.example/base/", "https://hub.example/base"),
        ("http://localhost:1234", "http://localhost:1234"),
    ],
)
def test_the_endpoint_loses_its_trailing_slash(text, endpoint):
    assert load({"HF_ENDPOINT": text}).endpoint == endpoint


@pytest.mark.parametrize("text", ["6f1c2a549d0e4a578c110123456789ab", JOB.upper()])
def test_a_job_id_in_another_spelling_is_the_same_job(text):
    assert load({"JOB_ID": text}).job_id == UUID(JOB)


@pytest.mark.parametrize(
    ("text", "private"), [("true", True), ("1", True), ("yes", True), ("false", False), ("0", False)]
)
def test_visibility_is_spelled_as_people_spell_it(text, private):
    assert load({"HF_REPO_PRIVATE": text}).private is private


@pytest.mark.parametrize("name", ["HF_TOKEN", "HF_REPO_NAME", "BASE_MODEL", "HF_REVISION"])
def test_space_around_a_value_is_not_part_of_it(name):
    field = {"HF_TOKEN": "token", "HF_REPO_NAME": "repo_name", "BASE_MODEL": "base_model"}.get(
        name, "revision"
    )
    assert getattr(load({name: " abcdefgh\n"}), field) == "abcdefgh"


@pytest.fixture
def workspace(monkeypatch):
    """Say whether /workspace exists, whatever this machine has."""

    def exists(*, there):
        real = Path.is_dir
        monkeypatch.setattr(Path, "is_dir", lambda path: there if path == Path("/workspace") else real(path))

    return exists


def test_state_is_kept_on_the_volume_of_a_pod(workspace):
    workspace(there=True)
    assert load({"XDG_STATE_HOME": "/xdg"}).state_dir == Path("/workspace/.agent")


def test_without_a_volume_state_is_kept_where_xdg_says(workspace):
    workspace(there=False)
    assert load({"XDG_STATE_HOME": "/xdg"}).state_dir == Path("/xdg/training-agent")


def test_without_volume_and_xdg_state_is_kept_in_the_home(workspace):
    workspace(there=False)
    assert load({"HOME": "/home/ada"}).state_dir == Path("/home/ada/.local/state/training-agent")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("JOB_ID", "job-17", "JOB_ID: Input should be a valid UUID"),
        ("JOB_ID", JOB[:-1], "JOB_ID: Input should be a valid UUID"),
        ("HF_ENDPOINT", "huggingface.co", "HF_ENDPOINT: must be a URL such as https://huggingface.co"),
        ("HF_ENDPOINT", "ftp://hub.example", "HF_ENDPOINT: must be a URL"),
        ("HF_ENDPOINT", "https://", "HF_ENDPOINT: must be a URL"),
        ("HF_ENDPOINT", "https://hub.example/?a=b", "HF_ENDPOINT: must be a URL"),
        ("HF_ENDPOINT", "https://hub.example/#a", "HF_ENDPOINT: must be a URL"),
        ("HF_ENDPOINT", "https://hub example", "HF_ENDPOINT: must be a URL"),
        ("HF_REVISION", "-dash", "HF_REVISION: String should match pattern"),
        ("HF_REVISION", "a b", "HF_REVISION: String should match pattern"),
        ("HF_REVISION", "main\nother", "HF_REVISION: String should match pattern"),
        ("HF_REVISION", "zweig-ä", "HF_REVISION: String should match pattern"),
        ("HF_REPO_PRIVATE", "maybe", "HF_REPO_PRIVATE: Input should be a valid boolean"),
        ("AGENT_STALL_S", "0", "AGENT_STALL_S: Input should be greater than 0"),
        ("AGENT_STALL_S", "-1", "AGENT_STALL_S: Input should be greater than 0"),
        ("AGENT_STALL_S", "nan", "AGENT_STALL_S: Input should be greater than 0"),
        ("AGENT_STALL_S", "15m", "AGENT_STALL_S: Input should be a valid number"),
        ("AGENT_DEADLINE_S", "0", "AGENT_DEADLINE_S: Input should be greater than 0"),
        ("AGENT_DEADLINE_S", "soon", "AGENT_DEADLINE_S: Input should be a valid number"),
        ("AGENT_LOG_FORMAT", "xml", "AGENT_LOG_FORMAT: Input should be 'console' or 'json'"),
        ("AGENT_LOG_LEVEL", "loud", "AGENT_LOG_LEVEL: Input should be 'debug', 'info', 'warning' or 'error'"),
        ("HF_TOKEN", "hf_two\nlines00000", "HF_TOKEN: contains characters that no token has"),
        ("HF_TOKEN", "hf_with space0000", "HF_TOKEN: contains characters that no token has"),
        ("HF_TOKEN", "hf_ümlaut00000000", "HF_TOKEN: contains characters that no token has"),
    ],
)
def test_a_bad_value_is_refused_with_the_name_of_its_variable(name, text, said):
    message = problems_of({name: text})
    assert message.startswith(said)
    assert ";" not in message.replace("; was it copied", "")


def test_the_cure_is_told_with_the_problem():
    with pytest.raises(ConfigError) as raised:
        load({"JOB_ID": "x"})
    assert raised.value.hint == "Correct the named variables; the README's table lists them all."
    assert raised.value.exit_code == 10


def test_all_problems_are_told_in_one_message(tmp_path):
    message = problems_of(
        {
            "JOB_ID": "x",
            "HF_ENDPOINT": "x",
            "HF_REPO_PRIVATE": "x",
            "AGENT_STALL_S": "x",
            "AGENT_LOG_LEVEL": "x",
            "AGENT_FILES": "x",
            "AGENT_EXCLUDE": "!",
            "AGENT_EXPECT": "../x",
            "AGENT_CHECKPOINT": "newest",
            "AGENT_CHECK_WEIGHTS": "x",
            "AGENT_ALLOW_STALE": "x",
            "HF_TOKEN_FILE": str(tmp_path / "nowhere"),
            "TRAINING_CONFIG": str(tmp_path / "nowhere.json"),
        }
    )
    assert [part.split(":")[0] for part in message.split("; ")] == [
        "HF_TOKEN_FILE",
        "TRAINING_CONFIG",
        "AGENT_CHECKPOINT",
        "AGENT_EXCLUDE",
        "AGENT_FILES",
        "AGENT_EXPECT",
        "AGENT_CHECK_WEIGHTS",
        "AGENT_ALLOW_STALE",
        "HF_ENDPOINT",
        "HF_REPO_PRIVATE",
        "JOB_ID",
        "AGENT_STALL_S",
        "AGENT_LOG_LEVEL",
    ]


def test_a_wrong_alias_is_refused_too():
    assert "valid UUID" in problems_of({"AGENT_JOB_ID": "x"})


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("AGENT_STAL_S", "AGENT_STAL_S is not a variable of this agent; did you mean AGENT_STALL_S?"),
        ("AGENT_DEADLINE", "AGENT_DEADLINE is not a variable of this agent; did you mean AGENT_DEADLINE_S?"),
        ("AGENT_EXCLUDES", "AGENT_EXCLUDES is not a variable of this agent; did you mean AGENT_EXCLUDE?"),
        ("AGENT_QQQQQQQQQQQQQQQQ", "AGENT_QQQQQQQQQQQQQQQQ is not a variable of this agent"),
    ],
)
def test_an_unknown_variable_is_named_with_the_nearest_known_one(name, said):
    assert load({name: "x"}).warnings == (said,)


def test_other_programs_variables_are_none_of_our_business():
    assert load({"PATH": "/bin", "HF_HOME": "/h", "MY_AGENT_X": "1", "warnings": "x"}).warnings == ()


@pytest.mark.parametrize("content", [TOKEN, f"{TOKEN}\n", f"  {TOKEN}\r\n"])
def test_a_token_is_read_from_the_file_that_its_variable_names(tmp_path, content):
    (tmp_path / "token").write_text(content)
    assert load({"HF_TOKEN_FILE": str(tmp_path / "token")}).token == TOKEN


def test_a_token_in_the_environment_beats_one_in_a_file(tmp_path):
    (tmp_path / "token").write_text("hf_InTheFile0000000")
    assert load({"HF_TOKEN": TOKEN, "HF_TOKEN_FILE": str(tmp_path / "token")}).token == TOKEN
    assert load({"HF_TOKEN": TOKEN, "HF_TOKEN_FILE": str(tmp_path / "nowhere")}).token == TOKEN


def test_an_empty_token_file_is_no_token(tmp_path):
    (tmp_path / "token").write_text("\n")
    assert load({"HF_TOKEN_FILE": str(tmp_path / "token")}).token is None


@pytest.mark.parametrize("name", ["HF_TOKEN", "JOB_TOKEN", "SUPABASE_ANON_KEY", "SUPABASE_SERVICE_ROLE_KEY"])
def test_a_secret_file_that_cannot_be_read_is_a_problem(tmp_path, name):
    assert problems_of({f"{name}_FILE": str(tmp_path)}).startswith(
        f"{name}_FILE: {tmp_path} cannot be read: "
    )


def test_a_secret_file_that_is_not_text_is_a_problem(tmp_path):
    (tmp_path / "token").write_bytes(b"\xff\xfe\x00")
    assert problems_of({"HF_TOKEN_FILE": str(tmp_path / "token")}).startswith("HF_TOKEN_FILE: ")


def test_a_token_file_with_two_lines_is_a_problem_that_does_not_tell_them(tmp_path):
    (tmp_path / "token").write_text("hf_FirstLine000\nhf_SecondLine00\n")
    message = problems_of({"HF_TOKEN_FILE": str(tmp_path / "token")})
    assert "contains characters that no token has" in message
    assert "FirstLine" not in message
    assert "SecondLine" not in message


@pytest.mark.parametrize("name", ["HF_TOKEN", "JOB_TOKEN", "SUPABASE_ANON_KEY", "SUPABASE_SERVICE_ROLE_KEY"])
def test_a_secret_from_a_file_is_hidden_from_then_on(tmp_path, name):
    (tmp_path / "secret").write_text("correct-horse-battery\n")
    load({f"{name}_FILE": str(tmp_path / "secret")})
    assert log.redact("it is correct-horse-battery") == "it is [hidden]"


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN",
        "JOB_TOKEN",
        "SUPABASE_ANON_KEY",
        "SUPABASE_PUBLISHABLE_KEY",
        "NEXT_PUBLIC_SUPABASE_ANON_KEY",
        "SUPABASE_SERVICE_ROLE_KEY",
        "SUPABASE_SERVICE_KEY",
        "SUPABASE_SECRET_KEY",
        "RUNPOD_TERMINATE_API_KEY",
        "RUNPOD_API_KEY",
        "INTERNAL_API_KEY",
        "GITHUB_TOKEN",
        "WANDB_API_KEY",
        "DB_PASSWORD",
        "CLIENT_SECRET",
    ],
)
def test_every_secret_of_the_environment_is_hidden_from_then_on(name):
    load({name: " correct-horse-battery\n"})
    assert log.redact("it is correct-horse-battery!") == "it is [hidden]!"


def test_secrets_are_hidden_even_when_the_config_is_refused():
    problems_of({"JOB_ID": "x", "JOB_TOKEN": "correct-horse-battery"})
    assert log.redact("correct-horse-battery") == "[hidden]"


def test_a_value_that_is_no_secret_stays_readable():
    load({"HF_REPO_NAME": "ada/my-model", "HF_USERNAME": "ada-lovelace"})
    assert log.redact("ada/my-model of ada-lovelace") == "ada/my-model of ada-lovelace"


def test_a_config_does_not_show_its_token():
    config = load({"HF_TOKEN": TOKEN})
    assert config.token == TOKEN
    for shown in (repr(config), str(config), f"{config.hf_token}", str(config.model_dump())):
        assert TOKEN not in shown


def test_a_refusal_does_not_show_any_value_of_a_secret():
    secret = "hf_Planted Token With Spaces"
    with pytest.raises(ConfigError) as raised:
        load({"HF_TOKEN": secret, "JOB_ID": "x"})
    assert raised.value.__cause__ is None
    for shown in (str(raised.value), repr(raised.value), raised.value.hint, repr(raised.value.__context__)):
        assert "Planted" not in shown


def test_not_even_the_librarys_own_error_shows_a_value():
    with pytest.raises(ValidationError) as raised:
        configuration.Config.model_validate({"HF_TOKEN": "hf_Planted with spaces", "JOB_ID": "Planted"})
    assert "Planted" not in str(raised.value)


def test_a_token_pasted_into_the_wrong_variable_is_not_repeated():
    for name in ("JOB_ID", "HF_REPO_PRIVATE", "AGENT_STALL_S", "AGENT_LOG_LEVEL", "HF_ENDPOINT"):
        assert TOKEN not in problems_of({name: TOKEN})


def facts_of(config):
    return (config.training_method, config.base_model, config.dataset, config.output_dir)


NESTED = (
    '{"training": {"method": "dpo", "output_dir": "/t"}, "model": {"name": "org/base"}, '
    '"dataset": {"name": "org/data"}}'
)
FLAT = '{"method": "dpo", "output_dir": "/t", "base_model": "org/base", "dataset": "org/data"}'


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (NESTED, "c.json"),
        (FLAT, "c.json"),
        (FLAT, "c"),
        (
            '{"method": "dpo", "output_dir": "/t", "base_model": "org/base", "dataset_path": "org/data"}',
            "c.json",
        ),
        (
            "training: {method: dpo, output_dir: /t}\nmodel: {name: org/base}\ndataset: {name: org/data}\n",
            "c.yaml",
        ),
        ("method: dpo\noutput_dir: /t\nbase_model: org/base\ndataset: org/data\n", "c.yml"),
    ],
)
def test_the_training_config_fills_what_no_variable_says(training_config, text, name):
    config = load({"TRAINING_CONFIG": training_config(text, name)})
    assert facts_of(config) == ("dpo", "org/base", "org/data", Path("/t"))


def test_variables_beat_the_training_config(training_config):
    config = load(
        {
            "TRAINING_CONFIG": training_config(NESTED),
            "TRAINING_METHOD": "sft",
            "MODEL_NAME": "org/alias",
            "DATASET": "org/other",
            "OUTPUT_DIR": "/variable",
        }
    )
    assert facts_of(config) == ("sft", "org/alias", "org/other", Path("/variable"))


def test_the_training_config_of_a_pod_is_read_unasked(monkeypatch, training_config):
    monkeypatch.setattr(configuration, "DEFAULT_PATH", Path(training_config(NESTED)))
    assert facts_of(load({})) == ("dpo", "org/base", "org/data", Path("/t"))


def test_nesting_beats_flat_names_for_method_and_model(training_config):
    text = '{"method": "sft", "training": {"method": "orpo"}, "base_model": "a/b", "model": {"name": "c/d"}}'
    config = load({"TRAINING_CONFIG": training_config(text)})
    assert (config.training_method, config.base_model) == ("orpo", "c/d")


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"training": null, "model": null, "dataset": null, "output_dir": null}',
        '{"training": [1], "model": "org/ignored", "dataset": 5, "output_dir": {}, "method": ["dpo"]}',
        '{"training": {"method": 7, "output_dir": []}, "model": {"name": {}}, "dataset": {"name": 1}}',
        '{"training": {"method": " "}, "output_dir": "", "base_model": "  ", "dataset": ""}',
    ],
)
def test_nonsense_types_in_a_training_config_say_nothing(training_config, text):
    config = load({"TRAINING_CONFIG": training_config(text)})
    assert facts_of(config) == (None, None, None, Path("/workspace/fine_tuned_model"))


@pytest.mark.parametrize(
    ("text", "name", "why"),
    [
        ("{", "c.json", "Expecting property name"),
        ("", "c.json", "Expecting value"),
        ("[1]", "c.json", "it holds a list, not an object"),
        ('"x"', "c.json", "it holds a str, not an object"),
        ("a: [", "c.yaml", "not YAML"),
        ("", "c.yaml", "it holds a NoneType, not an object"),
        ("a: !!python/object:os.system x", "c.yaml", "could not determine a constructor"),
    ],
)
def test_a_broken_training_config_is_a_problem(training_config, text, name, why):
    path = training_config(text, name)
    message = problems_of({"TRAINING_CONFIG": path})
    assert message.startswith(f"TRAINING_CONFIG: {path} cannot be used: ")
    assert why in message


def test_a_training_config_that_is_not_text_is_a_problem(tmp_path):
    (tmp_path / "c.json").write_bytes(b"\xff\xfe{")
    assert problems_of({"TRAINING_CONFIG": str(tmp_path / "c.json")}).startswith("TRAINING_CONFIG: ")


def test_a_training_config_that_is_named_but_missing_is_a_problem(tmp_path):
    message = problems_of({"TRAINING_CONFIG": str(tmp_path / "nowhere.json")})
    assert message.startswith(f"TRAINING_CONFIG: {tmp_path}/nowhere.json cannot be used: ")


def test_a_training_config_that_nobody_named_may_be_missing():
    assert load({}).training_method is None


ANY_TEXT = st.text(st.characters(exclude_characters="\0"), max_size=60)
SETTABLE = sorted(name for names in variables().values() for name in names)


@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.differing_executors],
)
@given(st.dictionaries(st.sampled_from(SETTABLE), ANY_TEXT, max_size=6))
def test_whatever_the_environment_holds_there_is_a_config_or_a_config_error(environ):
    try:
        config = load(environ)
    except ConfigError as error:
        named = {part.split(":")[0] for part in error.message.split("; ")}
        assert named & set(environ)
    else:
        assert config.revision
        assert not config.endpoint.endswith("/")


@pytest.mark.parametrize(
    ("name", "value", "field", "default"),
    [
        ("AGENT_NOTIFY_URLS", "channel-7", "notify_urls", ()),
        ("ALERT_API_URL", "undefined/api/alerts/trigger", "alert_url", None),
        ("INTERNAL_API_KEY", "two\nlines", "alert_key", None),
        ("GITHUB_TOKEN", "a token", "github_token", None),
        ("GITHUB_REPOSITORY", "ada", "github_repository", None),
        ("GITHUB_API_URL", "api.github.com", "github_api", "https://api.github.com"),
        ("GITHUB_RUN_ID", "seven", "github_run", None),
    ],
)
def test_who_only_wants_to_hear_of_a_job_keeps_no_model_back(name, value, field, default):
    config = load({name: value, "HF_TOKEN": TOKEN})
    assert getattr(config, field) == default
    assert config.token == TOKEN
    [warning] = config.warnings
    assert warning.startswith(f"ignored, {name}: ")
    assert value not in warning


def test_a_job_that_cannot_be_done_is_refused_whatever_else_is_wrong():
    problems = problems_of({"ALERT_API_URL": "undefined/api", "JOB_ID": "7", "AGENT_STALL_S": "-1"})
    assert "JOB_ID" in problems
    assert "AGENT_STALL_S" in problems
    assert "ALERT_API_URL" not in problems


def test_addresses_that_notify_are_several_and_keep_their_own_commas():
    urls = load({"AGENT_NOTIFY_URLS": " mailto://u:pw@h?to=a@b.c,d@e.f, slack://A/B/C\njson://h"}).notify_urls
    assert [url.get_secret_value() for url in urls] == [
        "mailto://u:pw@h?to=a@b.c,d@e.f",
        "slack://A/B/C",
        "json://h",
    ]


def test_what_opens_a_channel_is_hidden_whole_and_in_parts():
    load(
        {
            "AGENT_NOTIFY_URLS": "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXr, mailto://bot:Planted-Pw1@mail.example.com"
        }
    )
    said = log.redact(
        "T1JJ3T3L2 A1BRTD4JD Planted-Pw1 mail.example.com slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXr"
    )
    assert said == "[hidden] [hidden] [hidden] mail.example.com [hidden]"


def test_where_a_job_comes_from_is_known_in_a_workflow():
    environ = {
        "GITHUB_REPOSITORY": "ada/train",
        "GITHUB_RUN_ID": "17",
        "GITHUB_ACTOR": "ada",
        "GITHUB_SHA": "c0ffee",
    }
    assert load(environ).origin == {
        "git_revision": "c0ffee",
        "actor": "ada",
        "run": "https://github.com/ada/train/actions/runs/17",
    }
    assert load({"AGENT_STATE_DIR": "/s"}).origin == {}
