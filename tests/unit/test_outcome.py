from __future__ import annotations

import pytest

from agent import errors
from agent.outcome import Outcome


def ended_by(outcome, error):
    outcome.failed(error, code="c", message="m", hint="h")
    return outcome


def test_an_outcome_that_nothing_filled_in_is_a_failure():
    made = Outcome().as_json()
    made.pop("duration_s")
    assert made == {
        "result": "failed",
        "published": False,
        "model_url": None,
        "repo_id": None,
        "commit": None,
        "files": 0,
        "bytes": 0,
        "uploaded_bytes": 0,
        "job": {"id": None, "status": None},
        "error": None,
        "warnings": [],
        "steps": {},
    }


def test_each_field_goes_to_its_place_in_the_contract():
    made = Outcome(
        result="completed",
        published=True,
        model_url="u",
        repo_id="ada/m",
        commit="c0",
        files=3,
        size_bytes=10,
        uploaded_bytes=7,
        job_id="j",
        job_status="completed",
        plan={"a": 1},
        warnings=["w"],
    ).as_json()
    assert made.pop("duration_s") >= 0.0
    assert made == {
        "result": "completed",
        "published": True,
        "model_url": "u",
        "repo_id": "ada/m",
        "commit": "c0",
        "files": 3,
        "bytes": 10,
        "uploaded_bytes": 7,
        "job": {"id": "j", "status": "completed"},
        "error": None,
        "warnings": ["w"],
        "steps": {},
        "plan": {"a": 1},
    }


@pytest.mark.parametrize(
    ("error", "status", "result"),
    [
        (errors.HubUnreachableError("m", hint="h"), None, "pending"),
        (errors.Interrupted(15), None, "pending"),
        (errors.Interrupted(2), "running", "pending"),
        (errors.JobRefusedError("m", hint="h"), "cancelled", "cancelled"),
        (errors.JobRefusedError("m", hint="h"), "completed", "failed"),
        (errors.JobRefusedError("m", hint="h"), None, "failed"),
        (errors.ArtifactError("m", hint="h"), "cancelled", "failed"),
        (errors.ConfigError("m", hint="h"), None, "failed"),
        (errors.HubAuthError("m", hint="h"), None, "failed"),
        (errors.HubRefusedError("m", hint="h"), None, "failed"),
        (errors.VerifyMismatchError("m", hint="h"), None, "failed"),
        (ValueError("a bug"), None, "failed"),
    ],
)
def test_why_it_ended_decides_the_result(error, status, result):
    outcome = ended_by(Outcome(job_status=status), error)
    assert outcome.result == result
    assert outcome.as_json()["error"] == {"code": "c", "message": "m", "hint": "h"}


def test_an_error_after_the_proof_does_not_take_the_proof_back():
    outcome = ended_by(Outcome(published=True, model_url="u"), errors.JobRefusedError("m", hint="h"))
    assert (outcome.published, outcome.model_url, outcome.result) == (True, "u", "failed")


def test_every_step_is_accounted_for_also_the_one_that_fails():
    outcome = Outcome()
    with outcome.step("one"):
        pass
    with pytest.raises(KeyError), outcome.step("two"):
        raise KeyError("x")
    assert list(outcome.steps) == ["one", "two"]
    assert all(seconds >= 0.0 for seconds in outcome.as_json()["steps"].values())


def test_two_outcomes_share_nothing():
    one, other = Outcome(), Outcome()
    one.steps["x"] = 1.0
    assert other.steps == {}
