"""Results in a card's metadata: model-index, as huggingface_hub writes it.

Its newer `.eval_results` files are for benchmarks that the Hub itself lists, and name them by its ids.
"""

from __future__ import annotations

import math
import re
from itertools import islice
from typing import TYPE_CHECKING, Any

from agent.card.markdown import words
from agent.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.card.facts import Facts

# They tell how a training went, not how good its model is.
_NOT_RESULTS = re.compile(r"logits|logps|rewards/(chosen|rejected)|entropy|num_tokens|_runtime|_per_second")
_OURS = "/finalize.json"  # ends the address of the source of results that we put there
_MOST = 40  # of one evaluation


def model_index(given: object, facts: Facts) -> list[dict[str, Any]] | None:
    """The author's results, and behind them those of this training; None without any."""
    theirs = [entry for entry in _theirs(given) if entry["results"]]
    ours = _ours(facts)
    if not theirs or not ours:
        return theirs or ours
    first, *rest = theirs
    return [first | {"results": [*first["results"], *ours[0]["results"]]}, *rest]


def _theirs(given: object) -> list[dict[str, Any]]:
    """The author's results without those of an earlier publication; none if the Hub would refuse one."""
    if given is None:
        return []
    entries: list[Any] = given if isinstance(given, list) else [given]
    if not all(map(_is_entry, entries)):
        get_logger().warning("dropped results in the README's metadata that the Hub would refuse")
        return []
    return [entry | {"results": [one for one in entry["results"] if not _is_ours(one)]} for entry in entries]


def _is_entry(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("name"), str)
        and isinstance(entry.get("results"), list)
        and all(map(_is_result, entry["results"]))
    )


def _is_result(result: object) -> bool:
    if not isinstance(result, dict) or not isinstance(result.get("metrics"), list) or not result["metrics"]:
        return False
    return (
        _has(result.get("task"), "type")
        and _has(result.get("dataset"), "type", "name")
        and all(_has(metric, "type", "value") for metric in result["metrics"])
    )


def _has(part: object, *keys: str) -> bool:
    return isinstance(part, dict) and all(part.get(key) is not None for key in keys)


def _is_ours(result: dict[str, Any]) -> bool:
    source = result.get("source")
    return isinstance(source, dict) and str(source.get("url")).endswith(_OURS)


def _ours(facts: Facts) -> list[dict[str, Any]] | None:
    from huggingface_hub import EvalResult, ModelCardData

    evaluated = {
        name: value
        for name, value in facts.training.metrics.items()
        if name.startswith("eval_") and not _NOT_RESULTS.search(name)
    }
    trained = (
        words(facts.dataset or "") or "evaluation split of the training",
        next(iter(facts.datasets), "unknown"),
    )
    groups: list[tuple[str, str, Mapping[str, float]]] = [(*trained, evaluated)]
    # Results of one type are one evaluation to the library.
    groups += [(report.title, report.title.lower(), report.metrics) for report in facts.reports]
    found = [
        EvalResult(
            task_type=facts.task or "text-generation",
            dataset_type=dataset_id,
            dataset_name=name,
            metric_type=words(metric).removeprefix("eval_") or "metric",
            metric_name=words(metric),
            metric_value=value,
            source_name="finalize.json",
            source_url=f"{facts.endpoint}/{facts.repo_id}/blob/{facts.tag}{_OURS}",
        )
        for name, dataset_id, values in groups
        for metric, value in islice(values.items(), _MOST)
        if math.isfinite(value)
    ]
    if not found:
        return None
    data = ModelCardData(model_name=facts.repo_id.split("/")[-1], eval_results=found)
    index: list[dict[str, Any]] = data.to_dict()["model-index"]  # type: ignore[no-untyped-call]
    return index
