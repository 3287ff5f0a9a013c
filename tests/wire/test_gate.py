"""AGENT_PUBLISH_IF through a whole finalize: what is refused stays unpublished, and the row says why."""

from __future__ import annotations

import json
import os

import pytest

from agent import finalize as story
from tests.wire.test_job_row import assert_true, told


def retrained(folder, loss):
    """Let the folder be the output of a training that ended with this loss."""
    state = next(folder.glob("**/trainer_state.json"))
    document = json.loads(state.read_text())
    document["log_history"].append({"step": 10**6, "eval_loss": loss})
    state.write_text(json.dumps(document))
    (folder / "adapter_config.json").write_text(
        (folder / "adapter_config.json").read_text().rstrip().removesuffix("}") + f', "seen": {loss}}}'
    )
    return folder


def test_a_refused_model_stays_here_and_everybody_is_told_why(app, pod, hub, trained):
    job, folder = app.add_job(), retrained(trained("sft_lora"), 1.3)
    code, answer = told(pod, folder, AGENT_PUBLISH_IF="eval_loss<=1.2", **app.environ(job))
    row = app.row(job.id)
    assert (code, answer["result"], answer["published"], answer["model_url"]) == (
        0,
        "not-published",
        False,
        None,
    )
    assert (row["status"], row["progress"], row["model_url"]) == ("completed", 100, None)
    assert row["result_note"] == answer["note"] == "eval_loss<=1.2 does not hold: 1.3"
    assert not hub.repos
    assert '"gate_refused"' in (pod.state_dir / job.id / "audit.jsonl").read_text()


def test_a_model_that_passes_is_published_as_ever(app, pod, hub, trained):
    job, folder = app.add_job(), retrained(trained("sft_lora"), 1.1)
    code, answer = told(pod, folder, AGENT_PUBLISH_IF="eval_loss<=1.2", **app.environ(job))
    assert_true(app, job, hub, code, answer)
    assert (code, "note" in answer) == (0, False)


def test_an_unknown_metric_is_an_error_and_the_row_says_so(app, pod, hub, trained):
    job = app.add_job()
    code, answer = told(pod, trained("sft_lora"), AGENT_PUBLISH_IF="f1>0.5", **app.environ(job))
    row = assert_true(app, job, hub, code, answer)
    assert (code, row["status"]) == (10, "failed")
    assert "known are" in row["error_message"]


def test_only_what_improves_takes_the_place_of_the_model_that_is_there(app, pod, hub, trained):
    gate, jobs = {"AGENT_PUBLISH_IF": "improves:eval_loss"}, [app.add_job() for _ in range(3)]
    ends = []
    for job, loss in zip(jobs, (1.2, 1.3, 1.1), strict=True):
        folder = retrained(trained("sft_lora", str(loss)), loss)
        code, answer = told(pod, folder, **gate, **app.environ(job))
        assert code == 0
        ends.append(answer["result"])
    assert ends == ["completed", "not-published", "completed"]
    assert app.row(jobs[1].id)["result_note"] == "eval_loss does not improve: 1.3 after 1.2"
    assert json.loads(hub.read("ada/model", "finalize.json"))["metrics"]["eval_loss"] == 1.1


@pytest.mark.parametrize("touched", [False, True])
def test_a_model_never_competes_with_itself(touched, app, pod, hub, trained, monkeypatch):
    """Stopped between commit and row: the rerun finds its own commit, whatever the files' times say."""
    job, folder = app.add_job(), retrained(trained("sft_lora"), 1.2)
    gate = {"AGENT_PUBLISH_IF": "improves:eval_loss"}

    def stop(self):
        raise SystemExit

    monkeypatch.setattr(story.Publisher, "verify", stop)
    with pytest.raises(SystemExit):
        pod.finalize(folder, **gate, **app.environ(job))
    monkeypatch.undo()
    assert app.row(job.id)["status"] == "running"
    if touched:
        for path in folder.rglob("*"):
            os.utime(path, (4e9, 4e9))
    code, answer = told(pod, folder, **gate, **app.environ(job))
    assert_true(app, job, hub, code, answer)
    assert (code, answer["result"]) == (0, "completed")
    assert len(hub.repo("ada/model").commits("main")) == 2
    again = retrained(trained("sft_lora", "again"), 1.5)
    code, answer = told(pod, again, **gate, **app.environ(job))
    assert (code, answer["result"], answer["job"]["status"]) == (0, "not-published", "completed")
    assert app.row(job.id)["model_url"]


def test_a_dry_run_tells_what_the_gate_would_say_and_writes_nothing(app, pod, hub, trained):
    job, folder = app.add_job(), retrained(trained("sft_lora"), 1.3)
    process = pod.command(
        folder, "finalize", "--dry-run", AGENT_PUBLISH_IF="eval_loss<=1.2", **app.environ(job)
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "AGENT_PUBLISH_IF says no: eval_loss<=1.2 does not hold: 1.3" in out
    assert app.row(job.id)["status"] == "running"
    assert {request.method for request in app.rest.requests} == {"GET"}
    assert not (pod.state_dir / job.id).exists()
