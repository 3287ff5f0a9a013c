from __future__ import annotations

import dataclasses
import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.card import curves
from agent.card.curves import figures
from agent.card.figure import Figure

LOSS = "assets/training-loss.png"
OPTIMIZER, REWARDS = "assets/training-optimizer.png", "assets/training-rewards.png"
ODDS, TOKENS = "assets/training-odds.png", "assets/training-tokens.png"
NAN, INFINITY = math.nan, math.inf


def losses(*values, **more):
    return [{"step": step, "loss": value, **more} for step, value in enumerate(values, 1)]


def only(history, **more):
    """The one figure there is, also after a way through JSON."""
    [figure] = figures(history, **more)
    assert Figure.from_dict(json.loads(json.dumps(dataclasses.asdict(figure)))) == figure
    return figure


def points(figure, at=0):
    series = figure.panels[0].series[at]
    return dict(zip(series.steps, series.values, strict=True))


@pytest.mark.parametrize(
    ("name", "state", "paths"),
    [
        ("sft_lora", "trainer_state.json", [LOSS, OPTIMIZER, TOKENS]),
        ("dpo_lora", "trainer_state.json", [LOSS, OPTIMIZER, REWARDS]),
        ("orpo_lora", "checkpoint-4/trainer_state.json", [LOSS, OPTIMIZER, REWARDS, ODDS]),
    ],
)
def test_a_real_log_becomes_a_figure_of_every_topic_it_tells_of(real_output, name, state, paths):
    history = json.loads((real_output(name) / state).read_text())["log_history"]
    assert [figure.path for figure in figures(history)] == paths


def test_training_and_evaluation_share_a_panel():
    history = [*losses(2.31, 1.5, 1.2, 1.04), {"step": 2, "eval_loss": 1.09}, {"step": 4, "eval_loss": 1.12}]
    figure = only(history, checkpoints=[4, 2, 2], best=2)
    [panel] = figure.panels
    assert [(series.label, series.style) for series in panel.series] == [
        ("training", "points"),
        ("evaluation", "points"),
    ]
    assert points(figure) == {1: 2.31, 2: 1.5, 3: 1.2, 4: 1.04}
    assert points(figure, 1) == {2: 1.09, 4: 1.12}
    assert (figure.checkpoints, figure.best) == ((2, 4), 2)
    assert figure.caption == (
        "Loss over 4 optimizer steps: in training from 2.31 to 1.04; "
        "in evaluation 1.12 at the end, best 1.09 at step 2."
    )


def test_what_is_better_when_it_is_higher_was_best_at_its_highest():
    history = [
        {"step": step, "rewards/margins": 0.1 * step, "eval_rewards/margins": margin}
        for step, margin in enumerate((0.2, 0.9, 0.4), 1)
    ]
    assert "in evaluation 0.4 at the end, best 0.9 at step 2" in only(history).caption


def test_the_highest_learning_rate_and_gradient_are_told():
    history = [
        {"step": step, "learning_rate": rate, "grad_norm": norm}
        for step, rate, norm in ((10, 1e-5, 2.0), (20, 2e-5, 7.5), (1200, 0.0, 1.0))
    ]
    assert only(history).caption == (
        "Learning rate over 1,200 optimizer steps: from 1e-5 to 0, highest 2e-5 at step 20. "
        "Gradient L2 norm: from 2 to 1, highest 7.5 at step 20."
    )


@pytest.mark.parametrize("value", ["2.0", None, True, [], {}, 2**53 + 1, -(10**400)])
def test_what_is_no_number_was_not_logged(value):
    assert points(only(losses(3.0, value, 1.0))) == {1: 3.0, 3: 1.0}


@pytest.mark.parametrize("value", [NAN, INFINITY, -INFINITY, 1e308, -1e39])
def test_what_no_axis_holds_is_a_gap_that_the_caption_names(value):
    figure = only(losses(3.0, value, 1.0))
    assert points(figure) == {1: 3.0, 2: None, 3: 1.0}
    assert figure.caption.endswith("from 3 to 1; NaN or infinite at step 2.")


def test_many_gaps_are_counted():
    assert only(losses(3.0, 2.0, NAN, NAN)).caption.endswith("NaN or infinite 2 times, first at step 3.")


@pytest.mark.parametrize("step", [None, "7", True, -1, 1.5, NAN, INFINITY, 2**53 + 2, 1e300])
def test_an_entry_without_a_step_is_left_out(step):
    history = [*losses(3.0, 1.0), {"step": step, "loss": 9.0}]
    assert points(only(history)) == {1: 3.0, 2: 1.0}
    assert points(only([*losses(3.0, 1.0), {"loss": 9.0}])) == {1: 3.0, 2: 1.0}


def test_steps_come_in_order_and_the_last_word_on_one_counts():
    history = [{"step": step, "loss": loss} for step, loss in ((3, 1.0), (1, 5.0), (2, 4.0), (1, 3.0))]
    [series] = only(history).panels[0].series
    assert (series.steps, series.values) == ((1, 2, 3), (3.0, 4.0, 1.0))


@pytest.mark.parametrize(
    "history", [[], losses(1.0), losses(1.0, NAN, NAN), losses("a", "b"), ["step", 3, None], {"loss": 1}]
)
def test_less_than_two_numbers_are_no_figure(history):
    assert figures(history) == []


def test_one_evaluation_stands_beside_the_training():
    assert points(only([*losses(2.0, 1.0), {"step": 2, "eval_loss": 1.5}]), 1) == {2: 1.5}


def test_single_tokens_are_not_shown_of_preference_training():
    history = [
        {"step": step, "mean_token_accuracy": 0.5, "rewards/margins": 0.1 * step} for step in range(1, 4)
    ]
    assert [figure.path for figure in figures(history)] == [REWARDS]


def test_a_long_training_is_smoothed_and_a_short_one_is_not():
    assert [series.style for series in only(losses(*[1.0, 2.0] * 9)).panels[0].series] == ["points"]
    long = only(losses(*[1.0, 2.0] * 10))
    assert [series.style for series in long.panels[0].series] == ["faint", "line"]
    assert max(points(long, 1).values()) - min(points(long, 1).values()) < 0.5
    assert "(smoothed)" in long.caption


def test_an_average_neither_starts_from_nothing_nor_lags_behind():
    constant = points(only(losses(*[5.0] * 40)), 1)
    assert list(constant.values()) == pytest.approx([5.0] * 40)
    falling = points(only(losses(*[200.0 - step for step in range(101)])), 1)
    assert falling[51] == pytest.approx(150.0)


def test_an_average_has_the_gaps_of_its_values():
    smoothed = points(only(losses(*[1.0] * 20, NAN, *[1.0] * 20)), 1)
    assert [step for step, value in smoothed.items() if value is None] == [21]


def test_a_learning_rate_is_not_smoothed():
    figure = only([{"step": step, "learning_rate": 1e-4 * (step % 2)} for step in range(100)])
    assert [series.style for series in figure.panels[0].series] == ["line"]


def test_a_spike_is_shown_on_a_logarithmic_axis_and_does_not_lift_the_average():
    figure = only(losses(*[2.0] * 50, 1e6, *[2.0] * 50))
    assert figure.panels[0].log_scale
    smoothed = points(figure, 1)
    assert smoothed[20] == pytest.approx(2.0, rel=0.01)
    assert smoothed[51] < 1e5
    assert not only(losses(*[2.0] * 50, 1e6, -1.0)).panels[0].log_scale
    assert not only(losses(4.0, 2.0, 1.0)).panels[0].log_scale


@pytest.mark.parametrize(("highest", "share"), [(1.0, True), (1.5, False)])
def test_a_share_is_read_against_the_whole(highest, share):
    figure = only([{"step": step, "rewards/accuracies": highest / step} for step in (1, 2)])
    assert figure.panels[0].share is share


def test_a_long_log_is_thinned_out_and_keeps_its_ends_extremes_and_gaps():
    values = [1.0 + step % 7 / 100 for step in range(100_000)]
    values[33_333], values[66_666], values[77_777] = 9.0, 0.1, NAN
    figure = only(losses(*values))
    for series in figure.panels[0].series:
        assert len(series.steps) <= 2000
        assert list(series.steps) == sorted(set(series.steps))
    raw = points(figure)
    assert (min(raw), max(raw)) == (1, 100_000)
    assert (raw[33_334], raw[66_667], raw[77_778]) == (9.0, 0.1, None)


@pytest.mark.parametrize(
    ("checkpoints", "best", "shown"),
    [
        ([2, 4, 5], 5, ((2, 4, 5), 5)),  # saved after what was logged last
        ([2, 900], 900, ((2,), None)),
        ([-1, True, "2", None, 2.0, 10**400], -1, ((2,), None)),
        (range(201), 3, ((), 3)),
    ],
)
def test_checkpoints_are_shown_where_they_belong_to_the_run(checkpoints, best, shown):
    history = losses(*[1.0] * (4 if best in {5, 900, -1} else 300))
    figure = only(history, checkpoints=checkpoints, best=best)
    assert (figure.checkpoints, figure.best) == shown


KEYS = sorted(metric.key for _, metrics in curves._TOPICS.values() for metric in metrics)
VALUES = st.one_of(
    st.floats(), st.integers(), st.booleans(), st.none(), st.text(max_size=3), st.just([]), st.just(1e308)
)
ENTRIES = st.dictionaries(
    st.sampled_from(["step", *KEYS, *[f"eval_{key}" for key in KEYS]]) | st.text(max_size=3), VALUES
).flatmap(lambda entry: st.integers(0, 60).map(lambda step: {"step": step, **entry}))
WORDS = re.compile(r"[A-Za-z][A-Za-z0-9 .,:;()-]*\.")


@given(st.lists(ENTRIES | VALUES, max_size=60), st.lists(VALUES), VALUES)
def test_no_log_raises_and_no_word_of_it_is_told(history, checkpoints, best):
    made = figures(history, checkpoints=checkpoints, best=best)
    assert len(made) <= 5
    for figure in made:
        assert WORDS.fullmatch(figure.caption)
        assert Figure.from_dict(json.loads(json.dumps(dataclasses.asdict(figure), allow_nan=False))) == figure
