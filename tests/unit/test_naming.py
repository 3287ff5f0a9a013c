from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config import load
from agent.errors import ConfigError
from agent.hub.naming import is_valid_name, repo_id_for

JOB = "6F1c2a54-9d0e-4a57-8c11-0123456789ab"


class Hub:
    """A client that only knows whose token it has, and counts how often it is asked."""

    def __init__(self):
        self.asked = 0

    def username(self):
        self.asked += 1
        return "ada"


@pytest.mark.parametrize(
    ("environ", "repo_id", "asked"),
    [
        ({"HF_REPO_NAME": "lab/model"}, "lab/model", 0),
        ({"HF_REPO_NAME": "lab/model", "HF_USERNAME": "bob"}, "lab/model", 0),
        ({"HF_REPO_NAME": "model"}, "ada/model", 1),
        ({"HF_REPO_NAME": "model", "HF_USERNAME": "bob"}, "bob/model", 0),
        ({"HF_REPO_NAME": "model", "TRAINING_CONFIG_NAME": "x"}, "ada/model", 1),
        ({"TRAINING_CONFIG_NAME": "My Run #7"}, "ada/my-run-7", 1),
        ({"TRAINING_CONFIG_NAME": "My Run", "HF_USERNAME": "bob"}, "bob/my-run", 0),
        ({"TRAINING_CONFIG_NAME": "Run", "TRAINING_CONFIG_ID": "c0ffee00-1", "JOB_ID": JOB}, "ada/run", 1),
        ({"TRAINING_CONFIG_ID": "C0-FFEE0012-34", "JOB_ID": JOB}, "ada/finetune-c0ffee00", 1),
        ({"TRAINING_CONFIG_ID": "ab"}, "ada/finetune-ab", 1),
        ({"JOB_ID": JOB}, "ada/finetune-6f1c2a54", 1),
        ({"TRAINING_CONFIG_NAME": "模型", "JOB_ID": JOB}, "ada/finetune-6f1c2a54", 1),
        ({"TRAINING_CONFIG_NAME": "---", "JOB_ID": JOB}, "ada/finetune-6f1c2a54", 1),
    ],
)
def test_the_repo_is_named_by_what_is_configured_first(environ, repo_id, asked):
    hub = Hub()
    assert repo_id_for(load(environ), hub) == repo_id
    assert hub.asked == asked


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Llama 3.2 — SFT (v2)", "llama-3-2-sft-v2"),
        ("a--b..c", "a-b-c"),
        ("  x  ", "x"),
        ("my.git", "my-git"),
        ("snake_case", "snake_case"),
        ("x" * 200, "x" * 96),
        ("x" * 95 + "-yy", "x" * 95),
    ],
)
def test_a_config_name_becomes_a_name_the_hub_accepts(name, slug):
    made = repo_id_for(load({"TRAINING_CONFIG_NAME": name}), Hub())
    assert made == f"ada/{slug}"
    assert is_valid_name(slug)


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(st.text(max_size=120))
def test_any_config_name_leads_to_a_name_the_hub_accepts(name):
    made = repo_id_for(load({"TRAINING_CONFIG_NAME": name.replace("\0", ""), "JOB_ID": JOB}), Hub())
    namespace, _, repo = made.partition("/")
    assert namespace == "ada"
    assert is_valid_name(repo)


def test_without_any_name_the_cure_is_told():
    with pytest.raises(ConfigError) as raised:
        repo_id_for(load({}), Hub())
    assert raised.value.message == (
        "There is no repo to publish to: HF_REPO_NAME, TRAINING_CONFIG_NAME and JOB_ID are all unset."
    )
    assert raised.value.hint == "Set HF_REPO_NAME=your-name/your-model."


@pytest.mark.parametrize("name", ["a", "model", "Model_1.2-x", "_x", "x_", "1", "a" * 96, "a.b-c"])
def test_names_the_hub_accepts(name):
    assert is_valid_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-a",
        "a-",
        ".a",
        "a.",
        "a--b",
        "a..b",
        "a.git",
        "a" * 97,
        "a b",
        "ä",
        "a/b",
        "a\n",
        "a\0b",
        "a@b",
        ".",
    ],
)
def test_names_the_hub_refuses(name):
    assert not is_valid_name(name)


@pytest.mark.parametrize(
    "name", ["a/b/c", "/model", "ada/", "ada//model", "-a/b", "ada/b.git", "ada/b--c", "ada/b c"]
)
def test_a_name_the_hub_would_refuse_is_refused_before_it_is_asked(name):
    with pytest.raises(ConfigError) as raised:
        repo_id_for(load({"HF_REPO_NAME": name}), Hub())
    assert raised.value.message == f"HF_REPO_NAME: {name!r} is not a repo name the Hub accepts."
    assert "at most 96" in raised.value.hint


def test_a_namespace_the_hub_would_refuse_is_refused():
    with pytest.raises(ConfigError, match="ada lovelace/model"):
        repo_id_for(load({"HF_REPO_NAME": "model", "HF_USERNAME": "ada lovelace"}), Hub())
