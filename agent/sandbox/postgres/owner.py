"""Whom a server belongs to, and a folder for it: PostgreSQL refuses to be root's."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from agent.sandbox.postgres.binaries import PostgresError

SOCKET = ".s.PGSQL.5432"
_SOCKET_BYTES = 107  # what the address of a unix socket holds
_UNPRIVILEGED = ("nobody", "postgres")  # the first has no files of its own to lose
_MEMORY = Path("/dev/shm")  # noqa: S108 - mkdtemp makes a folder of our own in it
_MEMORY_BYTES = 2**30  # some 8 MB a database; a container's usual 64 MB are too few
_SHORT = "/tmp"  # noqa: S108 - as above


@dataclass(frozen=True)
class Owner:
    """An account of this machine; None is the one that we run as."""

    uid: int | None = None
    gid: int | None = None

    @classmethod
    def choose(cls) -> Self:
        """Choose ourselves, or an unprivileged user if we are root.

        Raises:
            PostgresError: we are root and there is nobody else.
        """
        if os.geteuid() != 0:
            return cls()
        for name in _UNPRIVILEGED:
            with contextlib.suppress(KeyError, OSError):  # no such user; a namespace that does not map it
                account = pwd.getpwnam(name)
                owner = cls(account.pw_uid, account.pw_gid)
                if owner.may("-d", Path("/")):
                    return owner
        raise PostgresError(
            f"PostgreSQL refuses to run as root, and no user {' or '.join(_UNPRIVILEGED)} is usable"
        )

    def process(self) -> dict[str, Any]:
        """Arguments with which `subprocess` starts a program as this account."""
        return {} if self.uid is None else {"user": self.uid, "group": self.gid, "extra_groups": []}

    def may(self, test: str, path: Path) -> bool:
        """Ask as this account: -x, -w and the like of test(1)."""
        asked = ["/bin/sh", "-c", 'test "$1" "$2"', "sh", test, str(path)]
        return subprocess.run(asked, cwd="/", check=False, **self.process()).returncode == 0  # noqa: S603 - test(1)

    def take(self, folder: Path) -> None:
        """Hand over a folder that we made, with everything in it."""
        if self.uid is not None and self.gid is not None:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def make_folder(self, *, executable: bool) -> Path:
        """Make a folder that only this account enters, short enough a path for a socket.

        Args:
            executable: programs will be put there, which a container's memory file system does not run.
        """
        for place in _places(memory=not executable):
            folder = Path(tempfile.mkdtemp(prefix="postgres-", dir=place))
            self.take(folder)
            if len(os.fsencode(folder / SOCKET)) <= _SOCKET_BYTES and self.may("-w", folder):
                return folder
            folder.rmdir()
        raise PostgresError(f"neither {tempfile.gettempdir()} nor {_SHORT} has a place for PostgreSQL")


def _places(*, memory: bool) -> Iterator[str]:
    # A database is some 300 files. A disk's file system that has just deleted many needs up to 0.3 s to make
    # them, memory always 0.02 s. Whoever sets TMPDIR has decided.
    memory = memory and "TMPDIR" not in os.environ and os.access(_MEMORY, os.W_OK)
    if memory and shutil.disk_usage(_MEMORY).free > _MEMORY_BYTES:
        yield str(_MEMORY)
    yield tempfile.gettempdir()
    yield _SHORT
