"""Images made for the tests with buildah, in a store of their own that later runs find again."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ROOT = Path(__file__).parents[2]
BASE = Path(__file__).parent / "base"
# What of the repo goes into the image; .dockerignore says the same to buildah.
CONTEXT = (
    "Dockerfile", ".dockerignore", "pyproject.toml", "README.md", "requirements/build.lock",
    "requirements/image.lock", "agent", "image", "supabase/migrations", "supabase/rollbacks",
)  # fmt: skip

SUITE, PYTHON = "bookworm", "3.11"
PACKAGES = "python3,python3-venv,ca-certificates"
THEIRS = "huggingface_hub==0.36.0"
TOOLS = ("buildah", "debootstrap")
LONGEST_S = 600

_OURS = "localhost/training-agent-tests"


def cannot() -> str | None:
    """Why no image can be built here, in a sentence that says what to do; None if it can."""
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing:
        return f"without {' and '.join(missing)} no image can be built: apt-get install {' '.join(TOOLS)}"
    if os.geteuid() != 0:
        return "only root can build the image: run the tests as root, or with --ignore=tests/image"
    return None


class Store:
    """Images by what they are made of; safe to be used by many processes at once.

    Args:
        folder: where everything is kept; may be removed when nobody tests.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._kept = folder, set[str]()
        folder.mkdir(parents=True, exist_ok=True)

    def buildah(self, *arguments: str | Path) -> str:
        """Run buildah on this store and return what it said; its own words are in the error."""
        done = subprocess.run(
            self.command(*arguments), capture_output=True, text=True, timeout=LONGEST_S, check=False
        )
        if done.returncode != 0:
            raise BuildError(f"buildah {' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}")
        return done.stdout.strip()

    def command(self, *arguments: str | Path) -> list[str]:
        """The command line of buildah on this store."""
        root, run = self._folder / "storage", Path("/run/training-agent-tests")
        return ["buildah", "--root", str(root), "--runroot", str(run), *map(str, arguments)]

    @cached_property
    def image(self) -> str:
        """The image of the Dockerfile as it is now, on the base."""
        base = self.base
        key = _key(base, *_contents(ROOT / name for name in CONTEXT))
        return self._made("image", key, lambda name: self.build(name, ROOT, BASE_IMAGE=base))

    @cached_property
    def base(self) -> str:
        """The image that ours is built on."""
        debian = self._made("debian", _key(SUITE, PACKAGES), self._bootstrap)
        key = _key(debian, self._wheels.name, *_contents([BASE]))
        return self._made("base", key, lambda name: self.build(name, BASE, BASE_IMAGE=debian))

    def build(self, name: str, context: Path, **arguments: str) -> None:
        """Build the Dockerfile of a folder; packages come from the wheels, as the base's pip is told."""
        given = [word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")]
        wheels = f"{self._wheels}:/wheels:ro"
        self.buildah("bud", "--isolation", "chroot", "--volume", wheels, *given, "--tag", name, context)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Keep what is in use; the last one to leave removes what no test asked for."""
        with (self._folder / "used").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            self._tidy()

    def _tidy(self) -> None:
        self.buildah("rm", "--all")
        for line in self.buildah("images", "--format", "{{.ID}} {{.Name}}:{{.Tag}}").splitlines():
            image, name = line.split()
            if name not in self._kept:
                self.buildah("rmi", "--force", image if "<none>" in name else name)
        for folder in [*self._folder.glob("wheels-*"), *self._folder.glob("partial-*")]:
            if folder != self._wheels:
                shutil.rmtree(folder)

    def _bootstrap(self, name: str) -> None:
        """Debian's smallest system with Python, from the machine's own mirror."""
        with tempfile.TemporaryDirectory(dir=self._folder, prefix="partial-") as folder:
            log = Path(folder) / "log"
            with log.open("w") as out:
                done = subprocess.run(
                    ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, f"{folder}/root"],
                    stdout=out, stderr=out, timeout=LONGEST_S, check=False,
                )  # fmt: skip
            if done.returncode != 0:
                raise BuildError(log.read_text()[-2000:])
            container = self.buildah("from", "scratch")
            self.buildah("add", container, f"{folder}/root", "/")
            self.buildah("commit", "--rm", container, name)

    @cached_property
    def _wheels(self) -> Path:
        """What the images install, fetched the way this machine's pip fetches everything."""
        locks = [ROOT / "requirements" / f"{name}.lock" for name in ("build", "image")]
        folder = self._folder / f"wheels-{_key(PYTHON, THEIRS, *_contents(locks))}"
        with self._making():
            if not folder.exists():
                partial = Path(tempfile.mkdtemp(dir=self._folder, prefix="partial-"))
                for wanted in (*[["--require-hashes", "-r", str(lock)] for lock in locks], [THEIRS]):
                    _download(partial, wanted)
                partial.chmod(0o755)
                partial.rename(folder)
        return folder

    def _made(self, kind: str, key: str, make: Callable[[str], None]) -> str:
        name = f"{_OURS}-{kind}:{key}"
        self._kept.add(name)
        with self._making():
            if not self._exists(name):
                make(name)
        return name

    def _exists(self, name: str) -> bool:
        return name in self.buildah("images", "--format", "{{.Name}}:{{.Tag}}").splitlines()

    @contextmanager
    def _making(self) -> Iterator[None]:
        with (self._folder / "making").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class BuildError(Exception):
    """What was to be made could not be; the message holds the tool's own words."""


def _download(folder: Path, wanted: list[str]) -> None:
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--only-binary", ":all:", "--python-version",
        PYTHON, "--dest", str(folder), *wanted,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S, check=False)
    if done.returncode != 0:
        raise BuildError(done.stderr)


def _contents(paths: Iterable[Path]) -> Iterator[str]:
    for top in paths:
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and "__pycache__" not in path.parts:
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                yield f"{path.relative_to(ROOT)}:{path.stat().st_mode}:{content}"


def _key(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
