"""Words for strangers' eyes: no secret in them, and nothing that a chat, a mail or GitHub would act upon."""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit, urlunsplit

from agent.log import redact

_NOT_PRINTED = re.compile(
    r"[\s\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ufffe\uffff]+"
)
# Signs that begin a mention, a link, markup or HTML somewhere, and what looks like them and begins nothing.
# No escape will do: one message goes to plain mails, to Markdown, and to Slack's and Telegram's dialects.
_LOOKALIKES = str.maketrans({
    "@": "\uff20", "#": "\uff03", "<": "\u2039", ">": "\u203a", "[": "(", "]": ")", "`": "'",
    "*": "\u2217", "~": "\u223c", "|": "\u00a6", "\\": "\u2216", "&": "\uff06", "{": "(", "}": ")",
    "$": "\uff04",
})  # fmt: skip
_EDGE = re.compile(r"(?<!\w)_+|_+(?!\w)")  # inside of a word it is a letter: eval_loss
_ADDRESS = re.compile(r":(?=//)|(?<=\bwww)\.|(?<=\bmailto):|(?<=\btel):", re.IGNORECASE)
_EMOJI = re.compile(r":(?=[\w+-]+:)")
_LONGEST = 300


def one_line(text: object, longest: int = _LONGEST) -> str:
    """Foreign text without its secrets, as one line of printable characters, cut where it gets too long."""
    line = redact(str(text).encode(errors="replace").decode())  # first: half a secret is not recognised
    line = _NOT_PRINTED.sub(" ", line).strip()
    return line if len(line) <= longest else f"{line[: longest - 1].rstrip()}…"


def plain(text: object, longest: int = _LONGEST) -> str:
    """Foreign text that reads the same and is nothing but text, whoever shows it."""
    line = _ADDRESS.sub(lambda sign: "\u2236" if sign[0] == ":" else "\u2024", one_line(text, longest))
    line = _EMOJI.sub("\u2236", line.translate(_LOOKALIKES))
    return _EDGE.sub(lambda edge: "\uff3f" * len(edge[0]), line)


def code(text: object, longest: int = _LONGEST) -> str:
    """Foreign text as a code span of Markdown, in which nothing means anything."""
    return f"`{_no_comment(one_line(text, longest)).replace('`', chr(39)) or ' '}`"


def block(text: object, longest: int = 1500) -> str:
    """Foreign text as a code block of Markdown: it can be copied, and links, mentions and closes nothing."""
    return f"```text\n{_no_comment(one_line(text, longest)).replace('```', chr(39) * 3)}\n```"


def address(url: str) -> str:
    """An address of ours, without credentials, that ends nothing it is written into."""
    parts = urlsplit(url)
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return quote(redact(bare), safe=":/?=%#!,.~+-_&[]")


def _no_comment(line: str) -> str:
    """Keep the marker of an issue ours: nobody else's text opens a comment."""
    return line.replace("<!-", "<! -")
