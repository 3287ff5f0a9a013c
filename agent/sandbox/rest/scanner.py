"""Reading a query parameter from left to right, and saying where it stops making sense."""

import re
from typing import NoReturn

from agent.sandbox.rest.errors import ApiError, bad_query

_BLANKS = re.compile(r"[ \t]*")
_NAME = re.compile(r"[\w $]+(?:-(?!>)[\w $]+)*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_ARROW = re.compile(r"->>?")
_INDEX = re.compile(r"-?\d+(?=->|::|\.|,|$)")
_KEY = re.compile(r"[^(\-:.,>)]+(?:-(?!>)[^(\-:.,>)]+)*")

_END = "end of input"
NAME = "field name (* or [a..z0..9_$])"


class SyntaxProblem(Exception):  # noqa: N818 - it becomes an error only if no other reading succeeds
    """A reading that failed at a position, with what stands there and what should."""

    def __init__(self, at: int, unexpected: str, expecting: str) -> None:
        super().__init__(expecting)
        self.at = at
        self.unexpected = unexpected
        self.expecting = expecting


class Scanner:
    """A position in a text; `title` says what the text is, for the error message."""

    def __init__(self, text: str, title: str) -> None:
        self.text = text
        self.title = title
        self.at = 0

    @property
    def rest(self) -> str:
        """What is still unread."""
        return self.text[self.at :]

    def take(self, literal: str) -> bool:
        """Step over a literal if it comes next."""
        found = self.text.startswith(literal, self.at)
        self.at += len(literal) * found
        return found

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Step over a pattern if it comes next."""
        found = pattern.match(self.text, self.at)
        if found:
            self.at = found.end()
        return found

    def blanks(self) -> None:
        """Step over blanks."""
        self.match(_BLANKS)

    def expect(self, literal: str, expecting: str | None = None) -> None:
        """Step over a literal that must come next."""
        if not self.take(literal):
            self.fail(expecting or f'"{literal}"')

    def token(self, literal: str) -> None:
        """Step over a literal that must come next, and over blanks around it."""
        self.blanks()
        self.expect(literal)
        self.blanks()

    def fail(self, expecting: str, *, hoped: str = "") -> NoReturn:
        """Stop reading here; unexpected is the first character that differs from what was hoped for."""
        common = next((i for i, char in enumerate(hoped) if self.rest[i : i + 1] != char), 0)
        found = self.rest[common : common + 1]
        quote = "'" if _END in expecting else '"'
        raise SyntaxProblem(self.at, f"{quote}{found}{quote}" if found else _END, expecting)

    def quoted(self) -> str | None:
        """Read a "quoted" text, with backslashes before any character."""
        found = self.match(_QUOTED)
        return _ESCAPED.sub(r"\1", found[1]) if found else None

    def name(self) -> str:
        """Read the name of a column."""
        quoted = self.quoted()
        if quoted is not None:
            return quoted
        found = self.match(_NAME) or self.fail(NAME)
        return "-".join(part.strip() for part in found[0].split("-"))

    def json_path(self) -> tuple[tuple[str, str], ...]:
        """Read ->key, ->>key and ->0 as often as they follow: pairs of arrow and operand."""
        path = []
        while arrow := self.match(_ARROW):
            if index := self.match(_INDEX):
                path.append((arrow[0], index[0]))
                continue
            quoted = self.quoted()
            if quoted is None:
                found = self.match(_KEY) or self.fail("any non reserved character different from: .,>()")
                quoted = found[0].strip()
            path.append((arrow[0], quoted))
        return tuple(path)

    def error(self, problem: SyntaxProblem) -> ApiError:
        """Word a failed reading as the parser of PostgREST words it."""
        return bad_query(
            f'"failed to parse {self.title} ({self.text})" (line 1, column {problem.at + 1})',
            f"unexpected {problem.unexpected} expecting {problem.expecting}",
        )
