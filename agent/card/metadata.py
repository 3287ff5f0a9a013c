"""A card's metadata: the author's words kept where they can be true, ours added, placeholders gone.

Source: https://github.com/huggingface/hub-docs/blob/main/modelcard.md
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from agent.card.base import is_model_id
from agent.card.front import named_bases
from agent.card.results import model_index

if TYPE_CHECKING:
    from agent.card.facts import Facts

# Who loads a model of this kind; the rest is loaded by programs that the Hub has no name for.
_LIBRARIES = {
    "adapter": "peft",
    "adapters": "peft",
    "full": "transformers",
    "sharded": "transformers",
    "merged": "transformers",
    "diffusers": "diffusers",
}
_RELATIONS = {"adapter", "finetune", "merge", "quantized"}
_TAG = re.compile(r"[\w.+-]{1,40}")
_TRL_METHODS = {"sft", "dpo", "orpo"}


def repaired(metadata: dict[str, Any], facts: Facts) -> dict[str, Any]:
    """Return metadata that the Hub takes and a reader can believe, in the author's order."""
    fixed = dict(metadata)
    library = _LIBRARIES.get(facts.kind)
    if library == "peft" or (library and fixed.get("library_name") in (None, "peft")):
        fixed["library_name"] = library
    elif library is None and fixed.get("library_name") == "peft":
        del fixed["library_name"]
    _put(fixed, "base_model", _bases(metadata, facts))
    _put(fixed, "base_model_relation", _relation(metadata, facts))
    _put(fixed, "datasets", _datasets(metadata, facts))
    for key in ("license", "language"):
        _put(fixed, key, _strings(metadata.get(key)))
    if fixed.get("licence") == "license":  # TRL's placeholder, and misspelt
        del fixed["licence"]
    if not isinstance(fixed.get("pipeline_tag"), str):
        _put(fixed, "pipeline_tag", facts.task)
    _put(fixed, "tags", _tags(metadata, facts))
    _put(fixed, "model-index", model_index(metadata.get("model-index"), facts))
    return fixed


def _put(fixed: dict[str, Any], key: str, value: object) -> None:
    """Set a value where its key stood, or last; no value is no key."""
    if value:
        fixed[key] = value
    else:
        fixed.pop(key, None)


def _bases(metadata: dict[str, Any], facts: Facts) -> object:
    several = named_bases(metadata)
    keep = facts.base_model in several and all(is_model_id(base) for base in several)
    return metadata["base_model"] if keep else facts.base_model


def _relation(metadata: dict[str, Any], facts: Facts) -> str | None:
    said = metadata.get("base_model_relation")
    if not facts.base_model or (isinstance(said, str) and said in _RELATIONS):
        return said if facts.base_model else None
    if facts.is_adapter:
        return "adapter"
    return "quantized" if facts.quantized else "merge" if len(named_bases(metadata)) > 1 else "finetune"


def _datasets(metadata: dict[str, Any], facts: Facts) -> list[str]:
    given = _strings(metadata.get("datasets")) or []
    named = [given] if isinstance(given, str) else given
    return list(dict.fromkeys([*(name for name in named if is_model_id(name)), *facts.datasets]))


def _strings(value: object) -> str | list[str] | None:
    """What may stand where the Hub wants a word or a list of words."""
    if isinstance(value, str):
        return value.strip() or None
    listed = value if isinstance(value, list) else []
    return [one for one in listed if isinstance(one, str) and one.strip()] or None


def _tags(metadata: dict[str, Any], facts: Facts) -> list[str]:
    given = metadata.get("tags")
    tags = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    # The Hub derives base_model: from base_model; TRL says hf_jobs wherever a variable is named JOB_ID.
    kept = [
        tag for tag in tags if isinstance(tag, str) and tag != "hf_jobs" and not tag.startswith("base_model:")
    ]
    ours = [
        "trl" if "trl" in facts.versions and facts.method in _TRL_METHODS else None,
        facts.method if facts.method and _TAG.fullmatch(facts.method) else None,
        "lora" if facts.is_adapter and facts.adapter.get("peft_type") == "LORA" else None,
    ]
    return list(dict.fromkeys([*kept, *(tag for tag in ours if tag)]))
