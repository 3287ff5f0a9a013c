"""One PostgreSQL server in a folder of its own, heard only on a socket in that folder."""

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from agent.sandbox.postgres import binaries as programs
from agent.sandbox.postgres.binaries import PostgresError
from agent.sandbox.postgres.owner import SOCKET, Owner

if TYPE_CHECKING:
    from psycopg import Connection

_READY_S = 20.0
_POLL_S = 0.02
_SHUTDOWN_S = 10.0
_LOG_LINES = 12
_FILE_COPY_SINCE = 15

_SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "dynamic_shared_memory_type": "mmap",  # in its folder: a killed server leaves nothing elsewhere
    "max_connections": "100",
    "shared_buffers": "16MB",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",  # a template that it works on cannot be copied
    "timezone": "UTC",
    "log_timezone": "UTC",
}

# The watcher comes first. It reads a pipe that only the parent holds open: a line says that the parent closes
# the server itself, an end without a line that the parent died, however it died. Its target is the server's
# process group, which an initdb under way belongs to as well; it outlives its own signal to clean up. That
# takes a second, because an initdb that has just begun makes its folder before it heeds the signal.
# PR_SET_PDEATHSIG would be shorter, but fires when the thread that started the server ends.
_SCRIPT = """
folder=$1 bin=$2; shift 2
exec 3<&0 </dev/null
( (
    trap '' HUP INT QUIT TERM
    read -r _ <&3 && exit
    kill -s QUIT -- -$$
    n=0 gone=0
    until [ $gone -ge 20 ] || [ $((n += 1)) -gt 200 ]; do
        if rm -rf "$folder"; then gone=$((gone + 1)); else gone=0; fi
        sleep 0.05
    done
) & )
exec 3<&-
trap 'exit 1' INT QUIT  # which waits for initdb to end
"$bin/initdb" --pgdata="$folder/data" --username=postgres --auth=trust --encoding=UTF8 --locale=C \\
    --no-sync --no-instructions --wal-segsize=1 &&
exec "$bin/postgres" -D "$folder/data" -k "$folder" "$@"
"""


class Cluster:
    """A PostgreSQL server running between `start` and `close` or inside `with`.

    It ends with this process, also when that is killed. As root, whom PostgreSQL refuses, it belongs to
    an unprivileged user.

    Args:
        binaries: the folder of `postgres` and `initdb`; None takes a system PostgreSQL, else the wheel's.

    Attributes:
        version: like "15.18".

    Raises:
        PostgresError: there is no PostgreSQL on this machine.
    """

    def __init__(self, *, binaries: Path | None = None) -> None:
        self._binaries = binaries or programs.find()
        self.version = programs.version(self._binaries)
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._templates: set[str] = set()
        self._templates_lock = threading.Lock()

    def start(self) -> Self:
        """Make the data and run the server; returns once it answers.

        Raises:
            PostgresError: it ended or does not answer in time, with what it said last.
        """
        owner = Owner.choose()
        reachable = owner.may("-x", self._binaries / "postgres")
        self._folder = folder = owner.make_folder(executable=not reachable)
        try:
            binaries = self._binaries
            if not reachable:  # a virtual environment in root's home, say
                binaries = programs.copy(binaries, folder / "copy")
                owner.take(folder / "copy")
            settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
            with (folder / "log").open("xb") as log:  # never through a link: the folder is no longer ours
                self._process = process = subprocess.Popen(  # noqa: S603 - found or given
                    ["/bin/sh", "-c", _SCRIPT, "sh", folder, binaries, *settings],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    cwd=folder,
                    env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
                    start_new_session=True,  # a Ctrl-C is ours; the server is still there to be asked
                    **owner.process(),
                )
            self._wait_until_it_answers(process, folder)
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Stop the server, ending what is under way, and remove its data."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGINT)  # a fast shutdown
            try:
                process.communicate(b"closing\n", timeout=_SHUTDOWN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        self._templates.clear()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def template(self, name: str, *scripts: str) -> str:
        """Make the database `name` by running SQL texts as superuser; a second call returns at once."""
        with self._templates_lock:
            if name not in self._templates:
                self._admin("create database {}", name)
                try:
                    with self._connect(name) as connection:
                        for script in scripts:
                            connection.execute(script.encode())
                except BaseException:
                    self.drop_database(name)
                    raise
                self._templates.add(name)
        return name

    def create_database(self, template: str | None = None) -> str:
        """Make a database with a name of its own, empty or a copy of `template`; returns the name."""
        name = f"db_{next(self._numbers)}"
        by = " strategy file_copy" if programs.major(self.version) >= _FILE_COPY_SINCE else ""
        self._admin("create database {} template {}" + by, name, template or "template1")
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database, ending its sessions."""
        self._admin("drop database {} with (force)", name)

    def dsn(self, database: str, user: str = "postgres") -> str:
        """Say how psycopg connects to a database as a role."""
        from psycopg.conninfo import make_conninfo

        if self._folder is None:
            raise PostgresError("PostgreSQL is not running: call start(), or use the cluster inside `with`")
        return make_conninfo(host=str(self._folder), port=5432, dbname=database, user=user)

    def _connect(self, database: str) -> "Connection":
        import psycopg

        return psycopg.connect(self.dsn(database), autocommit=True)

    def _admin(self, statement: str, *names: str) -> None:
        from psycopg.sql import SQL, Identifier

        with self._connect("postgres") as connection:
            connection.execute(SQL(statement).format(*map(Identifier, names)))

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        import psycopg

        deadline = time.monotonic() + _READY_S
        while process.poll() is None:
            if (folder / SOCKET).exists():
                with contextlib.suppress(psycopg.OperationalError):
                    self._connect("postgres").close()
                    return
            if time.monotonic() > deadline:
                raise PostgresError(
                    f"PostgreSQL {self.version} does not answer:\n{_last_lines(folder / 'log')}"
                )
            time.sleep(_POLL_S)
        raise PostgresError(f"PostgreSQL {self.version} does not start:\n{_last_lines(folder / 'log')}")


def _last_lines(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:])
