"""kill -9 at a request, before the server acts or after: one plain rerun brings the same end."""

from __future__ import annotations

import random

import pytest

from tests.crash.conftest import survive

SITUATIONS = {
    "over an older model": {"model": "sharded", "over": "sft_full"},
    "into a new repo": {"model": "orpo_lora"},
}
SHARES = 6


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_kill_at_a_request_is_mended_by_one_rerun(situation, stage):
    """The two moments that hurt most (published or recorded, and nobody was told), and some by lot."""
    quiet = stage(**SITUATIONS[situation]).quiet()
    changed = [one for one in quiet.since_commit() if one.after and one.method != "GET"]
    committed, told = (next(one for one in changed if part in one.path) for part in ("/commit/", "_jobs"))
    others = random.Random(situation).sample(quiet.moments(), 3)
    survive(lambda: stage(**SITUATIONS[situation]), [committed, told, *others])


@pytest.mark.sweep
@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_kill_at_any_request_is_mended_by_one_rerun(situation, share, stage, subtests):
    quiet = stage(**SITUATIONS[situation]).quiet()
    for moment in quiet.moments()[share::SHARES]:
        with subtests.test(str(moment)):
            survive(lambda: stage(**SITUATIONS[situation]), [moment])
