"""The output folder, read without changing it: what makes the model, and what stays behind."""

from __future__ import annotations

import stat
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agent.artifact import names
from agent.artifact.choice import choose
from agent.artifact.files import LocalFile
from agent.artifact.findings import Finding
from agent.artifact.samples import choose_samples
from agent.artifact.walk import EVERYTHING, Selection, Walk, walk
from agent.errors import ArtifactError
from agent.hashes import Stamp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.repo_paths import Placement


@dataclass(frozen=True)
class Wanted:
    """What the user said about which files to publish."""

    selection: Selection = EVERYTHING
    checkpoint: Literal["last", "best"] = "last"
    placements: tuple[Placement, ...] = ()
    reports: tuple[Placement, ...] = ()
    samples: Path | None = None


ALL_OF_IT = Wanted()


@dataclass(frozen=True)
class Inventory:
    """What one output folder holds.

    `kind` is one of `names.kind_of`; `left_out` pairs each path with the reason; `remarks` tell what was
    passed over; `of_run` says that `root` is a checkpoint picked from the output folder. `reports` and
    `samples` are those of the files that were added for the card.
    """

    root: Path
    files: tuple[LocalFile, ...]
    left_out: tuple[tuple[str, str], ...]
    kind: str
    remarks: tuple[Finding, ...] = ()
    of_run: bool = False
    reports: tuple[LocalFile, ...] = ()
    samples: tuple[LocalFile, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Bytes of all files to publish."""
        return sum(file.size_bytes for file in self.files)

    @property
    def newest_weights(self) -> LocalFile | None:
        """The weights that were written last; what AGENT_FILES adds from elsewhere does not count."""
        weights = (
            one for one in self.files if names.is_weights(one.path) and self.root in one.source.parents
        )
        return max(weights, key=lambda file: file.stamp.mtime_ns, default=None)

    @property
    def weights_ns(self) -> int:
        """When the newest weights were written; 0 without any."""
        return self.newest_weights.stamp.mtime_ns if self.newest_weights else 0

    def get(self, path: str) -> LocalFile | None:
        """The file that will stand at `path`, if there is one."""
        return next((file for file in self.files if file.path == path), None)

    def changed(self) -> list[str]:
        """Paths whose files are no longer as they were when stock was taken."""
        return [file.path for file in self.files if not _still(file)]

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Around every reading of these files: afterwards they are still what stock was taken of.

        Raises:
            ArtifactError: a file cannot be read, or changed meanwhile.
        """
        try:
            yield
        except OSError as error:
            raise ArtifactError(
                f"{error.filename or self.root} cannot be read: {error.strerror or error}.",
                hint="Nothing was published. Check the disk and the file's rights, then run again.",
            ) from error
        changed = self.changed()
        if changed:
            raise ArtifactError(
                f"{', '.join(changed)} in {self.root} changed while being read; nothing was published.",
                hint="Wait until the training has ended, then run again.",
            )


def take_stock(output_dir: Path, wanted: Wanted = ALL_OF_IT) -> Inventory:
    """Decide what makes the model; the rule for the folder is `choice`'s.

    Raises:
        ArtifactError: the folder is missing, unreadable, or holds no weights to publish; a source of
            AGENT_FILES is missing, or two files would stand at one path.
    """
    try:
        what = None if output_dir.is_dir() else "is not a folder" if output_dir.exists() else "does not exist"
    except OSError as error:
        what = f"cannot be entered: {error.strerror}"
    if what:
        raise ArtifactError(
            f"The output folder {output_dir} {what}.",
            hint="Set OUTPUT_DIR (or --output-dir) to the folder the training saved its model in.",
        )
    chosen = choose(output_dir, wanted.selection, wanted.checkpoint)
    files, left_out = chosen.walk.files, chosen.walk.left_out
    for placement in wanted.placements:
        placed = _placed(placement, wanted.selection)
        files, left_out = files + placed.files, left_out + placed.left_out
    reports, samples, remarks = _for_the_card(wanted)
    files, left_out = files + reports + samples.files, left_out + samples.left_out
    files.sort(key=lambda file: file.path)
    _one_file_a_path(files)
    return Inventory(
        chosen.root,
        tuple(files),
        tuple(left_out),
        names.kind_of([file.path for file in chosen.walk.files]),
        (*chosen.remarks, *remarks),
        of_run=chosen.of_run,
        reports=tuple(reports),
        samples=tuple(samples.files),
    )


def _for_the_card(wanted: Wanted) -> tuple[list[LocalFile], Walk, list[Finding]]:
    """Reports and samples; what is not there is told, and keeps no model from being published."""
    reports: list[LocalFile] = []
    samples, missing = Walk(), []
    for placement in wanted.reports:
        try:
            reports += _report(placement, wanted.selection).files
        except ArtifactError as error:
            missing.append(
                Finding(placement.dest, "no-report", f"is missing: {error.message}", "", refuses=False)
            )
    if wanted.samples:
        try:
            samples = choose_samples(wanted.samples, wanted.selection)
        except ArtifactError as error:
            missing.append(
                Finding("samples/", "no-samples", f"is missing: {error.message}", "", refuses=False)
            )
    return reports, samples, missing


def _report(placement: Placement, selection: Selection) -> Walk:
    named_in = f"{placement.dest.split('/')[0].removesuffix('s').upper()}_REPORT"
    if placement.source.is_dir():
        raise ArtifactError(
            f"{placement.source}, in {named_in}, is a folder.", hint="Name the JSON file in it."
        )
    return _placed(placement, selection, named_in)


def _placed(placement: Placement, selection: Selection, named_in: str = "AGENT_FILES") -> Walk:
    """The files of one entry of AGENT_FILES. A file that is named there is meant, a folder is filtered."""
    source, dest = placement.source, placement.dest
    if source.is_dir():
        return walk(source, selection, under=dest)
    try:
        found = source.stat()
    except OSError as error:
        raise ArtifactError(
            f"{source}, a source in {named_in}, cannot be read: {error.strerror}.",
            hint="Name files and folders that exist when the training has ended.",
        ) from error
    named = (source.name, source.resolve().name, dest)
    if not stat.S_ISREG(found.st_mode) or any(map(names.holds_credentials, named)):
        raise ArtifactError(
            f"{source}, a source in {named_in}, is no file that may be published.",
            hint="Regular files only, and none that is made to hold credentials.",
        )
    return Walk([LocalFile(dest, source, Stamp.from_stat(found))])


def _one_file_a_path(files: list[LocalFile]) -> None:
    by_path: dict[str, LocalFile] = {}
    for file in files:
        other = by_path.setdefault(file.path, file)
        if other is not file:
            raise ArtifactError(
                f"{other.source} and {file.source} would both stand at {file.path}.",
                hint="Choose another destination in AGENT_FILES.",
            )
    for path in by_path:
        folders = path.split("/")[:-1]
        for depth in range(1, len(folders) + 1):
            if "/".join(folders[:depth]) in by_path:
                raise ArtifactError(
                    f"{'/'.join(folders[:depth])} would be a file and the folder of {path}.",
                    hint="Choose another destination in AGENT_FILES.",
                )


def _still(file: LocalFile) -> bool:
    try:
        return Stamp.of(file.source) == file.stamp
    except OSError:
        return False
