"""What a workflow is told: read back as GitHub's runner reads it, and as GitHub renders it."""

from __future__ import annotations

import re
import resource
import signal
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from agent import ci, ci_summary, log
from agent.errors import HubAuthError
from agent.outcome import Outcome
from agent.pod_config import UNDER_RUN
from tests.docs.workflows import Annotation, read_annotations, read_pairs

COMMIT = "4f7683c3973c23372e0c1805d7ee2088e86f32c5"
URL = "https://huggingface.co/ada/model"
HOSTILE = (
    "</td><script>alert(1)</script>\n::set-output name=result::completed\r\n```\n| [x](http://evil) @ada `"
)
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table")


class Answer:
    """An answer of any command."""

    def __init__(self, **told):
        self.told, self.error = told, told.get("error")

    def failed(self, error, *, code, message, hint):
        raise NotImplementedError

    def as_json(self):
        return self.told


def published(**more):
    outcome = Outcome(
        result="completed",
        published=True,
        model_url=URL,
        repo_id="ada/model",
        commit=COMMIT,
        files=10,
        size_bytes=12_590_702,
        uploaded_bytes=12_589_737,
        job_id="3f2b8c1e-5d4a-4b6f-9a7c-0d1e2f3a4b5c",
        job_status="completed",
        training={
            "kind": "adapter",
            "method": "dpo",
            "base_model": "meta-llama/Llama-3.1-8B",
            "dataset": "ada/pairs",
            "steps": 4,
            "metrics": {"eval_loss": 0.6931422948837, "rewards/accuracies": 1.0},
            "git_revision": "0123456789abcdef",
        },
    )
    for name, value in more.items():
        setattr(outcome, name, value)
    return outcome


def refused(message="The token may not write to ada/model.", hint="Set a write token."):
    outcome = Outcome(repo_id="ada/model")
    outcome.failed(HubAuthError(message, hint=hint), code="hub-auth", message=message, hint=hint)
    return outcome


@pytest.fixture
def step(tmp_path, monkeypatch):
    """The files that a step of a workflow is given, still empty."""
    monkeypatch.setattr(sys, "argv", ["training-agent", "finalize", "--repo", "ada/model"])
    files = {name: tmp_path / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    for path in files.values():
        path.touch()
    return {"GITHUB_ACTIONS": "true"} | {name: str(path) for name, path in files.items()}


@pytest.fixture
def told_log(logged):
    """What the log says by now."""
    logged.configure("json")
    return lambda: logged.text


def output(step):
    return read_pairs(Path(step["GITHUB_OUTPUT"]).read_bytes().decode())


def shown(step):
    return Path(step["GITHUB_STEP_SUMMARY"]).read_bytes().decode()


def rows(markdown):
    """The cells of all tables, as a reader sees them."""
    html = MARKDOWN.render(markdown)
    return dict(re.findall(r"<tr>\s*<td>(.*?)</td>\s*<td>(.*?)</td>\s*</tr>", html, re.DOTALL))


# Outputs


def test_the_next_steps_get_address_commit_and_result(step):
    ci.tell(step, published(), 0)
    assert output(step) == {"model_url": URL, "commit": COMMIT, "result": "completed", "published": "true"}


def test_what_is_not_known_is_an_empty_output(step):
    ci.tell(step, refused(), 12)
    assert output(step) == {"model_url": "", "commit": "", "result": "failed", "published": "false"}


def test_an_answer_that_knows_nothing_of_publishing_has_no_such_output(step):
    ci.tell(step, Answer(result="verified", model_url=URL, commit=COMMIT, error=None), 0)
    assert output(step) == {"model_url": URL, "commit": COMMIT, "result": "verified"}


def test_two_commands_of_one_step_leave_the_last_word(step):
    ci.tell(step, refused(), 12)
    ci.tell(step, published(), 0)
    assert output(step)["result"] == "completed"
    assert shown(step).count("\n## ") == 2


def test_a_line_that_somebody_left_open_is_no_part_of_ours(step):
    Path(step["GITHUB_OUTPUT"]).write_text("mine=1")
    ci.tell(step, published(), 0)
    assert output(step).items() >= {"mine": "1", "model_url": URL}.items()


def test_what_somebody_writes_behind_ours_is_a_line_of_its_own(step):
    ci.tell(step, published(), 0)
    with Path(step["GITHUB_OUTPUT"]).open("a") as file:
        file.write("mine=1\n")
    assert output(step)["mine"] == "1"


@pytest.mark.parametrize(
    "value", [HOSTILE, "a\nresult=completed\n", "a\nmodel_url<<EOF\nb\nEOF\n", "\r\n", "<<"]
)
def test_a_strangers_value_sets_no_output_but_its_own(step, value):
    ci.tell(step, Answer(result="failed", model_url=value, commit=COMMIT, error=None), 0)
    assert output(step) == {"model_url": value, "commit": COMMIT, "result": "failed"}


def test_nobody_can_foresee_where_a_value_ends(step):
    ci.tell(step, published(), 0)
    ci.tell(step, published(), 0)
    ends = re.findall(r"<<(.*)", Path(step["GITHUB_OUTPUT"]).read_text())
    assert len(set(ends)) == len(ends) == 8
    assert all(len(end) > 32 for end in ends)


# Annotations


def test_a_failure_is_annotated_with_its_cure_on_stderr(step, capfd):
    ci.tell(step, refused(), 12)
    out, err = capfd.readouterr()
    assert out == ""
    [told] = read_annotations(err)
    assert told == Annotation(
        "error",
        "training-agent: hub-auth (exit 12)",
        "The token may not write to ada/model.\nSet a write token.",
    )


def test_warnings_and_the_reason_why_nothing_was_published_are_annotated(step, capfd):
    ci.tell(step, Outcome(result="skipped", note="HF_TOKEN was not set", warnings=["a", "b"]), 0)
    assert read_annotations(capfd.readouterr().err) == [
        Annotation("warning", "training-agent: skipped", "HF_TOKEN was not set"),
        Annotation("warning", "training-agent", "a"),
        Annotation("warning", "training-agent", "b"),
    ]


@pytest.mark.parametrize("text", [HOSTILE, "100 %, a:b\r\n%0A %25", "::error::x\n::warning::y"])
def test_a_strangers_words_are_one_annotation_and_arrive_as_they_were(step, capfd, text):
    ci.tell(step, refused(text, text), 12)
    err = capfd.readouterr().err
    assert len(err.splitlines()) == 1
    [told] = read_annotations(err)
    assert told.message == f"{text}\n{text}"


def test_a_title_cannot_end_itself(step, capfd):
    ci.tell(
        step, Answer(result="failed", error={"code": "a,file=b::c%0D\r\n", "message": "m", "hint": "h"}), 1
    )
    [line] = capfd.readouterr().err.splitlines()
    assert line == "::error title=training-agent%3A a%2Cfile=b%3A%3Ac%250D%0D%0A (exit 1)::m%0Ah"


# The summary


def test_the_summary_has_the_key_figures(step):
    ci.tell(step, published(), 0)
    text = shown(step)
    told = rows(text)
    took = told.pop("Took")
    assert told == {
        "Model": f'<a href="{URL}">{URL}</a>',
        "Commit": f'<a href="{URL}/commit/{COMMIT}"><code>{COMMIT[:12]}</code></a>',
        "Files": "10, 12.6 MB",
        "Uploaded": "12.6 MB",
        "Job": "<code>3f2b8c1e-5d4a-4b6f-9a7c-0d1e2f3a4b5c</code>, completed",
        "Method": "dpo",
        "Base model": "meta-llama/Llama-3.1-8B",
        "Dataset": "ada/pairs",
        "Training code": "commit <code>0123456789abcdef</code>",
        "<code>eval_loss</code>": "0.6931",
        "<code>rewards/accuracies</code>": "1",
    }
    assert took.endswith(" s")
    assert "<h2>ada/model: completed</h2>" in MARKDOWN.render(text)
    assert "Next:" not in text


@pytest.mark.parametrize(
    ("url", "repo_id", "repo_url"),
    [
        (f"{URL}/tree/dev", "ada/model", URL),
        ("https://h.co/tree/tree/tree/dev", "tree/tree", "https://h.co/tree/tree"),
        ("http://127.0.0.1:1/hub/ada/model", "ada/model", "http://127.0.0.1:1/hub/ada/model"),
    ],
)
def test_a_commit_of_a_branch_is_linked_below_the_repo(step, url, repo_id, repo_url):
    ci.tell(step, published(model_url=url, repo_id=repo_id), 0)
    assert f'href="{repo_url}/commit/{COMMIT}"' in rows(shown(step))["Commit"]


def test_a_failure_says_why_what_to_do_and_what_to_run(step):
    ci.tell(step, refused(), 12)
    html = MARKDOWN.render(shown(step))
    assert "<h2>ada/model: failed</h2>" in html
    assert "<strong>hub-auth</strong> (exit 12)" in html
    assert ">The token may not write to ada/model.\n\nSet a write token.\n</code>" in html
    assert ">training-agent finalize --repo ada/model\n</code>" in html
    told = rows(shown(step))
    assert told["Repo"] == "<code>ada/model</code>"
    assert not told.keys() & {"Files", "Commit", "Job", "Model"}


def test_a_commit_whose_model_is_not_proven_is_named(step):
    outcome = refused()
    outcome.commit = COMMIT
    ci.tell(step, outcome, 14)
    assert rows(shown(step))["Commit"] == f"<code>{COMMIT[:12]}</code>"


def test_why_nothing_was_published_and_what_is_worth_knowing_are_shown(step):
    ci.tell(step, Outcome(result="not-published", note="it was better before", warnings=["a", "b"]), 0)
    html = MARKDOWN.render(shown(step))
    assert "<h2>training-agent: not-published</h2>" in html
    assert ">it was better before\n</code>" in html
    assert ">- a\n- b\n</code>" in html


def test_what_verify_found_is_shown_with_its_cure(step):
    found = [{"path": "a.bin", "verdict": "refused", "found": "it is not there", "cure": "run finalize"}]
    answer = Answer(
        result="mismatch", repo_id="ada/model", files=[{"path": "b"}] * 3, against="finalize.json",
        findings=found, error=None,
    )  # fmt: skip
    ci.tell(step, answer, 14)
    assert ">a.bin: refused, it is not there\n  run finalize\n</code>" in MARKDOWN.render(shown(step))
    told = rows(shown(step))
    assert (told["Files"], told["Compared with"]) == ("3", "<code>finalize.json</code>")


def test_a_rollback_says_from_where_to_where(step):
    answer = Answer(
        result="rolled-back", repo_id="ada/model", model_url=URL, commit=COMMIT, to="a" * 40,
        restored=["x", "y"], deleted=["z"], error=None, **{"from": "b" * 40},
    )  # fmt: skip
    ci.tell(step, answer, 0)
    told = rows(shown(step))
    assert (told["From"], told["To"]) == (f"<code>{'b' * 12}</code>", f"<code>{'a' * 12}</code>")
    assert (told["Restored"], told["Deleted"]) == ("2", "1")


@pytest.mark.parametrize("hostile", [HOSTILE, "````\n# x", "~~~\n<b>", "\u202egnp.exe\x1b[31m\x00\u2028"])
def test_strangers_words_are_no_markup_wherever_they_stand(step, hostile):
    ci.tell(
        step,
        Answer(
            result=hostile, repo_id=hostile, model_url=hostile, commit=hostile, files=1,
            bytes=1, uploaded_bytes=1, duration_s=1.0, job={"id": hostile, "status": hostile},
            error={"code": hostile, "message": hostile, "hint": hostile}, note=hostile, warnings=[hostile],
            findings=[dict.fromkeys(("path", "verdict", "found", "cure"), hostile)],
            training={
                "method": hostile, "base_model": hostile, "dataset": hostile, "git_revision": hostile,
                "metrics": {hostile: 1.0},
            },
        ),
        1,
    )  # fmt: skip
    html = MARKDOWN.render(shown(step))
    html = re.sub(r'<a href="[^"<>\s]*">|</a>', "", html)
    ours = r"</?(h2|p|strong|pre|code|table|thead|tbody|tr|th|td)( class=\"language-text\")?>"
    assert "<" not in re.sub(ours, "", html)
    assert html.count("<h2>") == 1
    assert html.count("<pre>") == 5
    assert not set(html) & set("\u202e\x1b\x00\u2028\r")


def test_no_secret_is_told_in_whatever_shape_it_would_be_escaped(step, capfd, monkeypatch):
    secret, token = "p*ss_w:rd%[1],`x", "hf_" + "A1b2C3d4E5f6G7h8I9j0"
    log.hide([secret])
    monkeypatch.setattr(sys, "argv", ["training-agent", "finalize", "--repo", secret])
    words = f"it holds {secret} and {token}"
    training = {"dataset": words, "base_model": token, "metrics": {secret: 1.0}}
    ci.tell(step, published(model_url=f"{URL}?{token}", note=words, warnings=[words], training=training), 0)
    ci.tell(step, refused(words, words), 12)
    everything = shown(step) + Path(step["GITHUB_OUTPUT"]).read_text() + capfd.readouterr().err
    assert everything.count("[hidden]") + everything.count("\\[hidden") > 8
    for trace in ("ss_w", "ss\\_w", "A1b2C3d4E5", "w:rd", "w%3Ard"):
        assert trace not in everything


# Files of the runner's


def test_the_largest_answer_stays_far_below_what_the_runner_takes(step):
    metrics = {f"{'m' * 200}{n}": float(n) for n in range(10_000)}
    long = "é" * 100_000
    findings = [dict.fromkeys(("path", "verdict", "found", "cure"), long)] * 10
    error = {"code": long, "message": long, "hint": long}
    answer = Answer(
        result=long, repo_id=long, error=error, note=long, warnings=[long] * 10, findings=findings,
        training={"dataset": long, "metrics": metrics},
    )  # fmt: skip
    ci.tell(step, answer, 1)
    assert 1000 < Path(step["GITHUB_STEP_SUMMARY"]).stat().st_size < ci.LARGEST_SUMMARY / 8
    assert f"… and {10_000 - ci_summary.MOST_METRICS} more" in shown(step)


def test_a_summary_that_would_cost_the_others_theirs_is_left_out(step, told_log):
    Path(step["GITHUB_STEP_SUMMARY"]).write_text("x" * (ci.LARGEST_SUMMARY - 100))
    ci.tell(step, published(), 0)
    assert Path(step["GITHUB_STEP_SUMMARY"]).stat().st_size == ci.LARGEST_SUMMARY - 100
    assert "the workflow was not told all" in told_log()
    assert output(step)["result"] == "completed"


def test_a_file_that_cannot_be_written_costs_only_itself(step, told_log, tmp_path):
    step["GITHUB_OUTPUT"] = str(tmp_path)
    ci.tell(step, published(), 0)
    assert "the workflow was not told all" in told_log()
    assert "ada/model: completed" in MARKDOWN.render(shown(step))


def test_a_full_disk_leaves_no_half_output(step, told_log):
    Path(step["GITHUB_OUTPUT"]).write_text("mine=1\n")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, before[1]))
    try:
        ci._append(step["GITHUB_OUTPUT"], ci.outputs(published().as_json()))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert output(step) == {"mine": "1"}
    assert "the workflow was not told all" in told_log()


def test_a_name_that_is_no_text_is_told_as_well_as_it_can_be(step, capfd, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["training-agent", "finalize", "--output-dir", "odd\udce9dir"])
    ci.tell(step, published(warnings=["odd\udce9name"], model_url="http://h/\udce9"), 0)
    ci.tell(step, refused("odd\udce9file"), 12)
    assert "http://h/?" in Path(step["GITHUB_OUTPUT"]).read_text()
    assert all(word in shown(step) for word in ("odd?name", "odd?file", "odd?dir"))
    assert "odd?name" in capfd.readouterr().err


def test_without_its_files_the_workflow_still_sees_the_annotation(step, capfd, told_log):
    ci.tell({"GITHUB_ACTIONS": "true"}, refused(), 12)
    assert len(read_annotations(capfd.readouterr().err)) == 1
    assert told_log() == ""


@pytest.mark.parametrize("actions", [{}, {"GITHUB_ACTIONS": ""}, {"GITHUB_ACTIONS": "false"}])
def test_elsewhere_nothing_is_told(step, capfd, actions):
    del step["GITHUB_ACTIONS"]
    ci.tell(step | actions, refused(), 12)
    assert capfd.readouterr() == ("", "")
    assert output(step) == {}
    assert shown(step) == ""


def test_below_run_nothing_is_told_twice(step, capfd):
    ci.tell(step | {UNDER_RUN: "1"}, refused(), 12)
    assert capfd.readouterr() == ("", "")
    assert output(step) == {}
    assert shown(step) == ""


def test_an_answer_that_cannot_be_told_is_a_line_in_the_log(step, told_log):
    ci.tell(step, Answer(result=object()), 0)
    assert "the workflow was not told all" in told_log()
