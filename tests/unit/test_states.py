"""How a training ended, told from the states that trainers leave."""

from __future__ import annotations

import os

import pytest

from agent.artifact import read_training
from agent.artifact.states import checkpoints, first_state, newest_state

STATE = "trainer_state.json"


def early(counter, patience=3):
    return {
        "EarlyStoppingCallback": {
            "args": {"early_stopping_patience": patience, "early_stopping_threshold": 0.0},
            "attributes": {"early_stopping_patience_counter": counter},
        }
    }


def ended(root, **more):
    training = read_training(root, None, **more)
    return training.ended, training.because


@pytest.mark.parametrize(
    ("state", "how"),
    [
        ({"global_step": 100, "max_steps": 100}, "finished"),
        ({"global_step": 101, "max_steps": 100}, "finished"),
        ({"global_step": 40, "max_steps": 100}, "cut-short"),
        ({"global_step": 0, "max_steps": 100}, "cut-short"),
        ({"global_step": 40, "max_steps": 100, "stateful_callbacks": early(3)}, "early-stopping"),
        ({"global_step": 40, "max_steps": 100, "stateful_callbacks": early(4)}, "early-stopping"),
        ({"global_step": 40, "max_steps": 100, "stateful_callbacks": early(2)}, "cut-short"),
        (
            {
                "global_step": 40,
                "max_steps": 100,
                "stateful_callbacks": {"EarlyStoppingCallback": [*early(0).values(), *early(3).values()]},
            },
            "early-stopping",
        ),
        ({"global_step": 40, "max_steps": 100, "stateful_callbacks": {"TrainerControl": {}}}, "cut-short"),
        ({"global_step": 40, "max_steps": 100, "stateful_callbacks": []}, "cut-short"),
        ({"global_step": 40, "max_steps": -1}, "unknown"),
        ({"global_step": 40, "max_steps": 0}, "unknown"),
        ({"global_step": "40", "max_steps": 100}, "unknown"),
        ({"global_step": 40}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_a_state_in_the_root_tells_how_the_training_ended(folder, state, how):
    root = folder({STATE: state})
    assert ended(root, weights_ns=2**62)[0] == how


def test_without_a_state_the_end_is_unknown(folder):
    assert ended(folder({})) == ("unknown", "there is no trainer_state.json")


@pytest.mark.parametrize(("age_ns", "how"), [(0, "cut-short"), (-1, "unknown"), (1, "cut-short")])
def test_a_checkpoint_tells_the_end_only_of_weights_that_are_no_younger(folder, age_ns, how):
    root = folder({f"checkpoint-40/{STATE}": {"global_step": 40, "max_steps": 100}})
    os.utime(root / "checkpoint-40" / STATE, ns=(0, 10**18))
    found = ended(root, weights_ns=10**18 - age_ns)
    assert found[0] == how
    assert f"checkpoint-40/{STATE}" in found[1]


def test_the_state_beside_a_merged_model_counts_as_its_own(folder):
    root = folder({STATE: {"global_step": 4, "max_steps": 9}, "merged_model/config.json": "{}"})
    assert ended(root / "merged_model", beside=root, weights_ns=2**62)[0] == "cut-short"


def test_the_best_checkpoint_of_a_finished_run_is_not_cut_short(folder):
    root = folder(
        {
            f"checkpoint-20/{STATE}": {"global_step": 20, "max_steps": 40, "log_history": [{"loss": 1.5}]},
            f"checkpoint-40/{STATE}": {"global_step": 40, "max_steps": 40, "log_history": [{"loss": 2.5}]},
        }
    )
    best = root / "checkpoint-20"
    assert ended(best, beside=root)[0] == "cut-short"
    training = read_training(best, None, beside=root, whole_run=True)
    assert (training.ended, training.steps, training.metrics) == ("finished", 20, {"loss": 1.5})


def test_checkpoints_are_ordered_by_number_and_only_real_folders_count(folder):
    root = folder(
        {f"checkpoint-{n}/x": "x" for n in ("9", "10", "x", "10-old")} | {"checkpoint-11": "a file"}
    )
    (root / "checkpoint-12").symlink_to("checkpoint-9")
    assert [number for number, _ in checkpoints(root)] == [10, 9]
    assert checkpoints(root / "nowhere") == []


def test_a_damaged_state_is_passed_over(folder):
    root = folder({f"checkpoint-8/{STATE}": '{"global_step": 8', f"checkpoint-4/{STATE}": {"global_step": 4}})
    assert first_state([root]).steps == 4
    assert newest_state(root).name == f"checkpoint-4/{STATE}"
    assert newest_state(root / "checkpoint-8") is None


@pytest.mark.parametrize(
    ("best", "name"),
    [
        ("/workspace/out/checkpoint-20", "checkpoint-20"),
        ("out/checkpoint-20/", "checkpoint-20"),
        ("checkpoint-20", "checkpoint-20"),
        (None, None),
        ("", None),
        ("/", None),
        ("checkpoint-20/../..", None),
        ("/etc", None),
        (5, None),
    ],
)
def test_the_best_checkpoint_is_known_by_its_folder_wherever_it_was_trained(folder, best, name):
    assert newest_state(folder({STATE: {"best_model_checkpoint": best}})).best_checkpoint == name


def test_a_pipe_in_place_of_a_state_does_not_hold_us_up(folder):
    root = folder({})
    os.mkfifo(root / STATE)
    assert first_state([root]) is None
