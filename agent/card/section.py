"""What we add to a card: what this is, how to load it, how it was trained, what its limits are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agent.card.loading import how_to_load
from agent.card.markdown import code, link, number, plain, table
from agent.card.metrics import metrics_table, not_a_number
from agent.hyperparameters import NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.card.facts import Facts

BEGIN, END = "<!-- training-agent:begin -->", "<!-- training-agent:end -->"
# Only a section of ours, never prose that speaks of the markers.
_SECTION = re.compile(
    rf"^{re.escape(BEGIN)}\n## About this model\n(?:(?!{re.escape(BEGIN)}).)*?^{re.escape(END)}$\n?",
    re.DOTALL | re.MULTILINE,
)
# What TRL generates begins with two sentences; behind them nobody wrote anything.
_TRL_BOILERPLATE = re.compile(
    r"(?<=^It has been trained using \[TRL\]\(https://github\.com/huggingface/trl\)\.\n\n)^## Quick start$",
    re.MULTILINE,
)
_METHODS = {
    "sft": "supervised fine-tuning (SFT)",
    "dpo": "direct preference optimization (DPO)",
    "orpo": "odds ratio preference optimization (ORPO)",
}
_KINDS = {
    "adapters": "several adapters",
    "full": "full model",
    "sharded": "full model, in shards",
    "merged": "full model, and the adapter it was merged from",
    "diffusers": "diffusers pipeline",
    "gguf": "GGUF",
    "onnx": "ONNX",
    "pytorch": "PyTorch checkpoint",
}
_MODULES = 12
_HOUR_S, _MINUTE_S = 3600, 60


def with_section(body: str, facts: Facts) -> str:
    """The body with our section in the place of an earlier one, or at its end."""
    ours = f"{BEGIN}\n## About this model\n\n" + "\n".join(_parts(facts)).replace("<!--", "<!-\u200b-") + END
    first = _SECTION.search(body)
    generated = _TRL_BOILERPLATE.search(body) if not first else None
    if generated:
        return f"{body[: generated.start()]}{ours}\n\n{body[generated.start() :].rstrip()}\n"
    if first:
        return f"{body[: first.start()]}{ours}\n{_SECTION.sub('', body[first.end() :])}"
    return f"{body.rstrip()}\n\n{ours}\n"


def _parts(facts: Facts) -> Iterator[str]:
    yield table(("", ""), _at_a_glance(facts))
    yield f"### How to load\n\n{how_to_load(facts)}"
    yield from _training(facts)
    for report in facts.reports:
        yield f"### {report.title}\n\n{report.table}\nFrom {link(code(report.path), report.path)}.\n"
    if facts.gallery:
        yield f"### Samples\n\n{facts.gallery}"
    yield f"### How it was verified\n\n{_verified(facts)}"
    limits = list(_limits(facts))
    if limits:
        yield "### Limits\n\n" + "".join(f"- {limit}\n" for limit in limits)


def _at_a_glance(facts: Facts) -> Iterator[tuple[str, str]]:
    if facts.method:
        yield "Method", _METHODS.get(facts.method, plain(facts.method))
    yield "Model", _model(facts)
    if facts.base_model:
        yield "Base model", _hub_link(facts, facts.base_model)
    if facts.datasets:
        yield "Dataset", ", ".join(_hub_link(facts, name, "datasets/") for name in facts.datasets)
    elif facts.dataset:
        yield "Dataset", code(facts.dataset)
    if facts.git_revision:
        yield "Training code", f"commit {code(facts.git_revision)}"
    if facts.versions:
        yield "Made with", ", ".join(f"{plain(name)} {plain(of)}" for name, of in facts.versions.items())
    if facts.job_id:
        yield "Job", code(facts.job_id)
    tag = link(f"`{facts.tag}`", f"{facts.endpoint}/{facts.repo_id}/tree/{facts.tag}")
    yield "Files", f"proven at {tag}, hashes in `finalize.json`"


def _hub_link(facts: Facts, name: str, folder: str = "") -> str:
    return link(plain(name), f"{facts.endpoint}/{folder}{name}")


def _model(facts: Facts) -> str:
    if facts.kind == "adapter":
        rank, alpha = facts.adapter.get("r"), facts.adapter.get("lora_alpha")
        kind = (
            "LoRA"
            if facts.adapter.get("peft_type") == "LORA"
            else plain(facts.adapter.get("peft_type") or "")
        )
        words = [f"{kind} adapter".strip()]
        words += [
            f"{name} {value}" for name, value in (("rank", rank), ("alpha", alpha)) if isinstance(value, int)
        ]
        modules = facts.adapter.get("target_modules")
        if isinstance(modules, list) and modules:
            shown = [code(module) for module in sorted(map(str, modules))[:_MODULES]]
            words.append("on " + " ".join(shown) + (" …" if len(modules) > _MODULES else ""))
        return ", ".join(words)
    named = _KINDS.get(facts.kind, plain(facts.kind))
    return f"{named} ({code(facts.architecture)})" if facts.architecture else named


def _training(facts: Facts) -> Iterator[str]:
    training = facts.training
    summary = table(("", ""), _summary(facts))
    metrics = metrics_table(training)
    values = training.hyperparameters
    given = table(("", ""), [(code(name), code(_shown(values[name]))) for name in NAMES if name in values])
    if summary or metrics or given or facts.pictures:
        yield "### Training\n"
    if summary:
        yield summary
    for picture in facts.pictures:
        yield f"![{plain(picture.caption)}]({picture.path})\n"
    if metrics:
        yield metrics
    if given:
        yield f"#### Hyperparameters\n\n{given}"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, int | float) else str(value)


def _summary(facts: Facts) -> Iterator[tuple[str, str]]:
    training = facts.training
    if training.steps:
        of = f" of {training.max_steps:,}" if training.max_steps else ""
        yield "Optimizer steps", f"{training.steps:,}{of}"
    if training.epochs:
        yield "Epochs", number(training.epochs)
    if training.runtime_s:
        yield "Training time", duration(training.runtime_s)
    if training.tokens:
        yield "Tokens", number(training.tokens)
    if training.hardware:
        yield "Hardware", plain(training.hardware)


def duration(seconds: float) -> str:
    """Seconds in the units a person would choose: 4 h 05 min, 12 min 30 s, 8.4 s."""
    if seconds < _MINUTE_S:
        return f"{number(seconds)} s"
    whole = round(seconds)
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min {whole % _MINUTE_S:02} s"
    minutes = round(seconds / _MINUTE_S)
    return f"{minutes // 60:,} h {minutes % 60:02} min"


def _verified(facts: Facts) -> str:
    return (
        f"The tag `{facts.tag}` was set after every file at it had been read back from the Hub and found "
        "equal to the bytes on the training machine, by size and hash. The hashes are in "
        f"{link('`finalize.json`', 'finalize.json')}.{facts.weights_read and ' ' + facts.weights_read}\n"
    )


def _limits(facts: Facts) -> Iterator[str]:
    training = facts.training
    if training.ended == "cut-short":
        yield f"The training was stopped early, at step {training.steps:,} of {training.max_steps:,}."
    if training.ended == "early-stopping":
        yield f"Early stopping ended the training at step {training.steps:,} of {training.max_steps:,}."
    for name in training.diverged:
        yield f"The last {code(name)} that was logged is not a number: the training diverged."
    for name, count in not_a_number(training).items():
        if name not in training.diverged:
            times = "once" if count == 1 else f"{count:,} times"
            yield f"{code(name)} was logged as NaN or infinite {times}."
    if (
        training.history
        and not any(name.startswith("eval_") for name in training.metrics)
        and not facts.reports
    ):
        yield "It was not evaluated: all figures above are of the data it was trained on."
    if facts.is_adapter and facts.base_model is None:
        yield "It was trained on a base model that is not on the Hub."
