"""kill -9 at a moment nobody chose: one plain rerun brings the same end."""

from __future__ import annotations

import random

import pytest

KILLS = 4
LONGEST_WAIT_S = 0.05


def survive(stage, seed, kills):
    """Kill that often: after a random answer, a random while later; now and then the rerun as well."""
    die = random.Random(seed)
    total = stage("sharded", over="sft_full").quiet().total
    struck = 0
    for _ in range(3 * kills):  # a finalize that ended before it could be killed does not count
        one = stage("sharded", over="sft_full")
        moments = [
            (die.randrange(total), die.uniform(0, LONGEST_WAIT_S)) for _ in range(die.choice([1, 1, 2]))
        ]
        try:
            struck += sum(one.kill_later(requests, wait_s) for requests, wait_s in moments)
            one.assert_converged(one.run())
        except BaseException as error:
            error.add_note(f"killed so many seconds after so many answers: {moments}")
            raise
        if struck >= kills:
            return
    pytest.fail(f"only {struck} kills struck")


@pytest.mark.parametrize("seed", range(2))
def test_a_kill_at_a_random_moment_is_mended_by_one_rerun(seed, stage):
    survive(stage, seed, KILLS // 2)


@pytest.mark.sweep
@pytest.mark.parametrize("seed", range(100, 106))
def test_many_kills_at_random_moments_are_mended_by_one_rerun_each(seed, stage):
    survive(stage, seed, 10)
