"""What comes back and in which order: `select`, `order`, `columns`, `on_conflict`."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from agent.sandbox.rest.errors import no_aggregates, not_implemented
from agent.sandbox.rest.filters import Field
from agent.sandbox.rest.scanner import Scanner, SyntaxProblem

_ALIAS = re.compile(r'((?:[\w $]|-(?!>))+|"(?:[^"\\]|\\.)*"):(?!:)')
_CAST = re.compile(r"::([\w $]+)")
_COUNT = re.compile(r"count\(\)")
_AGGREGATE = re.compile(r"\.(?:sum|avg|count|max|min)\(\)")
_EMBEDDED = re.compile(r'(?:\.\.\.)?(?:[\w $\-]+|"[^"]*")(?:![\w $\-]+)*\(')
_DIRECTION = re.compile(r"\.(asc|desc)")
_NULLS = re.compile(r"\.nulls(first|last)")
_END = 'delimiter (.), "," or end of input'

_Parsed = TypeVar("_Parsed")


@dataclass(frozen=True)
class Selected:
    """One item of `select`: a field, cast and renamed."""

    field: Field
    cast: str | None = None
    alias: str | None = None


@dataclass(frozen=True)
class Ordered:
    """One item of `order`."""

    field: Field
    direction: str = ""
    nulls: str = ""


def parse_select(text: str) -> tuple[Selected, ...]:
    """Parse `select`; nothing selected means everything.

    Raises:
        ApiError: PGRST100; PGRST123 for aggregates; PGRST127 for embedded resources.
    """
    return _parsed(Scanner(text, "select parameter"), _select_items) if text else ()


def parse_order(text: str) -> tuple[Ordered, ...]:
    """Parse `order`.

    Raises:
        ApiError: PGRST100.
    """
    return _parsed(Scanner(text, "order"), _order_items)


def parse_names(text: str, title: str) -> tuple[str, ...]:
    """Parse `columns` or `on_conflict`.

    Raises:
        ApiError: PGRST100.
    """
    return _parsed(Scanner(text, f"{title} parameter"), _names)


def _parsed(scanner: Scanner, read: Callable[[Scanner], _Parsed]) -> _Parsed:
    try:
        return read(scanner)
    except SyntaxProblem as problem:
        raise scanner.error(problem) from problem


def _select_items(scanner: Scanner) -> tuple[Selected, ...]:
    items = [_select_item(scanner)]
    while scanner.take(","):
        items.append(_select_item(scanner))
    return tuple(items)


def _select_item(scanner: Scanner) -> Selected:
    scanner.blanks()
    if scanner.take("*"):
        scanner.blanks()
        return _ended(scanner, Selected(Field("*")), '",", ")" or end of input')
    alias = scanner.match(_ALIAS)
    if scanner.match(_COUNT):
        raise no_aggregates()
    if scanner.match(_EMBEDDED):
        raise not_implemented("Resource embedding")
    field = Field(scanner.name(), scanner.json_path())
    scanner.blanks()
    cast = scanner.match(_CAST)
    if scanner.match(_AGGREGATE):
        raise no_aggregates()
    item = Selected(field, cast[1].strip() if cast else None, alias[1].strip().strip('"') if alias else None)
    return _ended(scanner, item, 'letter, digit, "-", "->>", "->", "::", ".", ")", "," or end of input')


def _ended(scanner: Scanner, item: Selected, expecting: str) -> Selected:
    if scanner.rest[:1] not in {"", ","}:
        scanner.fail(expecting)
    return item


def _order_items(scanner: Scanner) -> tuple[Ordered, ...]:
    items = [_order_item(scanner)]
    while scanner.take(","):
        items.append(_order_item(scanner))
    return tuple(items)


def _order_item(scanner: Scanner) -> Ordered:
    scanner.blanks()
    field = Field(scanner.name(), scanner.json_path())
    direction = scanner.match(_DIRECTION)
    nulls = scanner.match(_NULLS)
    scanner.blanks()
    if scanner.rest[:1] == "." and not nulls:
        scanner.at += 1
        choices = '"nullsfirst" or "nullslast"'
        hoped = "nullsfirst" if direction else "asc"
        scanner.fail(choices if direction else f'"asc", "desc", {choices}', hoped=hoped)
    if scanner.rest[:1] not in {"", ","}:
        scanner.fail('"," or end of input' if nulls else _END)
    return Ordered(field, direction[1] if direction else "", nulls[1] if nulls else "")


def _names(scanner: Scanner) -> tuple[str, ...]:
    names = [scanner.name()]
    scanner.blanks()
    while scanner.take(","):
        scanner.blanks()
        names.append(scanner.name())
        scanner.blanks()
    return tuple(names)
