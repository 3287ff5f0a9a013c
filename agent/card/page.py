"""A model card as one HTML file that runs nothing and asks for nothing: what a reader of the repo will see.

Whoever wrote the card, its HTML is shown as text. The parser marks every piece of it with tokens of their
own, these become text here, and the renderer, which escapes text, never meets them.

Source: https://spec.commonmark.org/0.31.2/#html-blocks
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from html import escape, unescape
from importlib import resources
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from agent.card.front import read_metadata
from agent.card.markdown import words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from markdown_it.token import Token

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_TAGS = {
    "pipeline_tag": "task", "library_name": "library", "base_model": "base model", "datasets": "dataset",
    "license": "license", "tags": "",
}  # fmt: skip
_MOST_NESTED = 100
_LONGEST_URL = 2_000  # one definition of a link can be used in every word of a card
_MOST_IMAGE_BYTES = 64_000_000  # so can one picture
_IMAGE = re.compile(
    rb"(?P<png>\x89PNG\r\n\x1a\n)|(?P<jpeg>\xff\xd8\xff)|(?P<gif>GIF8[79]a)|(?P<webp>RIFF....WEBP)", re.DOTALL
)
_SUMMARY = r"[^<]*(?:<(?!/?(?:details|summary)\b)[^<]*)*"
_SECTION = re.compile(rf"<details>\s*<summary>({_SUMMARY})</summary>")
# A section's head, its end, or a comment, which ends with the text if nothing else ends it.
_KNOWN_HTML = re.compile(
    rf"(<details>\s*<summary>{_SUMMARY}</summary>|</details>|<!--(?:-?>|.*?(?:-->|\Z)))", re.DOTALL
)


def page(title: str, card: str, images: Mapping[str, bytes]) -> str:
    """Render a README.md as one HTML file that is safe to open, whoever wrote the card.

    It holds no script and no address that a browser would ask for anything. An image that is not among
    `images`, or is none, is replaced by its description.

    Args:
        title: the repo's id.
        card: the whole README.md, with its metadata.
        images: contents by their paths in the repo; PNG, JPEG, WebP or GIF.
    """
    metadata, body = read_metadata(card)
    style = resources.files("agent.card").joinpath("page.css").read_text(encoding="utf-8")
    name = escape(words(title))
    shown = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}</title>
<style>
{style}</style></head>
<body><header>
<p class="name">{name}</p>
{_tags(metadata)}</header><main>
{_body(body, images)}</main></body></html>
"""
    return shown.encode(errors="replace").decode()


def _tags(metadata: Mapping[str, Any]) -> str:
    items = [
        f"<li>{f'<span>{label}</span> ' if label else ''}{escape(word)}</li>\n"
        for key, label in _TAGS.items()
        for word in _words(metadata.get(key))
    ]
    return f'<ul class="tags">\n{"".join(items)}</ul>\n' if items else ""


def _words(given: object) -> list[str]:
    """What one key says; what is neither word nor figure is no tag."""
    values = given if isinstance(given, list) else [given]
    shown = [v for v in values if isinstance(v, str) or (isinstance(v, int | float) and abs(v) < 1 << 63)]
    return [word for word in map(words, shown) if word]


def _body(markdown: str, images: Mapping[str, bytes]) -> str:
    from markdown_it import MarkdownIt

    # `html` makes tokens of HTML; without it a comment would be text.
    reader = MarkdownIt("commonmark", {"html": True, "maxNesting": _MOST_NESTED})
    reader.enable(["table", "strikethrough"])
    tokens = [piece for token in reader.parse(markdown) for piece in _without_html(token)]
    _balance(tokens)
    _name_headings(tokens)
    pictures = _Pictures(images, _MOST_IMAGE_BYTES)
    for token in tokens:
        token.children = [piece for child in token.children or () for piece in _inline(child, pictures)]
    shown = [part for token in tokens for part in _with_summary(token)]
    html: str = reader.renderer.render(shown, reader.options, {})
    return html


def _without_html(token: Token) -> Iterator[Token]:
    """Split a block of HTML into the sections we know and text; comments are dropped."""
    if token.type != "html_block":
        yield token
        return
    for text in _KNOWN_HTML.split(token.content):
        if text.startswith("</details>"):
            yield token.copy(type="details_close", tag="details", nesting=-1, content=text)
        elif _SECTION.match(text):
            yield token.copy(type="details_open", tag="details", nesting=1, content=text)
        elif not text.startswith("<!--") and text.strip():
            yield token.copy(type="code_block", content=text.strip("\n"))


def _balance(tokens: Sequence[Token]) -> None:
    """Make text of a section that does not end where it began, in the same quote or item."""
    opened: list[Token] = []
    for token in tokens:
        while opened and token.level < opened[-1].level:
            opened.pop().type = "code_block"
        if token.type == "details_open":
            opened.append(token)
        elif token.type == "details_close":
            if opened and opened[-1].level == token.level:
                opened.pop()
            else:
                token.type = "code_block"
    for token in opened:
        token.type = "code_block"


def _with_summary(token: Token) -> Iterator[Token]:
    yield token
    summary = _SECTION.match(token.content) if token.type == "details_open" else None
    if summary:
        yield token.copy(type="summary_open", tag="summary", block=False)
        yield token.copy(type="text", content=unescape(summary[1]))
        yield token.copy(type="summary_close", tag="summary", nesting=-1)


def _name_headings(tokens: Sequence[Token]) -> None:
    """Give each heading the id that links within a card on the Hub point to."""
    uses: dict[str, int] = {}
    for heading, inside in pairwise(tokens):
        if heading.type != "heading_open":
            continue
        name = base = re.sub(r"[^\w\- ]", "", _text(inside).lower()).replace(" ", "-") or "section"
        while name in uses:
            uses[base] += 1
            name = f"{base}-{uses[base]}"
        uses[name] = 0
        heading.attrSet("id", name)


def _text(token: Token) -> str:
    parts = (part.content for part in token.children or () if part.type in {"text", "code_inline"})
    return "".join(parts).strip()


@dataclass
class _Pictures:
    contents: Mapping[str, bytes]
    bytes_left: int

    def data_url(self, source: str) -> str | None:
        """The picture at an address relative to the repo's root, within the page itself."""
        path = unquote(re.split(r"[?#]", source, maxsplit=1)[0]).removeprefix("./")
        content = self.contents.get(path, b"")
        kind = _IMAGE.match(content)
        if not kind or len(content) > self.bytes_left:
            return None
        self.bytes_left -= len(content)
        return f"data:image/{kind.lastgroup};base64,{b64encode(content).decode()}"


def _inline(token: Token, pictures: _Pictures) -> Iterator[Token]:
    """What stands for one token within a line: HTML becomes text, an image is taken in or described."""
    token.attrs = {name: value for name, value in token.attrs.items() if len(str(value)) <= _LONGEST_URL}
    if token.type == "html_inline":
        token.type, token.content = "text", "" if token.content.startswith("<!--") else token.content
    elif token.type == "link_open":
        token.attrSet("rel", "noopener noreferrer")
    elif token.type == "image":
        if url := pictures.data_url(str(token.attrGet("src"))):
            token.attrSet("src", url)
        else:
            yield token.copy(type="missing_open", tag="span", nesting=1, attrs={"class": "missing"})
            yield token.copy(type="text", content=f"{_text(token) or 'image'} (not shown)")
            yield token.copy(type="missing_close", tag="span", nesting=-1, attrs={})
            return
    yield token
