"""Files that the user put at paths of the repo by name, and that no two stand at one path."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from agent.artifact import names
from agent.artifact.files import LocalFile
from agent.artifact.walk import Selection, Walk, walk
from agent.errors import ArtifactError
from agent.hashes import Stamp

if TYPE_CHECKING:
    from agent.repo_paths import Placement


def place(placement: Placement, selection: Selection, named_in: str = "AGENT_FILES") -> Walk:
    """The files of one entry of a variable. A file that is named there is meant, a folder is filtered.

    Raises:
        ArtifactError: the source cannot be read, or is no file that may be published.
    """
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


def one_file_a_path(files: list[LocalFile]) -> None:
    """Return if every file can stand where it is meant to.

    Raises:
        ArtifactError: two would stand at one path, or one where another needs a folder.
    """
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
