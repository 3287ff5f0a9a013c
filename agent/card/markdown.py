"""Foreign words in Markdown that stay words: nothing in a name breaks a table or adds markup."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_LONGEST = 120
_DIGITS = 4
_LARGEST_EXACT = 2**53
_NOT_PRINTED = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ufffe\uffff]+")
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"})
_MARKUP = re.compile(r"([\\`*_\[\]~$:@]|(?<=www)\.)")  # www. alone makes a link on the Hub


def words(text: object) -> str:
    """One line of printable characters, cut where it gets too long to be read."""
    line = str(text)[: 4 * _LONGEST].encode(errors="replace").decode()
    line = _NOT_PRINTED.sub(" ", line).strip()
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def plain(text: object) -> str:
    """Foreign text that is read as it stands: no link, no emphasis, no HTML."""
    return _MARKUP.sub(r"\\\1", words(text)).translate(_ENTITIES)


def code(text: object) -> str:
    """Foreign text as code, with nothing left that could end it, a table's cell or a comment."""
    inside = re.sub(r"[`|]+|<!-*|-*>", " ", words(text))
    return f"`{' '.join(inside.split()) or ' '}`"


def link(label: str, url: str) -> str:
    """A link to an address of ours; `label` is Markdown already."""
    return f"[{label}]({quote(url, safe=':/?=%#@!,.~+-_')})"


def number(value: float) -> str:
    """A figure as a person writes it: exact if it is whole, else with four digits that count."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "-∞"
    if float(value).is_integer() and abs(value) < _LARGEST_EXACT:
        return f"{int(value):,}"
    shown = f"{value:.{_DIGITS}g}"
    if "e" in shown:
        digits, _, power = shown.partition("e")
        return f"{value:,.0f}" if 0 < int(power) < _DIGITS + 3 else f"{digits}e{int(power)}"
    return shown


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already; empty without rows."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    if not lines:
        return ""
    return "\n".join([f"| {' | '.join(head)} |", "|" + "---|" * len(head), *lines]) + "\n"
