"""A run dies after its commit, the model is trained again, and the same job publishes the new one."""

from __future__ import annotations

import random

import pytest

from tests.conftest import retrain

SHARES = 2


def survive(stage, moments):
    """Every other time the new files carry the times of the old ones, as `rsync -t` leaves them."""
    # All folders first: what was written a moment ago is hashed again, what is older is remembered.
    stages = [stage("sharded", over="sft_full") for _ in moments]
    for number, (one, moment) in enumerate(zip(stages, moments, strict=True)):
        try:
            one.kill_at(moment)
            assert len(one.commits_of_the_job()) == 1
            retrain(one.folder, random.Random(str(moment)), keep_times=number % 2 == 1)
            one.assert_converged(one.run(), publications=2)
        except BaseException as error:
            error.add_note(f"killed {moment}")
            raise


def test_a_model_trained_again_after_a_kill_replaces_the_one_that_nobody_was_told_of(stage):
    """Killed before the row was told, and after: the end is the new content, completed once."""
    moments = stage("sharded", over="sft_full").quiet().since_commit()
    survive(stage, [moment for moment in moments if moment.method == "PATCH"])


@pytest.mark.sweep
@pytest.mark.parametrize("share", range(SHARES))
def test_a_model_trained_again_after_any_kill_since_the_commit_replaces_the_first(share, stage):
    moments = stage("sharded", over="sft_full").quiet().since_commit()
    survive(stage, moments[share::SHARES])
