"""Filters: `column=operator.value`, and trees of them in and=(...) and or=(...)."""

import re
from dataclasses import dataclass
from typing import TypeAlias

from agent.sandbox.rest.scanner import NAME, Scanner, SyntaxProblem

_WORD = re.compile(
    r"(?:eq|gte?|lte?|i?like|i?match)(?:\((?:any|all)\))?"
    r"|neq|cs|cd|ov|sl|sr|nxr|nxl|adj|isdistinct|is|in"
    r"|(?:fts|plfts|phfts|wfts)(?:\([\w $]+\))?"
)
_MODIFIABLE = re.compile(r"eq|gte?|lte?|i?like|i?match|fts|plfts|phfts|wfts")
_PARTS = re.compile(r"(\w+)(?:\((.+)\))?")
_OPERATOR = "operator (eq, gt, ...)"
_IS = ("not_null", "null", "true", "false", "unknown")
_ELEMENT = re.compile(r"[^,)]*")
_ARRAY = re.compile(r"\{[^{}]*\}")
_LOGIC = "logic operator (and, or)"


@dataclass(frozen=True)
class Field:
    """A column, or what lies inside of it at a JSON path."""

    name: str
    path: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Filter:
    """A comparison; `modifier` is any/all of a comparison, or the language of a text search."""

    field: Field
    operator: str
    value: str
    values: tuple[str, ...] = ()
    negated: bool = False
    modifier: str | None = None


@dataclass(frozen=True)
class Logic:
    """Conditions joined by `and` or `or`."""

    operator: str
    terms: tuple["Condition", ...]
    negated: bool = False


Condition: TypeAlias = Filter | Logic


def parse_filter(field: Field, text: str) -> Filter:
    """Parse the value of a filter parameter.

    Raises:
        ApiError: PGRST100.
    """
    scanner = Scanner(text, "filter")
    try:
        return _comparison(scanner, field, nested=False)
    except SyntaxProblem as problem:
        raise scanner.error(problem) from problem


def parse_tree(operator: str, text: str) -> Condition:
    """Parse the value of an `and`, `or`, `not.and` or `not.or` parameter.

    Raises:
        ApiError: PGRST100.
    """
    scanner = Scanner(operator + text, "logic tree")
    try:
        return _condition(scanner)
    except SyntaxProblem as problem:
        scanner.text = text  # the message shows what was sent, the position counts the operator
        raise scanner.error(problem) from problem


def _condition(scanner: Scanner) -> Condition:
    start = scanner.at
    try:
        field = _field(scanner)
        scanner.expect(".", "delimiter (.)")
        return _comparison(scanner, field, nested=True)
    except SyntaxProblem as as_filter:
        scanner.at = start
        try:
            return _tree(scanner)
        except SyntaxProblem as as_tree:
            if as_tree.at == as_filter.at == start:
                as_tree.expecting = f"{NAME}, negation operator (not) or {_LOGIC}"
            raise max(as_tree, as_filter, key=lambda problem: problem.at) from as_filter


def _tree(scanner: Scanner) -> Logic:
    negated = scanner.take("not.")
    operator = next((word for word in ("and", "or") if scanner.take(word)), None) or scanner.fail(_LOGIC)
    scanner.token("(")
    terms = [_condition(scanner)]
    scanner.blanks()
    while scanner.take(","):
        scanner.blanks()
        terms.append(_condition(scanner))
        scanner.blanks()
    scanner.token(")")
    return Logic(operator, tuple(terms), negated)


def _field(scanner: Scanner) -> Field:
    scanner.blanks()
    field = Field(scanner.name(), scanner.json_path())
    scanner.blanks()
    return field


def _comparison(scanner: Scanner, field: Field, *, nested: bool) -> Filter:
    negated = scanner.take("not.")
    word = scanner.match(_WORD)
    if word is None:
        scanner.fail(_OPERATOR if negated else f'"not" or {_OPERATOR}', hoped="" if negated else "not")
    if not scanner.take("."):
        scanner.at += bool(_MODIFIABLE.fullmatch(word[0])) and scanner.rest.startswith("(")
        scanner.fail(_OPERATOR)
    parts = _PARTS.fullmatch(word[0])
    operator, modifier = parts.groups() if parts else (word[0], None)
    if operator == "in":
        return Filter(field, operator, "", _values(scanner), negated)
    if operator == "is":
        return Filter(field, operator, _is_value(scanner), (), negated)
    return Filter(field, operator, _value(scanner, nested=nested), (), negated, modifier)


def _is_value(scanner: Scanner) -> str:
    lower = scanner.rest.lower()
    word = next((word for word in _IS if lower.startswith(word)), None)
    if word is None:
        scanner.fail("isVal: (null, not_null, true, false, unknown)")
    scanner.at += len(word)
    return word


def _values(scanner: Scanner) -> tuple[str, ...]:
    scanner.token("(")
    values = [_element(scanner)]
    while scanner.take(","):
        values.append(_element(scanner))
    scanner.blanks()
    scanner.expect(")", '"," or ")"')
    return tuple(values)


def _value(scanner: Scanner, *, nested: bool) -> str:
    if nested:
        return _element(scanner, arrays=True)
    value, scanner.at = scanner.rest, len(scanner.text)
    return value


def _element(scanner: Scanner, *, arrays: bool = False) -> str:
    start = scanner.at
    quoted = scanner.quoted()
    if quoted is not None and scanner.rest[:1] in {"", ",", ")"}:
        return quoted
    scanner.at = start
    found = (scanner.match(_ARRAY) if arrays else None) or scanner.match(_ELEMENT)
    return found[0] if found else ""
