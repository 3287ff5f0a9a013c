from __future__ import annotations

import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.artifact import Training, read_training

SFT_LOG = [{"loss": 1.0, "mean_token_accuracy": 0.5, "step": 1}]


def state(**more):
    return {"global_step": 4, "log_history": SFT_LOG} | more


@pytest.mark.parametrize(
    ("name", "method", "steps", "some_metrics"),
    [
        ("sft_lora", "sft", 4, {"eval_loss": 4.489992618560791, "loss": 4.5107269287109375}),
        ("sft_full", "sft", 4, {"eval_loss": 4.484582424163818}),
        ("dpo_lora", "dpo", 4, {"eval_logps/chosen": -18.429229736328125}),
        ("orpo_lora", "orpo", 4, {"eval_log_odds_ratio": -0.736634373664856}),
        ("base", None, None, {}),
        ("sharded", None, None, {}),
    ],
)
def test_a_real_output_tells_its_method_steps_and_metrics(real_output, name, method, steps, some_metrics):
    training = read_training(real_output(name), None)
    assert (training.method, training.steps) == (method, steps)
    assert {key: training.metrics.get(key) for key in some_metrics} == some_metrics


def test_only_metrics_are_taken_from_a_real_log(real_output):
    assert list(read_training(real_output("sft_full"), None).metrics) == [
        "entropy",
        "eval_entropy",
        "eval_loss",
        "eval_mean_token_accuracy",
        "eval_num_tokens",
        "grad_norm",
        "learning_rate",
        "loss",
        "mean_token_accuracy",
        "num_tokens",
    ]


@pytest.mark.parametrize(("configured", "method"), [("DPO", "dpo"), ("orpo", "orpo"), ("KTO", "kto")])
def test_the_configured_method_wins(folder, configured, method):
    assert read_training(folder({"trainer_state.json": state()}), configured).method == method


@pytest.mark.parametrize("configured", [None, ""])
def test_no_configured_method_leaves_it_to_the_logs(folder, configured):
    assert read_training(folder({"trainer_state.json": state()}), configured).method == "sft"


@pytest.mark.parametrize(
    ("log", "method"),
    [
        ([{"loss": 1.0}], "sft"),
        ([{"train_loss": 1.0}], "sft"),
        ([{"loss": 1.0, "mean_token_accuracy": 0.5}], "sft"),
        ([{"loss": 1.0, "rewards/chosen": 0.1}], "dpo"),
        ([{"loss": 1.0}, {"rewards/margins": 0.1}], "dpo"),
        ([{"loss": 1.0, "rewards/chosen": 0.1, "mean_token_accuracy": 0.5}], "dpo"),
        ([{"loss": 1.0, "rewards/chosen": 0.1, "log_odds_ratio": 0.1}], "orpo"),
        ([{"eval_loss": 1.0}], None),
        ([], None),
        ([None, 5, "loss", ["loss"]], None),
    ],
)
def test_the_logs_tell_the_method(folder, log, method):
    assert read_training(folder({"trainer_state.json": {"log_history": log}}), None).method == method


CARD = "---\nlibrary_name: peft\ntags:\n- trl\n- {}\n---\n\n# Title\n"


@pytest.mark.parametrize(
    ("text", "method"),
    [
        (CARD.format("sft"), "sft"),
        (CARD.format("dpo"), "dpo"),
        (CARD.format("orpo"), "orpo"),
        (CARD.format("orpo").replace("\n", "\r\n"), "orpo"),
        (CARD.format("lora"), None),
        ("---\ntags:\n- sft\n---\n", None),
        ("# No metadata\n", None),
        ("---\ntags: []\n---\n\n- trl\n- sft\n", None),
    ],
)
def test_without_logs_the_card_that_trl_wrote_tells_the_method(folder, text, method):
    root = folder({"README.md": text.encode()})
    assert read_training(root, None).method == method


def test_the_logs_beat_the_card(folder):
    root = folder({"README.md": CARD.format("dpo"), "trainer_state.json": state()})
    assert read_training(root, None).method == "sft"


def test_a_card_that_is_not_utf8_is_no_trouble(folder):
    assert (
        read_training(folder({"README.md": b"---\ntags:\n- trl\n- sft\n- \xff\n---\n"}), None).method == "sft"
    )


def test_an_empty_folder_tells_nothing(folder):
    assert read_training(folder({}), None) == Training(method=None, metrics={}, steps=None)


def test_the_newest_checkpoint_is_found_by_its_number_not_its_name(folder):
    root = folder({f"checkpoint-{n}/trainer_state.json": state(global_step=n) for n in (9, 10, 100, 20)})
    assert read_training(root, None).steps == 100


def test_the_state_in_the_root_comes_first(folder):
    root = folder(
        {
            "trainer_state.json": state(global_step=1),
            "checkpoint-9/trainer_state.json": state(global_step=9),
        }
    )
    assert read_training(root, None).steps == 1


@pytest.mark.parametrize("damage", ["", "{", "[1]", "null", '"x"', b"\xff\xfe\x00"])
def test_a_damaged_state_is_passed_over_for_the_next_best(folder, damage):
    root = folder(
        {
            "trainer_state.json": damage,
            "checkpoint-10/trainer_state.json": damage,
            "checkpoint-9/trainer_state.json": state(global_step=9),
        }
    )
    assert read_training(root, None).steps == 9


def test_a_newest_checkpoint_without_its_state_is_passed_over(folder):
    """trainer_state.json is written last: a checkpoint cut short has none."""
    root = folder(
        {"checkpoint-10/model.safetensors": "w", "checkpoint-9/trainer_state.json": state(global_step=9)}
    )
    assert read_training(root, None).steps == 9


def test_folders_that_only_look_like_checkpoints_are_none(folder):
    root = folder(
        {
            "checkpoint-best/trainer_state.json": state(global_step=1),
            "checkpoint-7-old/trainer_state.json": state(global_step=2),
            "checkpoint-/trainer_state.json": state(global_step=3),
            "my-checkpoint-8/trainer_state.json": state(global_step=4),
        }
    )
    assert read_training(root, None).steps is None


def test_a_folder_where_the_state_should_be_is_no_trouble(folder):
    assert read_training(folder({"trainer_state.json": None}), None) == Training()


def test_the_last_value_of_each_metric_counts(folder):
    log = [{"loss": 3.0, "lr": 1}, {"loss": 2.0}, {"eval_loss": 5.0}, {"loss": 1.0}]
    root = folder({"trainer_state.json": {"log_history": log}})
    assert read_training(root, None).metrics == {"eval_loss": 5.0, "loss": 1.0, "lr": 1.0}


def test_nan_and_infinity_are_read_and_never_passed_on(folder):
    text = (
        '{"global_step": 3, "best_metric": NaN, "log_history": ['
        '{"loss": 2.5, "grad_norm": 1.5}, {"loss": NaN, "grad_norm": Infinity}, {"eval_loss": -Infinity}, '
        '{"huge": 1e999}]}'
    )
    training = read_training(folder({"trainer_state.json": text}), None)
    assert training.metrics == {}
    assert training.diverged == ("eval_loss", "grad_norm", "huge", "loss")
    assert (training.method, training.steps, training.best_metric) == ("sft", 3, None)
    assert set(training.last_values) == set(training.diverged)
    assert all(math.isnan(value) for value in training.last_values.values())


def test_a_metric_that_recovered_counts_with_its_last_value(folder):
    text = '{"log_history": [{"loss": NaN, "acc": 0.5}, {"loss": 2.0, "acc": Infinity}, {"acc": 0.75}]}'
    training = read_training(folder({"trainer_state.json": text}), None)
    assert (training.metrics, training.diverged) == ({"acc": 0.75, "loss": 2.0}, ())


def test_counters_and_timings_are_no_metrics(folder):
    log = [
        {
            "step": 1,
            "epoch": 0.5,
            "total_flos": 1e9,
            "train_runtime": 3.0,
            "eval_runtime": 1.0,
            "train_samples_per_second": 2.0,
            "eval_steps_per_second": 2.0,
            "train_loss": 0.5,
        }
    ]
    root = folder({"trainer_state.json": {"log_history": log}})
    assert read_training(root, None).metrics == {"train_loss": 0.5}


@pytest.mark.parametrize("value", ["0.5", None, True, False, [0.5], {"a": 0.5}])
def test_what_is_no_number_is_no_metric(folder, value):
    root = folder({"trainer_state.json": {"log_history": [{"loss": value}]}})
    assert read_training(root, None).metrics == {}


@pytest.mark.parametrize("steps", ["4", None, 4.0, [4], {}])
def test_steps_that_are_no_whole_number_are_unknown(folder, steps):
    assert read_training(folder({"trainer_state.json": state(global_step=steps)}), None).steps is None


@pytest.mark.parametrize("log", [{}, {"loss": 1.0}, "loss", "", []])
def test_a_log_of_the_wrong_type_says_nothing(folder, log):
    training = read_training(folder({"trainer_state.json": {"log_history": log, "global_step": 2}}), None)
    assert (training.method, training.metrics, training.steps) == (None, {}, 2)


NUMBERS = st.floats() | st.integers(-(10**300), 10**300)
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(history=st.lists(ANYTHING, max_size=4), steps=ANYTHING)
def test_whatever_a_state_holds_only_finite_numbers_come_out(tmp_path, history, steps):
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": history, "global_step": steps}))
    training = read_training(tmp_path, None)
    json.dumps(training.metrics, allow_nan=False)
    assert all(isinstance(value, float) for value in training.metrics.values())
