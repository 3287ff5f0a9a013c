from __future__ import annotations

import pytest

from agent.gate import Gate, UnknownMetricError, parse

METRICS = {"eval_loss": 1.2, "rewards/accuracies": 0.7, "train_loss": 0.9, "eval_wer": 12.0}


@pytest.mark.parametrize("text", ["always", " always ", "always and always"])
def test_always_is_no_condition(text):
    gate = parse(text)
    assert gate == Gate()
    assert gate.refusal({}, None, None) is None


@pytest.mark.parametrize(
    "text",
    [
        "eval_loss<=1.2",
        "eval_loss <= 1.2",
        "eval_loss>=1.2",
        "eval_loss==1.2",
        "eval_loss!=1",
        "eval_loss<1.3",
        "eval_loss>1.1e0",
        "eval_loss>-1",
        "rewards/accuracies>0.6 and eval_loss<=1.2",
        "rewards/accuracies>0.6  and  always",
    ],
)
def test_a_condition_that_holds_lets_the_model_pass(text):
    assert parse(text).refusal(METRICS, None, None) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("eval_loss<1.2", "eval_loss<1.2 does not hold: 1.2"),
        ("eval_loss>1.2", "eval_loss>1.2 does not hold: 1.2"),
        ("eval_loss<=1.1", "eval_loss<=1.1 does not hold: 1.2"),
        ("eval_loss>=1.3", "eval_loss>=1.3 does not hold: 1.2"),
        ("eval_loss==1", "eval_loss==1 does not hold: 1.2"),
        ("eval_loss!=1.2", "eval_loss!=1.2 does not hold: 1.2"),
        (
            "rewards/accuracies>0.9 and train_loss<1 and eval_loss<1",
            "rewards/accuracies>0.9 does not hold: 0.7; eval_loss<1 does not hold: 1.2",
        ),
    ],
)
def test_every_condition_that_does_not_hold_is_named_with_its_value(text, reason):
    assert parse(text).refusal(METRICS, None, None) == reason


@pytest.mark.parametrize(
    "text",
    [
        "",
        "eval_loss",
        "eval_loss<",
        "<1",
        "eval_loss=1",
        "eval_loss<1.2.3",
        "eval_loss<nan",
        "eval_loss<good",
        "eval_loss<1 or train_loss<1",
        "eval_loss<1,train_loss<1",
        "eval_loss<1 and",
        "improves:",
        "improves: eval_loss",
        "branch:",
        "ref:main",
        "__import__('os')<1",
        "never",
    ],
)
def test_what_is_no_condition_is_refused_and_named(text):
    with pytest.raises(ValueError, match="is no condition; use"):
        parse(text)


@pytest.mark.parametrize("text", ["f1>1", "improves:f1"])
def test_a_metric_nobody_logged_is_an_error_that_lists_the_known_ones(text):
    with pytest.raises(
        UnknownMetricError, match=r"f1 was not logged.*known are eval_loss, rewards/accuracies"
    ):
        parse(text).refusal(METRICS, {}, None)
    with pytest.raises(UnknownMetricError, match=r"none: the folder holds no trainer_state\.json"):
        parse(text).refusal({}, {}, None)


@pytest.mark.parametrize(
    ("metric", "before", "improves"),
    [
        ("eval_loss", 1.3, True),
        ("eval_loss", 1.2, False),
        ("eval_loss", 1.1, False),
        ("eval_wer", 13, True),
        ("eval_wer", 11, False),
        ("rewards/accuracies", 0.6, True),
        ("rewards/accuracies", 0.7, False),
        ("rewards/accuracies", 0.8, False),
        ("eval_loss", None, True),
        ("eval_loss", "1.0", True),
        ("eval_loss", float("nan"), True),
    ],
)
def test_better_is_lower_for_losses_and_errors_and_higher_for_the_rest(metric, before, improves):
    gate = parse(f"improves:{metric}")
    assert gate.compares
    refusal = gate.refusal(METRICS, {metric: before}, None)
    assert (refusal is None) == improves
    if not improves:
        assert refusal.startswith(f"{metric} does not improve: ")


def test_with_nothing_to_compare_with_a_model_improves():
    assert parse("improves:eval_loss").refusal(METRICS, None, None) is None
    assert parse("improves:eval_loss").refusal(METRICS, {}, None) is None


@pytest.mark.parametrize(
    ("text", "ref", "passes"),
    [
        ("branch:main", "refs/heads/main", True),
        ("branch:main", "refs/heads/main2", False),
        ("branch:release/*", "refs/heads/release/1", True),
        ("branch:main", "refs/tags/main", False),
        ("branch:main", "main", False),
        ("branch:main", None, False),
        ("tag:v*", "refs/tags/v1.2", True),
        ("tag:*", "refs/heads/main", False),
    ],
)
def test_branches_and_tags_are_those_of_the_commit_that_is_built(text, ref, passes):
    refusal = parse(text).refusal({}, None, ref)
    assert refusal == (None if passes else f"{text} does not hold: GITHUB_REF is {ref or 'not set'}")
