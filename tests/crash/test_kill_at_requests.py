"""kill -9 at a request, before the server acts or after: one plain rerun brings the same end."""

from __future__ import annotations

import random

import pytest

SITUATIONS = {
    "over an older model": {"model": "sharded", "over": "sft_full"},
    "into a new repo": {"model": "orpo_lora"},
}
SHARES = 6


def survive(stage, situation, moments):
    for moment in moments:
        one = stage(**SITUATIONS[situation])
        try:
            one.kill_at(moment)
            one.assert_converged(one.run())
        except BaseException as error:
            error.add_note(f"killed {moment}")
            raise


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_kill_at_a_request_is_mended_by_one_rerun(situation, stage):
    """The two moments that hurt most (published or recorded, and nobody was told), and some by lot."""
    quiet = stage(**SITUATIONS[situation]).quiet()
    committed, *_, told = [m for m in quiet.since_commit() if m.after and m.method in {"POST", "PATCH"}]
    others = random.Random(situation).sample(quiet.moments(), 3)
    survive(stage, situation, [committed, told, *others])


@pytest.mark.sweep
@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_kill_at_any_request_is_mended_by_one_rerun(situation, share, stage, subtests):
    quiet = stage(**SITUATIONS[situation]).quiet()
    for moment in quiet.moments()[share::SHARES]:
        with subtests.test(str(moment)):
            survive(stage, situation, [moment])
