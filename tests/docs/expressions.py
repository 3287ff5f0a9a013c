"""`${{ }}` as GitHub reads it, as far as our workflows use it; what names nothing that exists is an error."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<name>[A-Za-z_][\w.-]*)|(?P<sign>&&|\|\||==|!=|[!(),]))"
)
FREE = {"inputs", "vars", "secrets", "env", "outputs"}  # what they lack is empty, not wrong
STATUS = ("always()", "failure()", "cancelled()", "success()")


@dataclass
class Expression:
    """One expression, read from left to right."""

    tokens: list[str]
    contexts: Mapping[str, Any]
    functions: Mapping[str, Callable[[], bool]]

    def whole(self) -> Any:
        value = self.either()
        assert not self.tokens, f"{self.tokens} is left over"
        return value

    def either(self) -> Any:
        value = self.both()
        while self._next("||"):
            other = self.both()
            value = value or other
        return value

    def both(self) -> Any:
        value = self.compared()
        while self._next("&&"):
            other = self.compared()
            value = value and other
        return value

    def compared(self) -> Any:
        value = self.one()
        for sign, equal in (("==", True), ("!=", False)):
            if self._next(sign):
                return (_folded(value) == _folded(self.one())) is equal
        return value

    def one(self) -> Any:
        if self._next("!"):
            return not self.one()
        if self._next("("):
            value = self.either()
            assert self._next(")")
            return value
        token = self.tokens.pop(0)
        if token.startswith("'"):
            return token[1:-1].replace("''", "'")
        if token in {"true", "false"}:
            return token == "true"
        if self._next("("):
            assert self._next(")"), f"{token} with arguments"
            return self.functions[token]()
        return self.looked_up(token)

    def looked_up(self, path: str) -> Any:
        value: Any = self.contexts
        free = False
        for name in path.split("."):
            assert free or name in value, f"{path}: there is no {name} among {sorted(value)}"
            value = value.get(name, "")
            free = name in FREE
        return value

    def _next(self, sign: str) -> bool:
        if self.tokens and self.tokens[0] == sign:
            self.tokens.pop(0)
            return True
        return False


def evaluate(text: str, contexts: Mapping[str, Any], functions: Mapping[str, Any] | None = None) -> Any:
    """The value of one expression, without its braces."""
    tokens, position = [], 0
    while position < len(text.rstrip()):
        found = TOKEN.match(text, position)
        assert found, f"cannot read {text[position:]!r}"
        tokens.append(found[found.lastgroup])
        position = found.end()
    return Expression(tokens, contexts, functions or {}).whole()


def filled_in(value: Any, contexts: Mapping[str, Any]) -> str:
    """A value of YAML as the text that a step sees."""
    if not isinstance(value, str):
        return _text(value)
    return re.sub(r"\$\{\{(.*?)\}\}", lambda found: _text(evaluate(found[1], contexts)), value)


def holds(condition: Any, contexts: Mapping[str, Any], functions: Mapping[str, Any]) -> bool:
    """Whether a step or job is to run; without a status function it must also have gone well so far."""
    text = str(condition).strip().removeprefix("${{").removesuffix("}}")
    if not any(name in text for name in STATUS):
        text = f"success() && ({text})"
    return bool(evaluate(text, contexts, functions))


def _text(value: Any) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _folded(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value
