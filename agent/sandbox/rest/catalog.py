"""Reading the schema cache from pg_catalog.

information_schema would hide whatever the login role has no right to, and the login role has none.
"""

from collections.abc import Sequence
from typing import Any

from psycopg import AsyncConnection

from agent.sandbox.rest.schema import Column, Parameter, Routine, SchemaCache, Table
from agent.sandbox.rest.sql import ident

# With an empty search_path PostgreSQL writes every type that is not its own with its schema.
_PLAIN = "select set_config('search_path', '', true)"

_TABLES = """
select n.nspname, c.relname,
  (select array_agg(a.attname::text order by a.attname)
     from pg_constraint k join pg_attribute a on a.attrelid = k.conrelid and a.attnum = any (k.conkey)
    where k.conrelid = c.oid and k.contype = 'p'),
  (select json_agg(json_build_array(a.attname, format_type(a.atttypid, a.atttypmod), case
            when a.attgenerated = 's' then null
            when a.attidentity = 'd' then
              format('nextval(%L)', pg_get_serial_sequence(c.oid::regclass::text, a.attname))
            when d.adbin is null then pg_get_expr(t.typdefaultbin, 0)
            else pg_get_expr(d.adbin, d.adrelid) end) order by a.attnum)
     from pg_attribute a join pg_type t on t.oid = a.atttypid
     left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition and n.oid = any ($1::regnamespace[])
"""

# A function is callable if its parameters have names, or if its only one takes the whole JSON body.
_ROUTINES = """
select n.nspname, p.proname, coalesce(a.parameters, '[]'), p.proretset,
  t.typtype = 'c' or coalesce(p.proargmodes::text[] && '{t,b,o}', false),
  p.prorettype = 'void'::regtype, p.provolatile = 'v', coalesce(p.proconfig, '{}')
from pg_proc p join pg_namespace n on n.oid = p.pronamespace join pg_type t on t.oid = p.prorettype
cross join lateral (
  select json_agg(json_build_array(coalesce(u.name, ''), format_type(u.type, null),
                                    i <= p.pronargs - p.pronargdefaults) order by i) as parameters,
         count(*) filter (where coalesce(u.name, '') = '') as unnamed, count(*) as total,
         bool_and(u.type in ('json'::regtype, 'jsonb'::regtype)) as json
    from (select type, name, row_number() over (order by place) as i
            from unnest(coalesce(p.proallargtypes, p.proargtypes::oid[]), p.proargnames, p.proargmodes)
                 with ordinality as _ (type, name, mode, place)
           where coalesce(mode, 'i') in ('i', 'b')) u) a
where p.prokind = 'f' and p.prorettype <> 'trigger'::regtype and p.provariadic = 0
  and n.oid = any ($1::regnamespace[]) and (a.unnamed = 0 or (a.total = 1 and a.json))
order by p.pronargs, pg_get_function_identity_arguments(p.oid)
"""

# SET ROLE alone would not apply them; what the login role may not set is left out.
_ROLE_SETTINGS = """
select r.rolname, s.setting
from pg_auth_members m join pg_roles r on r.oid = m.roleid cross join unnest(r.rolconfig) as s (setting)
join pg_settings g on g.name = split_part(s.setting, '=', 1)
where m.member = quote_ident(current_user)::regrole and (g.context = 'user'{granted})
"""
_GRANTED = " or has_parameter_privilege(quote_ident(current_user)::regrole, g.name, 'set')"
_GRANTS_SINCE = 150000

# The SET clauses of a function that are worth nothing once its statement has begun.
_HOISTED = {"statement_timeout", "default_transaction_isolation"}
# Without a length these two cut every value to one character.
_WIDENED = {"character": "character varying", "bit": "bit varying"}


async def read_schema_cache(connection: AsyncConnection[Any], schemas: Sequence[str]) -> SchemaCache:
    """Read everything that requests are planned with.

    Raises:
        psycopg.Error: above all, if a schema does not exist.
    """
    exposed = [[ident(schema) for schema in schemas]]
    granted = _GRANTED if connection.info.server_version >= _GRANTS_SINCE else ""
    async with connection.transaction():
        await connection.execute(_PLAIN)
        tables = await (await connection.execute(_TABLES, exposed)).fetchall()
        routines = await (await connection.execute(_ROUTINES, exposed)).fetchall()
        settings = await (
            await connection.execute(_ROLE_SETTINGS.format(granted=granted).encode())
        ).fetchall()
    by_name: dict[tuple[str, str], list[Routine]] = {}
    for row in routines:
        by_name.setdefault((row[0], row[1]), []).append(_routine(*row))
    by_role: dict[str, dict[str, str]] = {}
    for role, setting in settings:
        by_role.setdefault(role, {}).update([_setting(setting)])
    return SchemaCache({(row[0], row[1]): _table(*row) for row in tables}, by_name, by_role)


def _table(schema: str, name: str, key: list[str] | None, columns: list[Any] | None) -> Table:
    described = {column: Column(kind, default) for column, kind, default in columns or ()}
    return Table(schema, name, described, tuple(key or ()))


def _routine(  # noqa: PLR0917 - the columns of the query above
    schema: str,
    name: str,
    parameters: list[Any],
    returns_set: bool,  # noqa: FBT001 - likewise
    returns_row: bool,  # noqa: FBT001 - likewise
    returns_void: bool,  # noqa: FBT001 - likewise
    volatile: bool,  # noqa: FBT001 - likewise
    config: list[str],
) -> Routine:
    settings = dict(map(_setting, config))
    return Routine(
        schema=schema,
        name=name,
        parameters=tuple(Parameter(of, _WIDENED.get(kind, kind), needed) for of, kind, needed in parameters),
        returns_set=returns_set,
        returns_row=returns_row,
        returns_void=returns_void,
        volatile=volatile,
        settings={key: value for key, value in settings.items() if key in _HOISTED},
    )


def _setting(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value
