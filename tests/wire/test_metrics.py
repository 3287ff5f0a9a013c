"""Metrics of real runs: they say what the Hub, the row and the JSON answer say."""

from __future__ import annotations

import json
import shlex
import sys
from io import StringIO

import pytest
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics
from structlog.testing import capture_logs

from agent.config import load
from agent.errors import HubAuthError, HubUnreachableError, TrainingFailedError
from agent.job import alone
from agent.outcome import Outcome
from agent.retry import Patience
from agent.run import Run, RunOutcome
from agent.sandbox.loopback import Fault
from agent.telemetry import metrics_file
from tests.conftest import FIXTURES, ROOT, Clock

JOB = "7d9f5f5c-1111-4a3b-9c5e-0123456789ab"
TRAINER = [sys.executable, str(ROOT / "tests" / "trainer.py")]
MODEL = f"save={FIXTURES / 'sft_lora'}"
STATUS = {"kind": "status", "status": 503}
# hf_xet repeats its own calls unseen, and nobody reads the body of the answer to a tag.
OURS = r"/api/(?!.*/(xet-write-token|tag)/)"


class Metrics:
    """What both parsers read from a file."""

    def __init__(self, text):
        families = list(parser.text_fd_to_metric_families(StringIO(text)))
        other = list(openmetrics.text_fd_to_metric_families(StringIO(text)))
        assert [(one.name, one.samples) for one in families] == [(one.name, one.samples) for one in other]
        self._samples = {one.name.removeprefix("training_agent_"): one.samples for one in families}

    def of(self, name):
        return {tuple(one.labels.values()): one.value for one in self._samples.get(name, [])}

    def one(self, name):
        [sample] = self._samples[name]
        return sample.value

    @property
    def result(self):
        [(result,)] = [labels for labels, value in self.of("result").items() if value == 1]
        return result

    @property
    def info(self):
        [sample] = self._samples["info"]
        return sample.labels


@pytest.fixture
def measured(tmp_path):
    """The metrics of an outcome, through the file."""

    def measure(outcome, exit_code=0):
        metrics_file.write(tmp_path / "training.prom", outcome, exit_code)
        return Metrics((tmp_path / "training.prom").read_text())

    return measure


@pytest.fixture
def command(pod, tmp_path):
    """The command line with --metrics-file: exit code, answer, metrics."""

    def run(folder, *args, **more):
        path = tmp_path / "collected" / "training.prom"
        process = pod.command(folder, *(args or ("finalize", "--json")), "--metrics-file", str(path), **more)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err, Metrics(path.read_text()) if path.exists() else None

    return run


def test_a_publication_is_measured_as_the_answer_tells_it(command, hub, trained):
    folder = trained("sft_full")
    code, out, err, metrics = command(folder, JOB_ID=JOB)
    told = json.loads(out)
    assert (code, metrics.result, metrics.one("exit_code"), metrics.one("published")) == (
        0,
        "completed",
        0,
        1,
    ), err
    assert metrics.of("step_duration_seconds") == {
        (step,): seconds for step, seconds in told["steps"].items()
    }
    assert sum(told["steps"].values()) <= metrics.one("duration_seconds") + 0.01
    assert (metrics.one("model_files"), metrics.one("model_size_bytes")) == (told["files"], told["bytes"])
    assert metrics.one("uploaded_bytes") == told["uploaded_bytes"] > 0
    assert metrics.info["job_id"] == JOB
    assert metrics.info["commit"] == hub.repo("ada/model").head("main")
    assert (metrics.info["repo_id"], metrics.info["method"]) == ("ada/model", "sft")
    assert metrics.one("last_success_timestamp_seconds") == metrics.one("last_run_timestamp_seconds")
    assert metrics.of("retries") == {}

    code, out, err, again = command(folder, JOB_ID=JOB)
    assert (code, again.result, again.one("uploaded_bytes"), again.one("published")) == (
        0,
        "completed",
        0,
        1,
    ), err
    assert "content" not in json.loads(out)["steps"]
    assert again.one("last_success_timestamp_seconds") > metrics.one("last_success_timestamp_seconds")


@pytest.mark.parametrize(
    ("more", "code", "known"),
    [
        ({"HF_TOKEN": "hf_NobodyKnowsThisToken12"}, 12, (JOB, "ada/model")),
        ({"JOB_ID": "42"}, 10, ("", "")),
        ({"OUTPUT_DIR": "/nowhere/at/all"}, 11, (JOB, "")),
    ],
)
def test_a_failure_is_measured_as_far_as_it_came(more, code, known, command, trained):
    exit_code, _, err, metrics = command(trained("sft_full"), **{"JOB_ID": JOB, **more})
    assert (exit_code, metrics.one("exit_code"), metrics.result) == (code, code, "failed"), err
    assert (metrics.info["job_id"], metrics.info["repo_id"]) == known
    assert (metrics.one("published"), metrics.info["commit"]) == (0, "")
    assert "last_success_timestamp_seconds" not in metrics._samples


def test_a_file_that_cannot_be_written_is_told_and_nothing_else(pod, trained):
    process = pod.command(trained("sft_full"), "finalize", "--json", "--metrics-file", "/proc/nowhere/m.prom")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, json.loads(out)["result"]) == (0, "completed")
    [line] = [json.loads(line) for line in err.splitlines() if "metrics" in line]
    assert (line["level"], line["event"]) == ("warning", "the metrics were not written")
    assert "/proc/nowhere" in line["because"]


def test_a_dry_run_leaves_the_metrics_of_the_last_run(command, trained):
    assert command(trained("sft_full"), "finalize", "--dry-run", "--json")[3] is None


@pytest.mark.parametrize(
    ("match", "how", "times", "call", "cause"),
    [
        ("GET /api/models/ada/model/tree", STATUS, 3, "read", "http_503"),
        ("GET /api/models/ada/model/commits", {"kind": "truncated"}, 2, "read", "no_answer"),
        ("POST /api/models/ada/model/commit", {"kind": "reset"}, 2, "commit", "no_answer"),
        (
            "POST /api/repos/create",
            {"kind": "status", "status": 429, "retry_after": 3},
            4,
            "write",
            "http_429",
        ),
    ],
)
def test_every_failed_call_is_counted_once_by_its_cause(
    match, how, times, call, cause, pod, hub, trained, measured
):
    fault = hub.faults.add(Fault(match=match, times=times, **how))
    metrics = measured(pod.finalize(trained("sft_full")))
    assert fault.fired == times
    assert metrics.of("retries") == {(call, cause): times}
    assert metrics.result == "completed"


def test_retries_of_the_hub_and_of_the_row_are_those_that_both_saw(pod, hub, app, trained, measured):
    job = app.add_job(status="running")
    at_hub = hub.faults.add(Fault(match="POST /api/models/ada/model/commit/", times=2, **STATUS))
    at_row = app.rest.faults.add(Fault(match="PATCH /rest/v1/local_training_jobs", times=3, **STATUS))
    metrics = measured(pod.finalize(trained("sft_full"), **app.environ(job)))
    assert (at_hub.fired, at_row.fired) == (2, 3)
    assert metrics.of("retries") == {("commit", "http_503"): 2, ("row-look", "http_503"): 3}


@pytest.mark.parametrize("seed", range(4))
def test_of_many_misfortunes_each_is_counted_once(seed, pod, hub, trained, measured):
    kinds = {"status": 503, "reset": None, "lost": None, "truncated": None}
    faults = [
        hub.faults.add(
            Fault(kind, match=OURS, probability=0.15, seed=seed * 10 + number, status=status or 503)
        )
        for number, (kind, status) in enumerate(kinds.items())
    ]
    metrics = measured(pod.finalize(trained("sft_full")))
    assert (metrics.result, sum(metrics.of("retries").values())) == (
        "completed",
        sum(one.fired for one in faults),
    )
    assert sum(one.fired for one in faults) > 2


def test_a_finalize_that_gives_up_tells_how_often_it_asked(pod, hub, trained, measured):
    fault = hub.faults.add(Fault("status", match="GET /api/models/ada/model/commits", status=502))
    outcome = Outcome()
    with pytest.raises(HubUnreachableError) as caught:
        pod.finalize(trained("sft_full"), outcome)
    metrics = measured(outcome, caught.value.exit_code)
    assert metrics.of("retries") == {("read", "http_502"): fault.fired - 1}, "the last one was not repeated"
    assert fault.fired > 3


def test_a_refusal_is_no_retry(pod, hub, trained, measured):
    fault = hub.faults.add(Fault("status", match="POST /api/models/ada/model/preupload", status=403))
    outcome = Outcome()
    with pytest.raises(HubAuthError):
        pod.finalize(trained("sft_full"), outcome)
    assert fault.fired == 1
    assert measured(outcome, 12).of("retries") == {}


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def run(pod, tmp_path, monkeypatch):
    """A run in this process; its pauses are short."""
    monkeypatch.setattr("agent.run.FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr("agent.run.LONGEST_PAUSE_S", 0.05)

    def told(*deeds, outcome, **more):
        environ = pod.environ(tmp_path / "out", **more)
        with (tmp_path / "printed").open("ab") as out:
            command = [*TRAINER, str(tmp_path / "diary"), *deeds]
            Run(load(environ), outcome, command, environ=environ, stdout=out.fileno()).tell()
        return outcome

    return told


def test_what_several_finalizes_of_one_run_asked_again_adds_up(run, hub, measured, clock, monkeypatch):
    patience = {"clock": clock, "sleep": clock.sleep, "jitter": lambda: 0.0}
    monkeypatch.setattr(Run, "patience", lambda _: Patience(2.0, **patience))
    fault = hub.faults.add(Fault(match="GET /api/models/ada/model/commits", times=10, **STATUS))
    with capture_logs() as said:
        metrics = measured(run(MODEL, outcome=RunOutcome()))
    given_up = [one for one in said if one["event"] == "trying again later"]
    assert (fault.fired, len(given_up)) == (10, 2)
    assert metrics.of("retries") == {("read", "http_503"): 10 - 2}
    assert (metrics.result, metrics.one("training_exit_code"), metrics.one("published")) == (
        "completed",
        0,
        1,
    )


def test_retries_while_it_trains_count_too(run, app, measured):
    job = app.add_job(status="pending")
    fault = app.rest.faults.add(Fault(match="GET /rest/v1/local_training_jobs", nth={0, 1}, **STATUS))
    metrics = measured(run(MODEL, outcome=RunOutcome(), **app.environ(job)))
    assert fault.fired == 2
    assert metrics.of("retries") == {("row-look", "http_503"): 2}


def test_a_training_that_failed_is_measured(run, measured):
    outcome = RunOutcome()
    with pytest.raises(TrainingFailedError) as caught:
        run("exit=3", outcome=outcome)
    metrics = measured(outcome, caught.value.exit_code)
    assert (metrics.result, metrics.one("training_exit_code"), metrics.one("exit_code")) == ("failed", 3, 17)


def test_the_command_run_measures_the_whole(command, tmp_path):
    child = shlex.join([*TRAINER, str(tmp_path / "diary"), MODEL])
    path = tmp_path / "collected" / "training.prom"
    code, _, err, _ = command(
        tmp_path / "out", "run", "--metrics-file", str(path), "--", "bash", "-c", f"{child} # ",
    )  # fmt: skip
    metrics = Metrics(path.read_text())
    assert (code, metrics.result, metrics.one("training_exit_code")) == (0, "completed", 0), err


def test_another_rank_leaves_the_main_process_s_file_as_it_is(pod, trained, tmp_path):
    path, folder = tmp_path / "agent.prom", trained("sft_lora")
    for rank in ("0", "1"):
        process = pod.command(folder, "finalize", "--metrics-file", str(path), LOCAL_RANK=rank)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    assert 'training_agent_result{result="completed"} 1' in path.read_text()


def test_the_key_of_a_collector_reaches_no_log(pod, trained, tmp_path):
    headers = {"OTEL_EXPORTER_OTLP_HEADERS": "api-key=Planted-Otlp-Key-0123456789"}
    train = "import os; print(os.environ['OTEL_EXPORTER_OTLP_HEADERS'])"
    process = pod.command(trained("sft_lora"), "run", "--", sys.executable, "-c", train, **headers)
    process.communicate(timeout=60)
    [log] = pod.state_dir.glob("*/training.log")
    assert "api-key=" in log.read_text()
    assert "Planted-Otlp-Key" not in log.read_text()


def test_what_the_last_words_asked_again_counts_too(app, pod, trained, monkeypatch):
    clock = pod.clock
    monkeypatch.setattr("agent.job.Patience", lambda *args: Patience(*args, clock=clock, sleep=clock.sleep))
    fault = app.rest.faults.add(Fault(**STATUS, times=1))
    outcome = Outcome()
    config = load(pod.environ(trained("sft_lora"), **app.environ(app.add_job())))
    with alone(config, outcome, pod.state_dir / "job") as job:
        assert job.now()
    assert (fault.fired, outcome.retries) == (1, {("row-look", "http_503"): 1})
