"""The metrics of one run: what two parsers read from the file, and how the file is written."""

from __future__ import annotations

import os
import stat
from collections import Counter
from io import StringIO

import pytest
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics

from agent import __version__, log
from agent.outcome import Outcome
from agent.run import RunOutcome
from agent.telemetry import metrics_file
from agent.telemetry.metrics_file import write

JOB = "7d9f5f5c-1111-4a3b-9c5e-0123456789ab"
NOW = 1_795_000_000.1234


@pytest.fixture(autouse=True)
def _nothing_hidden(monkeypatch):
    monkeypatch.setattr(log, "_known", set())


def families(text):
    """What the file says, read by both parsers, which must agree."""
    one = list(parser.text_fd_to_metric_families(StringIO(text)))
    other = list(openmetrics.text_fd_to_metric_families(StringIO(text)))
    assert [(f.name, f.type, f.documentation, f.samples) for f in one] == [
        (f.name, f.type, f.documentation, f.samples) for f in other
    ]
    return {family.name: family for family in one}


def values(text, name):
    """Label values to value, for a family."""
    return {tuple(s.labels.values()): s.value for s in families(text)[f"training_agent_{name}"].samples}


def written(path, outcome, exit_code=0, now=NOW):
    write(path, outcome, exit_code, lambda: now)
    return path.read_bytes().decode()


def published():
    return Outcome(
        result="completed",
        published=True,
        repo_id="ada/model",
        commit="c0ffee",
        files=7,
        size_bytes=12_590_702_000,
        uploaded_bytes=12_589_737,
        job_id=JOB,
        steps={"artifact": 0.25, "content": 3.125},
        training={"method": "sft"},
        retries=Counter({("read", "http_503"): 2, ("commit", "no_answer"): 1}),
    )


def test_a_publication_is_told_in_figures(tmp_path):
    text = written(tmp_path / "training.prom", published())
    found = families(text)
    assert {family.type for family in found.values()} == {"gauge"}
    assert all(family.documentation.endswith(".") for family in found.values())
    assert values(text, "result") == {
        ("completed",): 1, ("skipped",): 0, ("not-published",): 0, ("cancelled",): 0, ("failed",): 0,
        ("pending",): 0,
    }  # fmt: skip
    assert values(text, "step_duration_seconds") == {("artifact",): 0.25, ("content",): 3.125}
    assert values(text, "retries") == {("commit", "no_answer"): 1, ("read", "http_503"): 2}
    assert [s.labels for s in found["training_agent_info"].samples] == [
        {"job_id": JOB, "repo_id": "ada/model", "commit": "c0ffee", "method": "sft", "version": __version__}
    ]
    alone = {name: values(text, name)[()] for name in (
        "exit_code", "published", "model_files", "model_size_bytes", "uploaded_bytes",
        "last_run_timestamp_seconds", "last_success_timestamp_seconds",
    )}  # fmt: skip
    assert alone == {
        "exit_code": 0, "published": 1, "model_files": 7, "model_size_bytes": 12_590_702_000,
        "uploaded_bytes": 12_589_737, "last_run_timestamp_seconds": 1_795_000_000.123,
        "last_success_timestamp_seconds": 1_795_000_000.123,
    }  # fmt: skip
    assert values(text, "duration_seconds")[()] >= 0


def test_only_the_info_differs_from_job_to_job(tmp_path):
    """A machine that publishes a thousand models has the series of one."""
    text = written(tmp_path / "training.prom", published())
    for name, family in families(text).items():
        told = {value for sample in family.samples for value in sample.labels.values()}
        assert (name == "training_agent_info") == bool(told & {JOB, "ada/model", "c0ffee"})


def test_no_label_has_a_name_that_prometheus_gives_itself(tmp_path):
    for family in families(written(tmp_path / "training.prom", published())).values():
        for sample in family.samples:
            assert not sample.labels.keys() & {"job", "instance"}


def test_a_run_that_failed_before_anything_was_known_says_so(tmp_path):
    text = written(tmp_path / "training.prom", Outcome(), exit_code=10)
    assert values(text, "info") == {("", "", "", "", __version__): 1}
    assert (values(text, "exit_code")[()], values(text, "published")[()]) == (10, 0)
    assert values(text, "result")["failed",] == 1
    for unknown in (
        "last_success_timestamp_seconds",
        "retries",
        "step_duration_seconds",
        "training_exit_code",
    ):
        assert f"training_agent_{unknown}" not in text


def test_a_result_that_is_new_is_still_the_one_that_is_told(tmp_path):
    assert values(written(tmp_path / "m.prom", Outcome(result="reverted")), "result")["reverted",] == 1


@pytest.mark.parametrize(("child_exit", "told"), [(0, {(): 0}), (137, {(): 137})])
def test_a_run_tells_how_its_training_ended(child_exit, told, tmp_path):
    outcome = RunOutcome(child_exit=child_exit)
    assert values(written(tmp_path / "m.prom", outcome, 17), "training_exit_code") == told


def test_a_run_whose_training_did_not_end_tells_nothing_of_it(tmp_path):
    assert "training_exit_code" not in written(tmp_path / "m.prom", RunOutcome(), 143)


def test_the_last_success_outlives_failures_until_the_next_one(tmp_path):
    path = tmp_path / "training.prom"
    written(path, published(), now=1000.5)
    for now in (2000.0, 3000.0):
        text = written(path, Outcome(), 75, now)
        assert values(text, "last_success_timestamp_seconds") == {(): 1000.5}
        assert values(text, "last_run_timestamp_seconds") == {(): now}
    assert values(written(path, published(), now=4000.0), "last_success_timestamp_seconds") == {(): 4000.0}


@pytest.mark.parametrize(
    "before",
    [
        b"",
        b"\xff\xfe\x00",
        b"training_agent_last_success_timestamp_seconds\n",
        b"training_agent_last_success_timestamp_seconds NaN\n",
        b"training_agent_last_success_timestamp_seconds 1e999\n",
        b"x_training_agent_last_success_timestamp_seconds 5\n",
        b"# HELP training_agent_last_success_timestamp_seconds 5\n",
    ],
)  # fmt: skip
def test_a_file_of_before_that_says_no_moment_gives_none(before, tmp_path):
    path = tmp_path / "training.prom"
    path.write_bytes(before)
    assert "last_success" not in written(path, Outcome(), 75)


STRANGE = 'a"b\\nc\nd} 1\n# EOF\n\rü\x00\u2028\t\\'


def test_words_of_strangers_stay_inside_their_label(tmp_path):
    text = written(tmp_path / "m.prom", Outcome(repo_id=STRANGE, training={"method": STRANGE}))
    [info] = families(text)["training_agent_info"].samples
    assert (info.labels["repo_id"], info.labels["method"]) == (STRANGE, STRANGE)
    assert text.count("# EOF\n") == 1
    assert text.endswith("\n# EOF\n")


def test_what_is_no_text_becomes_a_question_mark(tmp_path):
    assert 'method="a?b"' in written(tmp_path / "m.prom", Outcome(training={"method": "a\udcffb"}))


def test_no_secret_reaches_the_file(tmp_path):
    log.hide(['s3cr"et\\one'])
    method = 's3cr"et\\one hf_abcdefghijklmnopqrstuvwx'
    text = written(tmp_path / "m.prom", Outcome(training={"method": method}))
    assert 'method="[hidden] [hidden]"' in text


def test_the_exporter_may_read_the_file_whatever_our_umask_is(tmp_path):
    before = os.umask(0o077)
    try:
        written(tmp_path / "m.prom", Outcome())
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "m.prom").stat().st_mode) == 0o644


def test_a_folder_that_is_missing_is_made(tmp_path):
    assert written(tmp_path / "a" / "b" / "m.prom", Outcome())


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "m.prom").symlink_to(tmp_path / "real" / "m.prom")
    assert written(tmp_path / "m.prom", Outcome()) == (tmp_path / "real" / "m.prom").read_text()
    assert (tmp_path / "m.prom").is_symlink()


def test_what_is_no_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "m.prom")
    (tmp_path / "null.prom").symlink_to("/dev/null")
    for name in ("m.prom", "null.prom"):
        with pytest.raises(OSError, match="no regular file"):
            write(tmp_path / name, Outcome(), 0)
    assert stat.S_ISFIFO((tmp_path / "m.prom").stat().st_mode)


def test_until_it_is_whole_the_collector_sees_the_file_of_before(tmp_path, monkeypatch):
    """The collector reads whatever ends in .prom, at any moment."""
    path, seen = tmp_path / "training.prom", []
    first = written(path, published())

    def look(handle, mode):
        seen.extend((one.name, one.read_bytes()) for one in tmp_path.iterdir() if one.name.endswith(".prom"))
        assert [one.parent for one in tmp_path.iterdir()] == [tmp_path, tmp_path]

    monkeypatch.setattr(metrics_file.os, "fchmod", look)
    assert written(path, Outcome(), 75) != first
    assert seen == [("training.prom", first.encode())]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_cannot_be_written_leaves_the_file_of_before_and_nothing_else(error, tmp_path, monkeypatch):
    path = tmp_path / "training.prom"
    first = written(path, published())

    def fail(handle, mode):
        raise error

    monkeypatch.setattr(metrics_file.os, "fchmod", fail)
    with pytest.raises(type(error)):
        write(path, Outcome(), 75)
    assert [one.name for one in tmp_path.iterdir()] == ["training.prom"]
    assert path.read_text() == first
