"""The output folder, read without changing it: what makes the model, and what stays behind."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agent.artifact import names
from agent.artifact.choice import choose
from agent.artifact.extras import choose_extras
from agent.artifact.files import why_no_folder
from agent.artifact.placements import one_file_a_path, place
from agent.artifact.walk import EVERYTHING, Selection
from agent.errors import ArtifactError
from agent.hashes import Stamp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.artifact.files import LocalFile
    from agent.artifact.findings import Finding
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
    what = why_no_folder(output_dir)
    if what:
        raise ArtifactError(
            f"The output folder {output_dir} {what}.",
            hint="Set OUTPUT_DIR (or --output-dir) to the folder the training saved its model in.",
        )
    chosen = choose(output_dir, wanted.selection, wanted.checkpoint)
    files, left_out = chosen.walk.files, chosen.walk.left_out
    for placement in wanted.placements:
        placed = place(placement, wanted.selection)
        files, left_out = files + placed.files, left_out + placed.left_out
    one_file_a_path(files)
    extras = choose_extras(files, wanted.reports, wanted.samples, wanted.selection)
    files, left_out = files + extras.added, left_out + extras.left_out
    files.sort(key=lambda file: file.path)
    return Inventory(
        chosen.root,
        tuple(files),
        tuple(left_out),
        names.kind_of([file.path for file in chosen.walk.files]),
        (*chosen.remarks, *extras.remarks),
        of_run=chosen.of_run,
        reports=tuple(extras.reports),
        samples=tuple(extras.samples),
    )


def _still(file: LocalFile) -> bool:
    try:
        return Stamp.of(file.source) == file.stamp
    except OSError:
        return False
