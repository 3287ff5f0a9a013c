"""Pieces of SQL: names are quoted, values become untyped parameters that PostgreSQL casts itself."""

from collections.abc import Iterable, Mapping

from agent.sandbox.rest.filters import Condition, Field, Filter
from agent.sandbox.rest.ranges import Rows
from agent.sandbox.rest.schema import Column
from agent.sandbox.rest.selection import Ordered, Selected

_OPERATORS = {
    "eq": "=",
    "neq": "<>",
    "gt": ">",
    "gte": ">=",
    "lt": "<",
    "lte": "<=",
    "like": "like",
    "ilike": "ilike",
    "match": "~",
    "imatch": "~*",
    "isdistinct": "IS DISTINCT FROM",
    "cs": "@>",
    "cd": "<@",
    "ov": "&&",
    "sl": "<<",
    "sr": ">>",
    "nxr": "&<",
    "nxl": "&>",
    "adj": "-|-",
}
_SEARCHES = {
    "fts": "to_tsquery",
    "plfts": "plainto_tsquery",
    "phfts": "phraseto_tsquery",
    "wfts": "websearch_to_tsquery",
}
_JSON_TYPES = {"json", "jsonb"}


def ident(*names: str) -> str:
    """Quote a name, or several joined by dots."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def literal(text: str) -> str:
    """Quote a text that the database itself supplied."""
    return "'" + text.replace("'", "''") + "'"


class Sql:
    """A statement being written: the parameters so far, and the relation whose columns are meant."""

    def __init__(self, relation: str, columns: Mapping[str, Column]) -> None:
        self.relation = relation
        self.columns = columns
        self.parameters: list[str] = []

    def value(self, text: str) -> str:
        """Add a parameter and return its place holder; PostgreSQL reads a text up to its first NUL."""
        self.parameters.append(text.partition("\0")[0])
        return f"${len(self.parameters)}"

    def field(self, field: Field) -> str:
        """Write a column, or the path into it."""
        column = f"{self.relation}.{'*' if field.name == '*' else ident(field.name)}"
        if not field.path:
            return column
        is_json = field.name in self.columns and self.columns[field.name].type in _JSON_TYPES
        base = column if is_json else f"to_jsonb({column})"
        return base + "".join(arrow + self._operand(operand) for arrow, operand in field.path)

    def select(self, items: Iterable[Selected]) -> str:
        """Write the columns of a SELECT; none means all."""
        return ", ".join(map(self._selected, items)) or f"{self.relation}.*"

    def where(self, conditions: Iterable[Condition]) -> str:
        """Write a WHERE clause, or nothing."""
        written = " AND ".join(map(self._condition, conditions))
        return f" WHERE {written}" if written else ""

    def order(self, items: Iterable[Ordered]) -> str:
        """Write an ORDER BY clause, or nothing."""
        terms = [
            f"{self.field(item.field)} {item.direction} {item.nulls and 'NULLS ' + item.nulls}"
            for item in items
        ]
        return f" ORDER BY {', '.join(terms)}" if terms else ""

    def limit(self, rows: Rows) -> str:
        """Write LIMIT and OFFSET, or nothing."""
        if rows.everything:
            return ""
        limit = "ALL" if rows.limit is None else self.value(str(rows.limit))
        return f" LIMIT {limit} OFFSET {self.value(str(rows.offset))}"

    def _operand(self, operand: str) -> str:
        index = operand.removeprefix("-").isdecimal()
        return f"{self.value(operand)}::int" if index else self.value(operand)

    def _selected(self, item: Selected) -> str:
        written = self.field(item.field)
        if item.cast:
            written = f"CAST({written} AS {item.cast})"
        keys = [operand for _, operand in item.field.path if not operand.removeprefix("-").isdecimal()]
        alias = item.alias or ((keys or [item.field.name])[-1] if item.field.path else None)
        return f"{written} AS {ident(alias)}" if alias else written

    def _condition(self, condition: Condition) -> str:
        no = "NOT " if condition.negated else ""
        if isinstance(condition, Filter):
            return no + self._filter(condition)
        joined = f" {condition.operator.upper()} ".join(map(self._condition, condition.terms))
        return f"{no}({joined})"

    def _filter(self, one: Filter) -> str:
        column = self.field(one.field)
        if one.operator == "is":
            return f"{column} IS {one.value.upper().replace('_', ' ')}"
        if one.operator == "in":
            return f"{column} = ANY ({self.value(_array(one.values))})"
        if one.operator in _SEARCHES:
            language = f"{self.value(one.modifier)}, " if one.modifier else ""
            kind = self.columns[one.field.name].type if one.field.name in self.columns else ""
            document = column if kind == "tsvector" else f"to_tsvector({language}{column})"
            return f"{document} @@ {_SEARCHES[one.operator]}({language}{self.value(one.value)})"
        text = one.value.replace("*", "%") if one.operator in {"like", "ilike"} else one.value
        value = self.value(text)
        compared = f"{one.modifier}({value})" if one.modifier else value
        return f"{column} {_OPERATORS[one.operator]} {compared}"


def _array(values: tuple[str, ...]) -> str:
    if values == ("",):
        return "{}"
    quoted = (value.replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return "{" + ",".join(f'"{value}"' for value in quoted) + "}"
