"""Functions under /rpc: which one is meant, and the statement that calls it."""

# ruff: noqa: S608 - every name is quoted and every value is a parameter

from collections.abc import Mapping, Sequence

from agent.sandbox.rest.errors import ambiguous_function, unknown_function
from agent.sandbox.rest.media import Media
from agent.sandbox.rest.payload import Payload
from agent.sandbox.rest.query import Query
from agent.sandbox.rest.ranges import Rows
from agent.sandbox.rest.schema import Routine, SchemaCache
from agent.sandbox.rest.similar import most_similar
from agent.sandbox.rest.sql import Sql, ident
from agent.sandbox.rest.statements import Statement, json_of, result

_MIN_SCORE = 0.33  # for names of arguments; that a function exists is known already


def choose(cache: SchemaCache, schema: str, name: str, arguments: Sequence[str], *, posted: bool) -> Routine:
    """Return the function with this name that takes exactly these arguments, defaults aside.

    Raises:
        ApiError: PGRST202 without such a function, PGRST203 with several.
    """
    known = cache.routines.get((schema, name), [])
    named = [routine for routine in known if _takes(routine, set(arguments))]
    whole = [routine for routine in known if posted and _takes_body(routine)]
    found = named or whole
    if not found:
        raise _unknown(cache, schema, name, sorted(arguments), posted=posted)
    if len(found) > 1:
        raise ambiguous_function(map(_signature, found))
    return found[0]


def call(
    routine: Routine,
    arguments: Mapping[str, str] | Payload,
    query: Query,
    rows: Rows,
    media: Media,
    *,
    counts: bool,
) -> Statement:
    """Call a function with arguments from the query string or from a JSON body."""
    sql = Sql(ident(routine.name), {})
    source = _from(sql, routine, arguments)
    column = "pgrst_call.pgrst_scalar" if routine.returns_value else "pgrst_call.*"
    where = sql.where(query.conditions)
    seen = f"FROM pgrst_source AS {sql.relation}{where}"
    shown = f"SELECT {sql.select(query.select)} {seen}{sql.order(query.order)}{sql.limit(rows)}"
    count = "pg_catalog.count(_postgrest_t)" if routine.returns_set else "1"
    apart = counts and not rows.everything
    counted = f", pgrst_source_count AS (SELECT 1 {seen})" if apart else ""
    total = "(SELECT pg_catalog.count(*) FROM pgrst_source_count)" if apart else count if counts else "null"
    row = "_postgrest_t.pgrst_scalar" if routine.returns_value else "_postgrest_t"
    body = json_of(row, media, single=not routine.returns_set)
    return Statement(
        f"WITH pgrst_source AS (SELECT {column} FROM {source}){counted}"
        f" {result(body, total=total, count=count)} FROM ({shown}) _postgrest_t",
        sql.parameters,
    )


def _from(sql: Sql, routine: Routine, arguments: Mapping[str, str] | Payload) -> str:
    if not isinstance(arguments, Payload):
        types = {one.name: one.type for one in routine.parameters}
        given = [f"{ident(name)} := {sql.value(text)}::{types[name]}" for name, text in arguments.items()]
        return _called(routine, ", ".join(given))
    if _takes_body(routine):
        return _called(routine, f"{sql.value(arguments.text)}::{routine.parameters[0].type}")
    chosen = [one for one in routine.parameters if one.name in arguments.keys]
    if not chosen:
        return _called(routine, "")
    each = "record" if arguments.is_object else "recordset"
    typed = ", ".join(f"{ident(one.name)} {one.type}" for one in chosen)
    names = ", ".join(ident(one.name) for one in chosen)
    given = [f"{ident(one.name)} := pgrst_body.{ident(one.name)}" for one in chosen]
    body = f"SELECT {names} FROM json_to_{each}({sql.value(arguments.text)}::json) AS _({typed}) LIMIT 1"
    return f"({body}) pgrst_body, LATERAL {_called(routine, ', '.join(given))}"


def _called(routine: Routine, given: str) -> str:
    function = f"{ident(routine.schema, routine.name)}({given})"
    return (
        f"(SELECT {function} pgrst_scalar) pgrst_call" if routine.returns_value else f"{function} pgrst_call"
    )


def _takes(routine: Routine, arguments: set[str]) -> bool:
    required = {one.name for one in routine.parameters if one.required}
    optional = {one.name for one in routine.parameters if not one.required}
    return arguments - optional == required


def _takes_body(routine: Routine) -> bool:
    return len(routine.parameters) == 1 and not routine.parameters[0].name


def _signature(routine: Routine) -> str:
    parameters = ", ".join(f"{one.name} => {one.type}" for one in routine.parameters)
    return f"{routine.schema}.{routine.name}({parameters})"


def _unknown(cache: SchemaCache, schema: str, name: str, arguments: list[str], *, posted: bool) -> Exception:
    known = cache.routines.get((schema, name), [])
    listed = ", ".join(arguments)
    plural = "s" if len(arguments) > 1 else ""
    called = f"({listed})" if arguments else " without parameters"
    searched = f" with parameter{plural} {listed}" if arguments else " without parameters"
    alternative = " or with a single unnamed json/jsonb parameter" if posted else ""
    if known:
        lists = [f"({', '.join(sorted(one.name for one in routine.parameters))})" for routine in known]
        similar = most_similar(f"({listed})", lists, min_score=_MIN_SCORE)
        meant = f"{name}{similar}" if similar else None
    else:
        meant = most_similar(name, [one for where, one in cache.routines if where == schema])
    return unknown_function(
        f"Could not find the function {schema}.{name}{called} in the schema cache",
        f"Searched for the function {schema}.{name}{searched}{alternative},"
        " but no matches were found in the schema cache.",
        f"Perhaps you meant to call the function {schema}.{meant}" if meant else None,
    )
