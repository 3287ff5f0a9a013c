"""What credentials look like.

Looked for are the formats of the library detect-secrets that name their service, and those of more services
around a training. Every one of these formats has 20 characters in a row that a token may have, which text
seldom has: only around such places, and there only where a literal of a format stands, regular expressions
run.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TOKEN_RUN = b"a" * 20
_TOKEN_CHARACTERS = bytes(
    ord("a") if re.match(rb"[A-Za-z0-9_/+-]", bytes([code])) else ord(" ") for code in range(256)
)
_BEFORE_RUN, _BEHIND_RUN = 160, 8  # what else belongs to a match: a name, a header, a quote


class _Format(NamedTuple):
    """How a credential looks: a pattern, and literals one of which every match has in it.

    A match begins at the literal, or up to `before` bytes in front of it, and ends up to `after` bytes behind
    it. The empty literal is everywhere. The group "secret", if there is one, is the secret itself.
    """

    kind: str
    literals: tuple[bytes, ...]
    pattern: bytes = b"%b"
    before: int = 0
    after: int = 4096
    sure: bool = False  # even if it spells words


# A blob in base64 has every short literal in it, but a token does not stand amid so many more characters.
_NOT_WITHIN = rb"(?<![A-Za-z0-9_+-]{16})"
_ENDS = rb"(?![A-Za-z0-9_+/-]{8})"
# From detect-secrets, whose pattern goes in for %b. Left out are its entropy, keyword, basic auth, IP, IBM,
# Cloudant, SoftLayer and Artifactory detectors, for ordinary text looks like what they find, and its private
# keys, which are found by the words alone.
_DETECTORS = (
    # Not within a longer word of capitals: sequences of DNA and proteins have everything in them.
    _Format("AWS Access Key", (b"A3T", b"ABIA", b"ACCA", b"AKIA", b"ASIA", b"aws", b"AWS", b"Aws"),
            rb"(?<!(?-i:[A-Z0-9]))(?:%b)(?!(?-i:[A-Z0-9]))", after=128),
    _Format("Azure Storage Account access key", (b"AccountKey=",)),
    # Its first part is the number of the bot, in base64.
    _Format("Discord Bot Token", (b"",), rb"(?=(?:[MNO][DTjz][AEIMQUYcgk][wxyz0-5]){5})(?:%b)"),
    _Format("GitHub Token", (b"gh",), _NOT_WITHIN + rb"(?:%b)"),
    _Format("GitLab Token", (b"gl", b"GR1348941"),
            _NOT_WITHIN + rb"(?:%b)"),
    _Format("JSON Web Token", (b"eyJ",), _NOT_WITHIN + rb"(?:%b)"),
    _Format("Mailchimp Access Key", (b"-us",), before=32, after=8),
    _Format("NPM tokens", (b"/:_authToken=",), before=120, after=64),
    _Format("OpenAI Token", (b"T3BlbkFJ",), before=48, after=32),
    _Format("PyPI Token", (b"pypi-AgE",)),
    _Format("SendGrid API Key", (b"SG.",)),
    _Format("Slack Token", (b"xox", b"hooks.slack.com/services/"), before=8, after=128),
    _Format("Square OAuth Secret", (b"sq0csp-",)),
    _Format("Stripe Access Key", (b"k_live_",), before=1, after=64),
    _Format("Telegram Bot Token", (b":AA",), before=10, after=64),  # as all that Telegram gives out
    _Format("Twilio API Key", (b"SK",)),  # an Account SID (AC…) is no secret
)  # fmt: skip
# As the services document them; lengths that they do not tell are from the rules of gitleaks and betterleaks.
_OURS = (
    _Format("Hugging Face Token", (b"hf_",), rb"hf_(?:[a-z0-9]{34}|[A-Z0-9]{34})(?![A-Za-z0-9])", sure=True),
    _Format("Hugging Face Token", (b"hf_", b"api_org_"),
            _NOT_WITHIN + rb"hf_[A-Za-z0-9]{30,50}" + _ENDS +
            rb"|hf_oauth_[A-Za-z0-9._-]{20,}|api_org_[A-Za-z]{34}"),
    _Format("OpenAI Token", (b"sk-",), rb"sk-(?:proj|svcacct|admin)-[A-Za-z0-9_-]{40,}"),
    _Format("Anthropic API Key", (b"sk-",), rb"sk-ant-[a-z]{3,8}\d\d-[A-Za-z0-9_-]{80,}"),
    _Format("AWS Secret Access Key", (b"ecret", b"ECRET"),
            rb"(?:ecret[_-]?[Aa]ccess[_-]?[Kk]ey|ECRET_ACCESS_KEY|(?<=aws_s)ecret_key|(?<=AWS_S)ECRET_KEY)"
            rb"[\s\"'\\\]:=,>]{1,12}(?P<secret>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])"),
    _Format("GitHub Token", (b"github_pat_",), rb"github_pat_[A-Za-z0-9_]{82}"),
    _Format("Weights & Biases API Key", (b"wandb", b"WANDB", b"Wandb"),
            rb"wandb_v1_[A-Za-z0-9_]{60,}|(?i:wandb[\w.\s\"'\\[\]-]{0,40}?(?:key|token|login|password))"
            rb"[\w\s\"'\\=:,({\[\]>-]{1,24}?(?<![0-9a-f])(?P<secret>[0-9a-f]{40})(?![0-9a-f])"),
    _Format("Supabase Key", (b"sb_secret_", b"sbp_"),
            rb"sb_secret_[A-Za-z0-9_-]{31}|sbp_(?:oauth_)?[a-z0-9]{40}"),
    _Format("Google API Key", (b"AIza",), _NOT_WITHIN + rb"AIza[A-Za-z0-9_-]{35}" + _ENDS),
    _Format("RunPod API Key", (b"rpa_",), rb"rpa_[A-Z0-9]{40}"),
    _Format("NPM tokens", (b"npm_",), _NOT_WITHIN + rb"npm_[A-Za-z0-9]{36}" + _ENDS),
    _Format("Private Key", (b"BEGIN ",),
            rb"BEGIN (?:[A-Z0-9]{2,9} ){0,2}PRIVATE KEY(?: BLOCK)? ?-{4,5}(?:[\s\"'+,]|\\+[nr]){1,40}"
            rb"(?:[A-Z][A-Za-z-]{2,20}: [^\n\\]{1,80}(?:\s|\\+[nr]){1,20}){0,3}"
            rb"(?P<secret>[A-Za-z0-9+/]{20,64})"),
    _Format("Private Key", (b"PuTTY-User-Key-File-",), rb"PuTTY-User-Key-File-[23]: (?:ssh|ecdsa)-"),
)  # fmt: skip

_LITERALS = sorted({literal for one in (*_DETECTORS, *_OURS) for literal in one.literals if literal})
_TWO_DOTS = re.compile(rb"\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{20}")  # Discord's format has no literal but these

_SAYS_EXAMPLE = re.compile(rb"(?i:example)|xxxx|XXXX")
# Words, LikeThis or in capitals, short numbers, the letters of a genome.
_CAMEL = rb"(?:[A-Z]{0,4}[a-z]{3,}+|(?:For|Of|To|In|On|By|At|As|Is|Or|No|Id)(?![a-z]))++\d{0,2}"
_WORD = rb"(?:%b|[A-Za-z]{1,3}|[A-Z]{1,12}|\d{1,8}|[ACGTUN]+)" % _CAMEL
_WORDS = re.compile(rb"[^A-Za-z0-9]*+(?:%b(?:[^A-Za-z0-9]++|\Z))++" % _WORD)


def credentials_in(data: bytes) -> Iterator[tuple[str, int]]:
    """The kind of each credential, and where it begins."""
    begins, parts = _token_places(data)
    text = b"\n".join(parts)
    offsets = list(accumulate((len(part) + 1 for part in parts), initial=0))
    for literal in _literals_in(text):
        for rule in _rules()[literal]:
            found = next(filter(rule.is_secret, rule.matches(text, literal)), None)
            if found:
                part = bisect_right(offsets, found.start()) - 1
                yield rule.format.kind, begins[part] + found.start() - offsets[part]


def may_hold_credentials(data: bytes) -> bool:
    """Whether a search could find any, in `data` or in a part of it that stands between other characters.

    Only a no is certain.
    """
    return any(True for _ in _literals_in(b"\n".join(_token_places(data)[1])))


def _literals_in(text: bytes) -> Iterator[bytes]:
    if text:
        yield from (literal for literal in _LITERALS if literal in text)
    if _TWO_DOTS.search(text):
        yield b""


def _token_places(data: bytes) -> tuple[list[int], list[bytes]]:
    """Where the parts of `data` begin that have a run of characters as long as a token in them; and they."""
    marks = data.translate(_TOKEN_CHARACTERS)
    spans: list[tuple[int, int]] = []
    at = marks.find(_TOKEN_RUN)
    while at >= 0:
        end = marks.find(b" ", at + len(_TOKEN_RUN))
        end = end if end >= 0 else len(marks)
        if (run := data[at:end]).isalpha() and run.islower():  # a word, however long
            at = marks.find(_TOKEN_RUN, end)
            continue
        begin = max(0, at - _BEFORE_RUN)
        if spans and begin <= spans[-1][1]:
            begin, _ = spans.pop()
        spans.append((begin, end + _BEHIND_RUN))
        at = marks.find(_TOKEN_RUN, end)
    return [begin for begin, _ in spans], [data[begin:end] for begin, end in spans]


class _Rule(NamedTuple):
    """A format that is ready to be looked for."""

    format: _Format
    pattern: re.Pattern[bytes]
    valid: Callable[[str], bool] | None = None

    def matches(self, text: bytes, literal: bytes) -> Iterator[re.Match[bytes]]:
        """Whatever has the format, at this literal of it."""
        before, after = self.format.before, self.format.after
        if not literal:
            yield from self.pattern.finditer(text)
            return
        look = self.pattern.search if before else self.pattern.match
        at = text.find(literal)
        while at >= 0:
            found = look(text, max(0, at - before), at + len(literal) + after)
            if found:
                yield found
            at = text.find(literal, max(at + 1, found.end() if found else 0))

    def is_secret(self, found: re.Match[bytes]) -> bool:
        """No example, no placeholder, no words that are only built like a token."""
        secret = found.groupdict().get("secret") or found[0]
        if _SAYS_EXAMPLE.search(secret) or (not self.format.sure and _WORDS.fullmatch(secret)):
            return False
        if sum(sorted(map(secret.count, set(secret)))[-2:]) * 4 >= len(secret) * 3:  # xxx-xxx, 0000
            return False
        return self.valid is None or self.valid(secret.decode())


@cache
def _rules() -> dict[bytes, list[_Rule]]:
    """What to look for where a literal stands; b"" stands everywhere."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

    detectors: dict[str, Any] = get_mapping_from_secret_type_to_class()
    rules = [_Rule(ours, re.compile(ours.pattern)) for ours in _OURS]
    for known in _DETECTORS:
        detector = detectors[known.kind]
        for theirs in detector.denylist:
            flags = theirs.flags & (re.IGNORECASE | re.VERBOSE)
            pattern = re.compile(known.pattern % theirs.pattern.encode(), flags)
            rules.append(_Rule(known, pattern, getattr(detector, "is_formally_valid", None)))
    by_literal = defaultdict(list)
    for rule in rules:
        for literal in rule.format.literals:
            by_literal[literal].append(rule)
    return dict(by_literal)
