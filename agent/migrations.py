"""The SQL that a job database needs: migrations in Supabase's own order, each with the way back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Migration:
    """One step of the job database; `name` is that of its file, `without` says what is missing before it."""

    version: str
    name: str
    title: str
    without: str
    sql: str
    rollback: str


def load() -> list[Migration]:
    """Read all migrations, oldest first."""
    folder = _folder()
    return [
        _read(path, folder / "rollbacks" / path.name)
        for path in sorted((folder / "migrations").glob("*.sql"))
    ]


def _folder() -> Path:
    """Where the files are: inside the package once it is installed, beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "supabase"
    return installed if installed.is_dir() else package.parent / "supabase"


def _read(path: Path, rollback: Path) -> Migration:
    sql = path.read_text(encoding="utf-8")
    title, without = (line.removeprefix("-- ") for line in sql.splitlines()[:2])
    return Migration(
        version=path.name.partition("_")[0],
        name=path.stem,
        title=title,
        without=without.removeprefix("Without it: "),
        sql=sql,
        rollback=rollback.read_text(encoding="utf-8"),
    )
