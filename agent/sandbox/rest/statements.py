"""The one statement of a request on a table: it acts, and PostgreSQL writes the JSON of the answer.

Each statement returns one row: total, count, location, body, response.headers, response.status, inserted.
"""

# ruff: noqa: S608 - every name is quoted and every value is a parameter

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agent.sandbox.rest.media import Media
from agent.sandbox.rest.payload import Payload
from agent.sandbox.rest.query import Query
from agent.sandbox.rest.ranges import Rows
from agent.sandbox.rest.schema import Table
from agent.sandbox.rest.sql import Sql, ident, literal

_NO_BODY = "''"
_COUNT = "pg_catalog.count(_postgrest_t)"
_COUNT_INSERTED = "nullif(current_setting('pgrst.inserted', true), '')::int"


@dataclass(frozen=True)
class Statement:
    """SQL and its parameters; `estimate` lets the planner guess the total."""

    text: str
    parameters: Sequence[str]
    estimate: "Statement | None" = None
    unfiltered: str | None = None  # UPDATE or DELETE without WHERE


def result(
    body: str, *, total: str = "null", count: str = _COUNT, location: str = "null", inserted: str = "null"
) -> str:
    """Write the columns that every statement returns."""
    return (
        f"SELECT {total}::bigint, {count}, {location}::text[], {body}::text,"
        " nullif(current_setting('response.headers', true), ''),"
        f" nullif(current_setting('response.status', true), ''), {inserted}::int"
    )


def json_of(row: str, media: Media, *, single: bool = False) -> str:
    """Write the JSON of all rows, or of the first one."""
    if single or media.singular:
        return f"coalesce(json_agg({row})->0, 'null')"
    return f"coalesce(json_agg({row}), '[]')"


def read(table: Table, query: Query, rows: Rows, media: Media, *, counts: bool, body: bool) -> Statement:
    """Select rows; the total is counted apart if rows are left out."""
    sql = _over(table)
    where = sql.where(query.conditions)
    everybody = f"SELECT 1 FROM {sql.relation}{where}"
    estimate = Statement(f"EXPLAIN (FORMAT JSON) {everybody}", tuple(sql.parameters))
    source = f"SELECT {sql.select(query.select)} FROM {sql.relation}{where}"
    source += sql.order(query.order) + sql.limit(rows)
    apart = counts and not rows.everything
    counted = f", pgrst_source_count AS ({everybody})" if apart else ""
    total = "(SELECT pg_catalog.count(*) FROM pgrst_source_count)" if apart else _COUNT if counts else "null"
    written = json_of("_postgrest_t", media) if body else _NO_BODY
    return Statement(
        f"WITH pgrst_source AS ({source}){counted} {result(written, total=total)}"
        " FROM (SELECT * FROM pgrst_source) _postgrest_t",
        sql.parameters,
        estimate,
    )


@dataclass(frozen=True)
class Writer:
    """Writes to one table: what the statement returns depends on the wish of the client."""

    table: Table
    query: Query
    media: Media
    returns: str | None
    missing: str | None = None

    def update(self, payload: Payload) -> Statement:
        """Set columns from the payload; without a column nothing is updated, whatever the filters."""
        types = self.table.types(payload.keys)
        sql = _over(self.table)
        if not types:
            row = ", ".join(map(_column, self._returned())) or "NULL"
            return self._finished(sql, f"SELECT {row} FROM {sql.relation} WHERE false")
        body = self._body(sql, payload, types)
        changes = ", ".join(f"{ident(name)} = pgrst_body.{ident(name)}" for name in types)
        where = sql.where(self.query.conditions)
        act = f"UPDATE {sql.relation} SET {changes} FROM {body}{where} {self._returning(sql)}"
        return self._finished(sql, act, unfiltered=None if where else "UPDATE")

    def delete(self) -> Statement:
        """Delete rows."""
        sql = _over(self.table)
        where = sql.where(self.query.conditions)
        act = f"DELETE FROM {sql.relation}{where} {self._returning(sql)}"
        return self._finished(sql, act, unfiltered=None if where else "DELETE")

    def insert(self, payload: Payload, resolution: str | None) -> Statement:
        """Insert rows; a conflict is an error, unless the client wants it skipped or merged."""
        types = self.table.types(payload.keys)
        sql = _over(self.table)
        names = ", ".join(map(ident, types))
        values = ", ".join(f"pgrst_body.{ident(name)}" for name in types)
        target = f"{sql.relation}({names})" if types else sql.relation
        merge = resolution == "merge-duplicates"
        # Every row counts as inserted until the conflict takes it back: 201 or 200 hangs on it.
        counted = f" WHERE {_count('+ 1')} <> '0'" if merge else ""
        act = (
            f"INSERT INTO {target} SELECT {values} FROM {self._body(sql, payload, types)}{counted}"
            f"{self._on_conflict(types, merge=merge) if resolution else ''} {self._returning(sql)}"
        )
        inserted = _COUNT_INSERTED if merge else "0"
        location = self._location() if self.returns == "headers-only" else "null"
        return self._finished(sql, act, location=location, inserted=inserted)

    def _conflict(self) -> tuple[str, ...]:
        return self.table.primary_key if self.query.on_conflict is None else self.query.on_conflict

    def _on_conflict(self, types: Iterable[str], *, merge: bool) -> str:
        columns = ", ".join(map(ident, self._conflict()))
        if not columns:
            return ""
        changes = ", ".join(f"{ident(name)} = EXCLUDED.{ident(name)}" for name in types)
        if not merge or not changes:
            return f" ON CONFLICT ({columns}) DO NOTHING"
        return f" ON CONFLICT ({columns}) DO UPDATE SET {changes} WHERE {_count('- 1')} <> '-1'"

    def _body(self, sql: Sql, payload: Payload, types: dict[str, str]) -> str:
        """Write the FROM items that turn the JSON into typed rows called pgrst_body."""
        fill = self.missing == "default"
        kind = "jsonb" if fill else "json"
        data = f"(SELECT {sql.value(payload.text)}::{kind} AS json_data) pgrst_payload"
        filled = "pgrst_payload.json_data"
        if fill:
            given = {name: self.table.columns[name].default for name in types}
            defaults = ", ".join(f"{literal(name)}, {value}" for name, value in given.items() if value)
            built = f"jsonb_build_object({defaults})"
            one = f"{built} || pgrst_payload.json_data AS val"
            many = f"jsonb_agg({built} || one) AS val FROM jsonb_array_elements(pgrst_payload.json_data) one"
            data += f", LATERAL (SELECT {one if payload.is_object else many}) pgrst_defaults"
            filled = "pgrst_defaults.val"
        names = ", ".join(map(ident, types))
        typed = ", ".join(f"{ident(name)} {of}" for name, of in types.items())
        each = "record" if payload.is_object else "recordset"
        rows = f"{kind}_to_{each}({filled}) AS _({typed})"
        if not types:
            rows = "(VALUES (1)) _" if payload.is_object else f"{kind}_array_elements({filled}) _"
        return f"{data}, LATERAL (SELECT {names} FROM {rows}) pgrst_body"

    def _returned(self) -> list[str]:
        """The columns to return: only those selected, for more may be forbidden; the key comes along."""
        if self.returns in {None, "minimal"}:
            return []
        names = {item.field.name for item in self.query.select}
        return ["*"] if "*" in names else sorted(names | set(self.table.primary_key))

    def _returning(self, sql: Sql) -> str:
        columns = ", ".join(f"{sql.relation}.{_column(name)}" for name in self._returned())
        return f"RETURNING {columns or '1'}"

    def _location(self) -> str:
        keys = ", ".join(map(literal, self.table.primary_key))
        if not keys:
            return "null"
        return (
            f"CASE WHEN {_COUNT} = 1 THEN"
            " (SELECT array_agg(one.key || '=' || coalesce('eq.' || one.value, 'is.null'))"
            " FROM (SELECT row_to_json(_) AS row FROM pgrst_source _ LIMIT 1) first,"
            f" json_each_text(first.row) one WHERE one.key IN ({keys})) END"
        )

    def _finished(
        self,
        sql: Sql,
        act: str,
        *,
        location: str = "null",
        inserted: str = "null",
        unfiltered: str | None = None,
    ) -> Statement:
        whole = self.returns == "representation"
        seen = Sql(ident(self.table.name), self.table.columns)
        seen.parameters = sql.parameters
        rows = "SELECT * FROM pgrst_source"
        if whole:
            order = seen.order(self.query.order)
            rows = f"SELECT {seen.select(self.query.select)} FROM pgrst_source AS {seen.relation}{order}"
        body = json_of("_postgrest_t", self.media) if whole else _NO_BODY
        return Statement(
            f"WITH pgrst_source AS ({act}) {result(body, location=location, inserted=inserted)}"
            f" FROM ({rows}) _postgrest_t",
            seen.parameters,
            unfiltered=unfiltered,
        )


def _over(table: Table) -> Sql:
    return Sql(ident(table.schema, table.name), table.columns)


def _column(name: str) -> str:
    return "*" if name == "*" else ident(name)


def _count(change: str) -> str:
    return f"set_config('pgrst.inserted', (coalesce({_COUNT_INSERTED}, 0) {change})::text, true)"
