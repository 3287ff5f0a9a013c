"""The schema cache: what PostgREST knows of the database between two reloads."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.sandbox.rest.errors import unknown_column, unknown_table
from agent.sandbox.rest.similar import most_similar


@dataclass(frozen=True)
class Column:
    """A column's type as PostgreSQL writes it, and the expression of its default."""

    type: str
    default: str | None


@dataclass(frozen=True)
class Table:
    """A table, view or foreign table."""

    schema: str
    name: str
    columns: Mapping[str, Column]
    primary_key: tuple[str, ...]

    def types(self, names: tuple[str, ...]) -> dict[str, str]:
        """Return the types of columns.

        Raises:
            ApiError: PGRST204 for the first one that does not exist.
        """
        for name in names:
            if name not in self.columns:
                raise unknown_column(self.name, name)
        return {name: self.columns[name].type for name in names}


@dataclass(frozen=True)
class Parameter:
    """A parameter of a function; `name` is empty for the unnamed one."""

    name: str
    type: str
    required: bool


@dataclass(frozen=True)
class Routine:
    """A function; `settings` are those of its SET clauses that hold for the whole transaction."""

    schema: str
    name: str
    parameters: tuple[Parameter, ...]
    returns_set: bool
    returns_row: bool
    returns_void: bool
    volatile: bool
    settings: Mapping[str, str]

    @property
    def returns_value(self) -> bool:
        """Whether it returns bare values instead of rows."""
        return not self.returns_row


@dataclass(frozen=True)
class SchemaCache:
    """All exposed tables and functions, and the settings of the roles that may be taken on."""

    tables: Mapping[tuple[str, str], Table]
    routines: Mapping[tuple[str, str], list[Routine]]
    role_settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def table(self, schema: str, name: str) -> Table:
        """Return a table.

        Raises:
            ApiError: PGRST205, with the most similar name.
        """
        found = self.tables.get((schema, name))
        if found is None:
            names = [table for where, table in self.tables if where == schema]
            raise unknown_table(schema, name, most_similar(name, names))
        return found
