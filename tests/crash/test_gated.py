"""A run with a condition dies after its commit: the rerun must not measure the model against itself."""

from __future__ import annotations

import pytest

SHARES = 4  # no test takes longer than the watchdog allows
GATE = {"AGENT_PUBLISH_IF": "improves:train_loss"}


@pytest.fixture
def gated(stage):
    def make():
        one = stage("sft_lora")
        one.more = GATE
        return one

    return make


def survive(gated, moments):
    for moment in moments:
        one = gated()
        one.kill_at(moment)
        answer = one.run()
        assert answer["result"] == "completed", moment
        one.assert_converged(answer)


def test_a_model_that_was_published_before_the_kill_does_not_have_to_improve_on_itself(gated):
    moments = gated().quiet().since_commit()
    survive(gated, [moment for moment in moments if moment.method == "PATCH" and not moment.after])


@pytest.mark.sweep
@pytest.mark.parametrize("share", range(SHARES))
def test_a_gated_model_survives_a_kill_at_any_request(share, gated):
    survive(gated, gated().quiet().moments()[share::SHARES])
