"""What people are told of how a job ended: short, with links, and the same facts whoever shows them."""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agent.log import redact
from agent.notify import words
from agent.notify.sources import row_of, sources

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.config import Config
    from agent.outcome import Outcome

Kind = Literal["success", "warning", "failure"]
How = Literal["address", "words", "block"]

COMPLETED, TRAINING_FAILED = "completed", "training-failed"
_TRAINING_FAILED, _NOT_RECORDED = 17, {15, 76}
_ON_PURPOSE = {"skipped", "not-published"}
_MEGA, _GIGA = 1e6, 1e9
_MOST_METRICS = 3
_METRICS = (
    "eval_loss", "train_loss", "loss", "eval_rewards/accuracies", "rewards/accuracies", "eval_accuracy",
    "eval_mean_token_accuracy",
)  # fmt: skip
# What differs between two tellings of one failure: the server's request ids, and how long it took.
_PASSING = re.compile(r"\b(?=[\w-]*\d)[\w-]{16,}\b|\d+(?:\.\d+)?(?= ?(?:ms|s|min|h)\b)")


@dataclass(frozen=True)
class Fact:
    """One line of a message; `how` says whether the value is an address of ours or somebody's words."""

    label: str
    value: str
    how: How = "words"


@dataclass(frozen=True)
class Message:
    """What is told.

    Attributes:
        event: what happened, as the ledger knows it.
        final: whether it happens to a job once, so that a rerun only repeats it.
        repo: the repo it is about, as far as it is known.
    """

    kind: Kind
    event: str
    final: bool
    headline: str
    facts: tuple[Fact, ...]
    repo: str

    @property
    def title(self) -> str:
        """The first line, as plain text."""
        return words.plain(self.headline, 120)

    @property
    def text(self) -> str:
        """The rest as plain text, a fact a line."""
        lines = [f"{fact.label}: {_as_text(fact)}" for fact in self.facts]
        return "\n".join(lines)

    @property
    def markdown(self) -> str:
        """Headline and facts for a place that renders Markdown."""
        lines = [f"**{words.plain(self.headline, 120)}**", "", *(_as_markdown(fact) for fact in self.facts)]
        return "\n".join(lines)


def compose(config: Config, outcome: Outcome, exit_code: int, folder: Path) -> Message | None:
    """What is to be told of a job; None if nobody is to hear of it.

    Args:
        config: what was asked for, or as much of it as could be read.
        outcome: how it ended.
        exit_code: of the command.
        folder: the job's account on this volume.
    """
    if outcome.result == "cancelled":
        return None  # whoever did it knows
    if exit_code == 0:
        return _of_success(config, outcome, folder)
    return _of_failure(config, outcome, exit_code, folder)


def of_pod(config: Config, outcome: Outcome, sentence: str, folder: Path) -> Message:
    """What is to be told of a pod that is still there, and costs money."""
    facts = (Fact("Why", sentence, "block"), *_of_model(config, outcome), *_where(config, outcome, folder))
    return Message(
        "warning",
        f"pod:{_digest(sentence)}",
        final=True,
        headline=f"Still running: the pod of job {_job(config, outcome)}",
        facts=facts,
        repo=outcome.repo_id or "",
    )


def _of_success(config: Config, outcome: Outcome, folder: Path) -> Message | None:
    about, job = outcome.repo_id or config.repo_name or "", _job(config, outcome)
    if outcome.result == COMPLETED and outcome.published:
        which = "" if config.job_id else f":{outcome.commit}"
        headline = f"Published: {about}" if about else f"Published: the model of job {job}"
        facts = (*_of_model(config, outcome), *_of_training(outcome), *_where(config, outcome, folder))
        return Message(
            "success", f"{COMPLETED}{which}", final=True, headline=headline, facts=facts, repo=about
        )
    if outcome.result in _ON_PURPOSE and outcome.files:
        which = "" if config.job_id else f":{outcome.job_id}"
        facts = (
            Fact("Why", outcome.note or outcome.result),
            *_of_training(outcome),
            *_where(config, outcome, folder),
        )
        headline = f"Not published, on purpose: job {job}"
        return Message(
            "warning", f"{outcome.result}{which}", final=True, headline=headline, facts=facts, repo=about
        )
    return None  # nothing was done here: another node, or a job that was done elsewhere


def _of_failure(config: Config, outcome: Outcome, exit_code: int, folder: Path) -> Message:
    error = outcome.error or {"code": f"exit {exit_code}", "message": "", "hint": ""}
    job, about = _job(config, outcome), outcome.repo_id or config.repo_name or ""
    if exit_code == _TRAINING_FAILED:
        what = "Training failed"
    elif outcome.published and exit_code in _NOT_RECORDED:
        what = "Published, not recorded"
    else:
        what = "Published, then failed" if outcome.published else "Not published"
    # The row takes one training failure and no other: a pod that starts again only repeats it.
    final = exit_code == _TRAINING_FAILED and config.job_id is not None
    event = TRAINING_FAILED if final else f"failed:{error['code']}:{_digest(error['message'])}"
    facts = (
        Fact(error["code"], error["message"], "block"),
        *([Fact("What to do", error["hint"], "block")] if error["hint"] else []),
        *_of_model(config, outcome),
        *_of_training(outcome),
        *_where(config, outcome, folder),
    )
    return Message("failure", event, final=final, headline=f"{what}: job {job}", facts=facts, repo=about)


def _of_model(config: Config, outcome: Outcome) -> Iterator[Fact]:
    if outcome.model_url:
        yield Fact("Model", outcome.model_url, "address")
    if outcome.repo_id and outcome.commit and outcome.published:
        yield Fact("Commit", f"{config.endpoint}/{outcome.repo_id}/commit/{outcome.commit}", "address")


def _of_training(outcome: Outcome) -> Iterator[Fact]:
    known = outcome.training
    if known:
        what = (known.get("method") or "").upper() or "unknown method"
        base = f" of {known['base_model']}" if known.get("base_model") else ""
        metrics = known.get("metrics") or {}
        told = [f"{name} {metrics[name]:.4g}" for name in _METRICS if name in metrics][:_MOST_METRICS]
        yield Fact("Training", ", ".join([f"{what}{base}", *told]))
    if outcome.files:
        size = f"{outcome.files} files, {_size(outcome.size_bytes)}"
        yield Fact("Size", f"{size}; all of it took {_duration(time.monotonic() - outcome.started)}")


def _where(config: Config, outcome: Outcome, folder: Path) -> Iterator[Fact]:
    yield Fact("Job", f"{_job(config, outcome)}, {row_of(config, outcome.job_status)}")
    for source in sources(config, folder):
        yield Fact(source.what, source.value, "address" if source.is_address else "words")


def _job(config: Config, outcome: Outcome) -> str:
    return outcome.job_id or (str(config.job_id) if config.job_id else "without a name")


def _as_text(fact: Fact) -> str:
    if fact.how == "address":
        return words.address(fact.value)
    return words.plain(fact.value, 1000 if fact.how == "block" else 300)


def _as_markdown(fact: Fact) -> str:
    if fact.how == "address":
        return f"- {fact.label}: <{words.address(fact.value)}>"
    if fact.how == "block":
        return f"{words.code(fact.label)}:\n\n{words.block(fact.value)}\n"
    return f"- {fact.label}: {words.code(fact.value)}"


def _digest(message: str) -> str:
    return hashlib.sha256(_PASSING.sub("#", redact(message)).encode(errors="replace")).hexdigest()[:12]


def _size(size_bytes: float) -> str:
    return f"{size_bytes / _GIGA:.1f} GB" if size_bytes >= _GIGA else f"{size_bytes / _MEGA:.1f} MB"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours} h"] * (hours > 0) + [f"{minutes} min"] * (minutes > 0)
    return " ".join(parts) or f"{rest} s"
