"""README.md as it is published: the author's words kept, what would mislead a reader repaired.

Our own section stands between two markers and is replaced on the next run.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agent.card.base import is_model_id
from agent.card.front import join, read_metadata
from agent.card.metadata import repaired
from agent.card.section import with_section

if TYPE_CHECKING:
    from agent.card.facts import Facts

_FINE_TUNED = re.compile(r"(fine-tuned version of )\[([^\]\n]*)\]\([^)\n]*\)")
_VERSION = re.compile(r"^[-*] ([A-Z][\w ]{1,30}?):? (\d[\w.+-]{0,40})\s*$", re.MULTILINE | re.ASCII)
_VERSIONS_HEADING = re.compile(r"^#+ Framework versions\s*$(.*?)(?=^#|\Z)", re.MULTILINE | re.DOTALL)
NO_BASE = "a base model that is not on the Hub"


def publish_card(text: str | None, facts: Facts) -> str:
    """Return the card to publish, made from the author's README or from nothing."""
    metadata, body = read_metadata(text) if text is not None else ({}, _title(facts))
    return join(repaired(metadata, facts), with_section(_repaired_body(body, facts), facts))


def plain_card(text: str | None, facts: Facts) -> str:
    """Like `publish_card`, without the author's metadata: for metadata that the Hub refuses."""
    body = read_metadata(text)[1] if text is not None else _title(facts)
    return join(repaired({}, facts), with_section(_repaired_body(body, facts), facts))


def framework_versions(text: str | None) -> dict[str, str]:
    """The versions that transformers and TRL write into the README they generate, by lower-case name."""
    found = _VERSIONS_HEADING.search(text or "")
    return {name.lower(): version for name, version in _VERSION.findall(found[1])} if found else {}


def _title(facts: Facts) -> str:
    return f"# {facts.repo_id.split('/')[-1]}\n"


def _repaired_body(body: str, facts: Facts) -> str:
    base = facts.base_model

    def name_base(found: re.Match[str]) -> str:
        said = found[2]
        honest = said != "None" and is_model_id(said) and said not in facts.dropped_bases
        if honest and base in (None, said):
            return found[0]
        return found[1] + (f"[{base}]({facts.endpoint}/{base})" if base else NO_BASE)

    return _FINE_TUNED.sub(name_base, body).replace('model="None"', f'model="{facts.repo_id}"')
