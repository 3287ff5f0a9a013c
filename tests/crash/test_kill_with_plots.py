"""kill -9 while plots are drawn, sent, committed or read back: one plain rerun brings the same end."""

from __future__ import annotations

import random

import pytest

from tests.crash.conftest import survive

PLOTS = {f"assets/training-{topic}.png" for topic in ("loss", "optimizer", "rewards", "odds")}
SHARES = 8


def drawing(stage):
    one = stage("orpo_lora", over="sft_full")
    one.pod.draws, one.plots = True, PLOTS
    return one


def test_a_kill_with_plots_on_their_way_is_mended_by_one_rerun(stage):
    quiet = drawing(stage).quiet()
    committed = next(moment for moment in quiet.moments() if moment.after and "/commit/" in moment.path)
    sent = [moment for moment in quiet.moments() if "/v1/" in moment.path]
    survive(lambda: drawing(stage), [committed, random.Random(1).choice(sent)])


@pytest.mark.sweep
@pytest.mark.parametrize("share", range(SHARES))
def test_a_kill_at_any_request_with_plots_is_mended_by_one_rerun(share, stage, subtests):
    quiet = drawing(stage).quiet()
    for moment in quiet.moments()[share::SHARES]:
        with subtests.test(str(moment)):
            survive(lambda: drawing(stage), [moment])
