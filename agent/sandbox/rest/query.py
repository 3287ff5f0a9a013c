"""The query string of a request, taken apart."""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote_plus

from agent.sandbox.rest.errors import ApiError
from agent.sandbox.rest.filters import Condition, Field, parse_filter, parse_tree
from agent.sandbox.rest.scanner import Scanner, SyntaxProblem
from agent.sandbox.rest.selection import Ordered, Selected, parse_names, parse_order, parse_select

_RESERVED = {"select", "columns", "on_conflict"}
_RESERVED_ENDINGS = {"order", "limit", "offset", "and", "or"}
_SEPARATOR = re.compile("[&;]")


@dataclass(frozen=True)
class Query:
    """What a query string asks for.

    `arguments` are the parameters without an operator, which only a function called by GET may have;
    `embedded` names the first resource that a filter, order or limit reaches into.
    """

    canonical: str
    select: tuple[Selected, ...]
    conditions: tuple[Condition, ...]
    order: tuple[Ordered, ...]
    columns: tuple[str, ...] | None
    on_conflict: tuple[str, ...] | None
    ranges: dict[str, str]
    arguments: dict[str, str]
    embedded: str | None


def parse_query(text: str, *, calls: bool = False) -> Query:
    """Parse a query string; `calls` allows arguments of a function.

    Raises:
        ApiError: PGRST100.
    """
    pairs = [_pair(part) for part in _SEPARATOR.split(text) if part]
    given = [(key, value) for key, value in pairs if value is not None]
    named = {key: value for key, value in reversed(given) if key in _RESERVED}
    special = [(*_split(key), value) for key, value in given if _split(key)[1] in _RESERVED_ENDINGS]
    order = [(path, parse_order(value)) for path, ending, value in special if ending == "order"]
    trees = [
        parse_tree(f"not.{ending}" if path else ending, value)
        for path, ending, value in special
        if ending in {"and", "or"}
    ]
    columns = parse_names(named["columns"], "columns") if "columns" in named else None
    select = parse_select(named.get("select", "*"))
    filters: list[Condition] = []
    arguments: dict[str, str] = {}
    embedded = [path[0] for path, _, _ in special if path and path != ["not"]]
    for key, value in given:
        if key in _RESERVED or _split(key)[1] in _RESERVED_ENDINGS:
            continue
        path, field = _parse_key(key)
        embedded += path[:1]
        try:
            filters.append(parse_filter(field, value))
        except ApiError:
            if not calls:
                raise
            arguments[field.name] = value
    return Query(
        canonical="&".join(
            f"{_escape(key)}={_escape(value or '')}" for key, value in sorted(pairs, key=_key)
        ),
        select=select,
        conditions=(*filters, *trees),
        order=next((items for path, items in order if not path), ()),
        columns=columns,
        on_conflict=parse_names(named["on_conflict"], "on_conflict") if "on_conflict" in named else None,
        ranges={key: value for key, value in given if key in {"limit", "offset"}},
        arguments=arguments,
        embedded=next(iter(embedded), None),
    )


def _parse_key(key: str) -> tuple[list[str], Field]:
    scanner = Scanner(key, "tree path")
    try:
        names = [scanner.name()]
        while scanner.take("."):
            names.append(scanner.name())
        return names[:-1], Field(names[-1], scanner.json_path())
    except SyntaxProblem as problem:
        raise scanner.error(problem) from problem


def _pair(part: str) -> tuple[str, str | None]:
    key, equals, value = part.partition("=")
    return unquote_plus(key), unquote_plus(value) if equals else None


def _split(key: str) -> tuple[list[str], str]:
    *path, ending = key.split(".")
    return path, ending


def _key(pair: tuple[str, str | None]) -> str:
    return pair[0]


def _escape(text: str) -> str:
    return quote(text, safe="-_.~")
