"""Samples of what a model makes, shown in the card: images in a table, texts behind a click."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from agent.card.markdown import link, plain, table, words

if TYPE_CHECKING:
    from collections.abc import Sequence

_IN_A_ROW = 3
_MOST_TEXTS = 12
_MOST_LINES = 20
_MOST_CHARACTERS = 1500
# Controls but tab and newline, and those that make a line read in another order than it is written.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff]")
_MARKER = "<!-- training-agent:"


def gallery(samples: Sequence[tuple[str, bytes | None]]) -> str:
    """Show samples as Markdown; empty without any.

    Args:
        samples: path in the repo and content of each; None for the content of an image.
    """
    images = [path for path, content in samples if content is None]
    texts = [(path, content) for path, content in samples if content is not None]
    blocks = [_table(images), *(_text(*text) for text in texts[:_MOST_TEXTS])]
    left = "".join(f"- {_linked(path)}\n" for path, _ in texts[_MOST_TEXTS:])
    blocks.append(f"More samples:\n\n{left}" if left else "")
    return "\n".join(block for block in blocks if block)


def _table(images: Sequence[str]) -> str:
    cells = ["!" + _linked(path) for path in images]
    columns = min(_IN_A_ROW, len(cells))
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns or 1)]
    return table([""] * columns, [row + [""] * (columns - len(row)) for row in rows])


def _text(path: str, content: bytes) -> str:
    whole = content.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    # Our markers in a sample (a README of ours, say) would be taken for the end of the card's own section.
    whole = _CONTROLS.sub("", whole).rstrip("\n").replace(_MARKER, _MARKER.replace("!--", "! --"))
    shown = "\n".join(whole.split("\n")[:_MOST_LINES])[:_MOST_CHARACTERS]
    longest = max(map(len, re.findall("`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    rest = f"Cut here; all of it is in {_linked(path)}.\n\n" if shown != whole else ""
    name = html.escape(words(_name(path)))
    # A blank line ends the HTML: what stands between the two tags is Markdown again.
    return f"<details><summary>{name}</summary>\n\n{fence}text\n{shown}\n{fence}\n\n{rest}</details>\n"


def _linked(path: str) -> str:
    return link(plain(_name(path)), quote(path, errors="replace"))


def _name(path: str) -> str:
    return path.rpartition("/")[2]
