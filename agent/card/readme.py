"""README.md as it is published: the author's words kept, what would mislead a reader repaired.

Our own section stands between two markers and is replaced on the next run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from agent.card.base import is_model_id
from agent.log import get_logger
from agent.parse import parse_yaml

BEGIN, END = "<!-- training-agent:begin -->", "<!-- training-agent:end -->"
_FRONT = re.compile(r"\A---[ \t]*\r?\n(?:(.*?)\r?\n)?---[ \t]*(?:\r?\n|\Z)(.*)\Z", re.DOTALL)
# Only a section of ours, never prose that speaks of the markers.
_SECTION = re.compile(
    rf"^{re.escape(BEGIN)}\n## Publication\n(?:(?!{re.escape(BEGIN)}).)*?^{re.escape(END)}$\n?",
    re.DOTALL | re.MULTILINE,
)
_FINE_TUNED = re.compile(r"(fine-tuned version of )\[([^\]\n]*)\]\([^)\n]*\)")
# Who loads a model of this kind; the rest is loaded by programs that the Hub has no name for.
_LIBRARIES = {
    "adapter": "peft",
    "adapters": "peft",
    "full": "transformers",
    "sharded": "transformers",
    "merged": "transformers",
    "diffusers": "diffusers",
}
NO_BASE = "a base model that is not on the Hub"


@dataclass(frozen=True)
class Facts:
    """What the card says about the publication; the tag is the only link into its history."""

    repo_id: str
    endpoint: str
    kind: str
    method: str | None
    base_model: str | None
    dataset: str | None
    job_id: str
    tag: str
    dropped_bases: frozenset[str] = frozenset()


def read_metadata(text: str) -> tuple[dict[str, Any], str]:
    """Split a README into its metadata and its body; unreadable metadata counts as none."""
    text = text.removeprefix("\ufeff")
    split = _FRONT.match(text)
    if not split:
        return {}, text
    try:
        metadata = parse_yaml(split[1] or "")
    except ValueError as error:
        get_logger().warning("dropped README metadata that is not YAML", because=str(error))
        return {}, split[2]
    return (metadata if isinstance(metadata, dict) else {}), split[2]


def named_bases(metadata: dict[str, Any]) -> list[str]:
    """The base models the metadata names."""
    named = metadata.get("base_model")
    return [base for base in (named if isinstance(named, list) else [named]) if isinstance(base, str)]


def publish_card(text: str | None, facts: Facts) -> str:
    """Return the card to publish, made from the author's README or from nothing."""
    metadata, body = read_metadata(text) if text is not None else ({}, _title(facts))
    return _render(_repaired(metadata, facts), _with_section(_repaired_body(body, facts), facts))


def plain_card(text: str | None, facts: Facts) -> str:
    """Like `publish_card`, without the author's metadata: for metadata that the Hub refuses."""
    body = read_metadata(text)[1] if text is not None else _title(facts)
    return _render(_repaired({}, facts), _with_section(_repaired_body(body, facts), facts))


def _title(facts: Facts) -> str:
    return f"# {facts.repo_id.split('/')[1]}\n"


def _render(metadata: dict[str, Any], body: str) -> str:
    front = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True) if metadata else ""
    body = body.lstrip("\r\n")
    return f"---\n{front}---\n\n{body}" if front else body


def _repaired(metadata: dict[str, Any], facts: Facts) -> dict[str, Any]:
    fixed = dict(metadata)
    library = _LIBRARIES.get(facts.kind)
    if library == "peft" or (library and fixed.get("library_name") in (None, "peft")):
        fixed["library_name"] = library
    elif library is None and fixed.get("library_name") == "peft":
        del fixed["library_name"]
    fixed.pop("base_model", None)
    if facts.base_model:
        several = named_bases(metadata)
        keep = facts.base_model in several and all(is_model_id(base) for base in several)
        fixed["base_model"] = metadata["base_model"] if keep else facts.base_model
    given = fixed.get("tags")
    tags = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    # The Hub derives these from base_model; a stale one contradicts it.
    tags = [tag for tag in tags if isinstance(tag, str) and not tag.startswith("base_model:")]
    if facts.method and facts.method not in tags:
        tags.append(facts.method)
    fixed.pop("tags", None)
    return fixed | ({"tags": tags} if tags else {})


def _repaired_body(body: str, facts: Facts) -> str:
    base = facts.base_model

    def name_base(found: re.Match[str]) -> str:
        said = found[2]
        honest = said != "None" and is_model_id(said) and said not in facts.dropped_bases
        if honest and base in (None, said):
            return found[0]
        return found[1] + (f"[{base}]({facts.endpoint}/{base})" if base else NO_BASE)

    return _FINE_TUNED.sub(name_base, body).replace('model="None"', f'model="{facts.repo_id}"')


def _with_section(body: str, facts: Facts) -> str:
    rows = {
        "Method": _word(facts.method.upper()) if facts.method else None,
        "Kind": facts.kind,
        "Base model": f"[{facts.base_model}]({facts.endpoint}/{facts.base_model})"
        if facts.base_model
        else None,
        "Dataset": _code(facts.dataset) if facts.dataset else None,
        "Job": _code(facts.job_id),
        "Files": f"[proven at `{facts.tag}`]({facts.endpoint}/{facts.repo_id}/tree/{facts.tag}), "
        "hashes in `finalize.json`",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items() if value)
    section = f"{BEGIN}\n## Publication\n\n| | |\n|---|---|\n{table}\n{END}\n"
    first = _SECTION.search(body)
    if first:
        return body[: first.start()] + section + _SECTION.sub("", body[first.end() :])
    return f"{body.rstrip()}\n\n{section}"


def _word(text: str) -> str:
    """Show a foreign word in a table cell as letters, digits and dashes."""
    return re.sub(r"[^\w+-]+", " ", text).strip()


def _code(text: str) -> str:
    """Show foreign text as code in a table cell, with nothing left that could end either."""
    return "`" + re.sub(r"[`|\s]+|<!-*|-*>", " ", text).strip() + "`"
