"""A Supabase project as its owner finds it, and its schema in words that can be compared."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self

import psycopg

from agent import migrations
from agent.sandbox.postgres import sql

if TYPE_CHECKING:
    from types import TracebackType

    from psycopg import Connection

    from agent.sandbox.postgres import Cluster

JOBS = "public.local_training_jobs"
STEPS = {step.name.partition("_")[2]: step for step in migrations.load()}

_NO_AUTOMATIC_GRANTS = "".join(
    f"alter default privileges for role project_owner in schema public revoke all on {kind}"
    " from anon, authenticated, service_role;"
    for kind in ("tables", "functions", "sequences")
)
_TABLE = sql("jobs_table"), sql("weak_policies")
BASES = {
    "shipped": (sql("roles"), *_TABLE),
    "shipped-without-automatic-grants": (sql("roles"), _NO_AUTOMATIC_GRANTS, *_TABLE),
    "empty": (sql("roles"),),
    "empty-without-automatic-grants": (sql("roles"), _NO_AUTOMATIC_GRANTS),
}

_RIGHTS = """
create function pg_temp.rights(acl aclitem[], kind "char", owner oid) returns text[]
language sql return array(
  select coalesce(r.rolname, 'public') || ': ' || string_agg(
    lower(a.privilege_type) || case when a.is_grantable then ' with grant option' else '' end, ', '
    order by a.privilege_type)
  from aclexplode(coalesce(acl, acldefault(kind, owner))) a left join pg_roles r on r.oid = a.grantee
  group by r.rolname order by 1)
"""

_DESCRIPTIONS = (
    """select 'schema ' || nspname, jsonb_build_object(
         'owner', nspowner::regrole, 'rights', pg_temp.rights(nspacl, 'n', nspowner))
       from pg_namespace where oid = any(%(schemas)s::oid[])""",
    """select 'relation ' || c.oid::regclass, jsonb_build_object(
         'kind', relkind, 'owner', relowner::regrole, 'row level security', relrowsecurity,
         'forced', relforcerowsecurity, 'replica identity', relreplident, 'options', reloptions,
         'rights', pg_temp.rights(relacl, case relkind when 'S' then 's'::"char" else 'r' end, relowner),
         'comment', obj_description(c.oid, 'pg_class'),
         'view', case when relkind in ('v', 'm') then pg_get_viewdef(c.oid) end)
       from pg_class c
       where relnamespace = any(%(schemas)s::oid[]) and relkind in ('r', 'p', 'v', 'm', 'S')""",
    """select 'column ' || attrelid::regclass || '.' || attname, jsonb_build_object(
         'type', format_type(atttypid, atttypmod), 'not null', attnotnull,
         'default', pg_get_expr(adbin, adrelid), 'identity', attidentity, 'generated', attgenerated,
         'rights', pg_temp.rights(attacl, 'c', relowner), 'comment', col_description(attrelid, attnum))
       from pg_attribute join pg_class c on c.oid = attrelid
         left join pg_attrdef on adrelid = attrelid and adnum = attnum
       where relnamespace = any(%(schemas)s::oid[]) and relkind in ('r', 'p')
         and attnum > 0 and not attisdropped""",
    """select 'constraint ' || conrelid::regclass || '.' || conname, jsonb_build_object(
         'says', pg_get_constraintdef(oid), 'validated', convalidated)
       from pg_constraint where connamespace = any(%(schemas)s::oid[]) and conrelid <> 0""",
    """select 'index ' || indexrelid::regclass, jsonb_build_object(
         'says', pg_get_indexdef(indexrelid), 'valid', indisvalid, 'ready', indisready,
         'replica identity', indisreplident)
       from pg_index join pg_class c on c.oid = indexrelid where relnamespace = any(%(schemas)s::oid[])""",
    """select 'trigger ' || tgrelid::regclass || '.' || tgname, jsonb_build_object(
         'says', pg_get_triggerdef(t.oid), 'enabled', tgenabled)
       from pg_trigger t join pg_class c on c.oid = tgrelid
       where relnamespace = any(%(schemas)s::oid[]) and not tgisinternal""",
    """select 'policy ' || polrelid::regclass || '.' || polname, jsonb_build_object(
         'permissive', polpermissive, 'for', polcmd, 'to', array(
           select case r when 0 then 'public' else r::regrole::text end from unnest(polroles) r order by 1),
         'using', pg_get_expr(polqual, polrelid), 'check', pg_get_expr(polwithcheck, polrelid),
         'comment', obj_description(p.oid, 'pg_policy'))
       from pg_policy p join pg_class c on c.oid = polrelid where relnamespace = any(%(schemas)s::oid[])""",
    """select 'function ' || oid::regprocedure, jsonb_build_object(
         'says', pg_get_functiondef(oid), 'owner', proowner::regrole,
         'rights', pg_temp.rights(proacl, 'f', proowner), 'comment', obj_description(oid, 'pg_proc'))
       from pg_proc where pronamespace = any(%(schemas)s::oid[]) and prokind in ('f', 'p')""",
    """select 'publication ' || pubname, jsonb_build_object(
         'owner', pubowner::regrole, 'all tables', puballtables,
         'does', array[pubinsert, pubupdate, pubdelete, pubtruncate],
         'tables', array(
           select prrelid::regclass || coalesce(' where ' || pg_get_expr(prqual, prrelid), '')
             || coalesce(' columns ' || prattrs::text, '')
           from pg_publication_rel where prpubid = p.oid order by 1))
       from pg_publication p""",
    """select 'default rights ' || defaclrole::regrole || ' ' || defaclobjtype::text, jsonb_build_object(
         'schema', defaclnamespace::regnamespace,
         'rights', pg_temp.rights(defaclacl, defaclobjtype, defaclrole))
       from pg_default_acl where defaclnamespace = any(%(schemas)s::oid[])""",
)


class Project:
    """A database made of SQL texts, with a session of its owner and one of a superuser, inside `with`.

    Args:
        cluster: the server to make it on.
        name: of the texts; the same name means the same texts.
        scripts: what was there before any migration; a superuser runs them.
    """

    def __init__(self, cluster: Cluster, name: str, *scripts: str) -> None:
        self._cluster = cluster
        self._template = cluster.template(f"project {name}", *scripts)

    def __enter__(self) -> Self:
        self.database = self._cluster.create_database(self._template)
        self.root = self.connect("postgres")
        self.root.execute(f"grant create on database {self.database} to project_owner".encode())
        self.owner = self.connect()
        self.warnings: list[str] = []
        self.owner.add_notice_handler(
            lambda said: self.warnings.append(said.message_primary) if said.severity == "WARNING" else None
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.owner.close()
        self.root.close()
        self._cluster.drop_database(self.database)

    def connect(self, user: str = "project_owner") -> Connection[tuple[Any, ...]]:
        """Open one more session, in which every statement is a transaction."""
        return psycopg.connect(self._cluster.dsn(self.database, user), autocommit=True)

    def up(self, *steps: str) -> None:
        """Run migrations as a SQL editor does, each file as one query."""
        for step in steps:
            self.owner.execute(STEPS[step].sql.encode())

    def down(self, *steps: str) -> None:
        """Run the rollbacks of migrations."""
        for step in steps:
            self.owner.execute(STEPS[step].rollback.encode())

    def ask(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one statement past all rights and triggers, and return its rows."""
        with self.root.transaction():
            self.root.execute("set local session_replication_role = replica")
            cursor = self.root.execute(query.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def ask_as(self, role: str, query: str, /, *, token: str = "", **claims: str) -> list[tuple[Any, ...]]:
        """Run one statement as the API does for a role, with a pod's token or the claims of a user."""
        with self.connect("authenticator") as api, api.transaction():
            sent = {"request.headers": {"x-job-token": token}, "request.jwt.claims": claims}
            for name, value in sent.items():
                api.execute("select set_config(%s, %s, true)", [name, json.dumps(value)])
            api.execute(f"set local role {role}".encode())
            return api.execute(query.encode()).fetchall()

    def rows(self, table: str = JOBS) -> dict[str, dict[str, Any]]:
        """All rows by their first column, each by the names of its columns."""
        rows = [row for (row,) in self.ask(f"select row_to_json(t) from {table} t")]
        return {str(next(iter(row.values()))): row for row in rows}

    def has(self, table: str) -> bool:
        """Whether there is a table of that name."""
        return self.ask("select to_regclass(%s)", table) != [(None,)]

    def in_force(self) -> set[str]:
        """The migrations that are in force, as the database tells a pod."""
        told = dict(self.ask_as("anon", "select version, applied from public.agent_migrations()"))
        assert list(told) == [step.version for step in STEPS.values()]
        return {name for name, step in STEPS.items() if told[step.version]}

    def describe(self, *schemas: str) -> dict[str, dict[str, Any]]:
        """What the catalog says of publications and of everything in some schemas: public and private.

        Columns have names and no places; rights are those in effect, whichever way they are written.
        """
        described: dict[str, dict[str, Any]] = {}
        with self.root.transaction(force_rollback=True):
            self.root.execute("set local search_path = ''")  # so that every name is told with its schema
            self.root.execute(_RIGHTS)
            there = "select oid from pg_namespace where nspname = any(%s)"
            found = self.root.execute(there, [list(schemas or ("public", "private"))]).fetchall()
            for query in _DESCRIPTIONS:
                cursor = self.root.execute(query.encode(), {"schemas": [oid for (oid,) in found]})
                described |= dict(cursor.fetchall())
        return described
