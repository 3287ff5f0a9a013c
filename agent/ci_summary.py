"""The summary of a step in GitHub Actions: where the model is and its key figures, or why it is not there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from rich.filesize import decimal

from agent.boundary import PROGRAM
from agent.card.markdown import code, link, number, plain, table
from agent.card.section import duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MOST_METRICS = 40
LONGEST = 8_000  # characters of what is shown word for word
_SHORT = 12


def summary(told: Mapping[str, Any], exit_code: int, command: str) -> str:
    """Markdown about how a command ended, in which strangers' words stay words.

    Args:
        told: the command's answer as JSON, without secrets.
        exit_code: of the command.
        command: to run again.
    """
    return "\n".join(["", *_parts(told, exit_code, command), ""])


def _parts(told: Mapping[str, Any], exit_code: int, command: str) -> Iterator[str]:
    yield f"## {plain(told.get('repo_id') or PROGRAM)}: {plain(told.get('result') or 'done')}\n"
    if error := told.get("error"):
        yield f"**{plain(error['code'])}** (exit {exit_code})\n"
        yield _word_for_word(f"{error['message']}\n\n{error['hint']}")
        yield f"Next:\n\n{_word_for_word(command)}"
    if note := told.get("note"):
        yield _word_for_word(note)
    training = told.get("training") or {}
    yield table(("", ""), [*_where(told), *_what(told), *_how(training)])
    metrics = list(training.get("metrics", {}).items())
    yield table(("metric", "value"), [(code(name), number(value)) for name, value in metrics[:MOST_METRICS]])
    if len(metrics) > MOST_METRICS:
        yield f"… and {len(metrics) - MOST_METRICS} more in `finalize.json`\n"
    if findings := told.get("findings"):
        found = (f"{one['path']}: {one['verdict']}, {one['found']}\n  {one['cure']}" for one in findings)
        yield "Found:\n\n" + _word_for_word("\n".join(found))
    if warnings := told.get("warnings"):
        yield "Warnings:\n\n" + _word_for_word("\n".join(f"- {warning}" for warning in warnings))


def _where(told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    url, commit, repo_id = told.get("model_url"), told.get("commit"), told.get("repo_id")
    if url:
        yield "Model", link(plain(url), url)
    elif repo_id:
        yield "Repo", code(repo_id)
    if commit:
        shown = code(commit[:_SHORT])
        repo_url = f"{url.partition(f'/{repo_id}')[0]}/{repo_id}" if url else None
        yield "Commit", link(shown, f"{repo_url}/commit/{commit}") if repo_url else shown
    for name in ("from", "to"):
        if told.get(name):
            yield name.capitalize(), code(told[name][:_SHORT])


def _what(told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    job, files = told.get("job") or {}, told.get("files")
    if isinstance(files, int) and files:
        yield "Files", f"{files:,}, {decimal(told['bytes'])}"
        yield "Uploaded", decimal(told["uploaded_bytes"])
    for name, label in (("files", "Files"), ("restored", "Restored"), ("deleted", "Deleted")):
        if isinstance(told.get(name), list):
            yield label, f"{len(told[name]):,}"
    if told.get("against"):
        yield "Compared with", code(told["against"])
    if "duration_s" in told:
        yield "Took", duration(told["duration_s"])
    if job.get("id"):
        yield "Job", code(job["id"]) + (f", {plain(job['status'])}" if job.get("status") else "")


def _how(training: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in ("method", "base_model", "dataset"):
        if training.get(name):
            yield name.replace("_", " ").capitalize(), plain(training[name])
    if training.get("git_revision"):
        yield "Training code", f"commit {code(training['git_revision'])}"


def _word_for_word(text: str) -> str:
    """A block in which nothing is markup: its fence is longer than any that the text could close it with."""
    text = "".join(char if char == "\n" or char.isprintable() else " " for char in text)
    text = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", text))])
    return f"{fence}text\n{text}\n{fence}\n"
