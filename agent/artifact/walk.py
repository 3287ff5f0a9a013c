"""A folder read as if somebody hostile had filled it: no link is followed out, nothing is opened."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from agent.artifact import names
from agent.artifact.files import LocalFile
from agent.errors import ArtifactError
from agent.hashes import Stamp
from agent.patterns import Patterns
from agent.repo_paths import why_not

NO_PATTERNS = Patterns()


@dataclass(frozen=True)
class Selection:
    """What the user adds to and takes from the names that are published by default."""

    exclude: Patterns = NO_PATTERNS
    include: Patterns = NO_PATTERNS

    def reason_to_leave_out(self, path: str) -> str | None:
        """Say why a file stays behind, or None if it is published. Files for credentials always stay."""
        if names.holds_credentials(path):
            return "made to hold credentials"
        if self.exclude.match(path):
            return "excluded by AGENT_EXCLUDE"
        reason = names.reason_to_leave_out(path)
        return None if reason and self.include.match(path) else reason


EVERYTHING = Selection()


@dataclass
class Walk:
    """The files of a folder that may be published, and what stays behind with the reason."""

    files: list[LocalFile] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)


def walk(root: Path, selection: Selection, *, under: str = "") -> Walk:
    """List `root` to any depth, sorted by path.

    Args:
        root: the folder.
        selection: what of it may be published.
        under: where the folder will stand in the repo; patterns and names are judged with it.

    Raises:
        ArtifactError: a folder cannot be read, so that nobody knows what is missing.
    """
    found = Walk()
    inside = os.path.realpath(root)
    waiting = [(str(root), f"{under}/" if under else "")]
    while waiting:
        folder, prefix = waiting.pop()
        for entry in _entries(folder, prefix, selection, found):
            path = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                waiting.append((entry.path, f"{path}/"))
                continue
            reason = selection.reason_to_leave_out(path) or why_not(path)
            file = None if reason else _fit(entry, path, inside, selection)
            if isinstance(file, LocalFile):
                found.files.append(file)
            else:
                shown = path.encode(errors="replace").decode()
                found.left_out.append((shown, str(reason or file)))
    found.files.sort(key=lambda file: file.path)
    found.left_out.sort()
    return found


def _entries(folder: str, prefix: str, selection: Selection, found: Walk) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        shown = folder.encode(errors="replace").decode()
        reason = selection.reason_to_leave_out(f"{prefix}any file")
        if reason and not selection.include:
            found.left_out.append((prefix.encode(errors="replace").decode(), reason))
            return []
        raise ArtifactError(
            f"{shown} cannot be read: {error.strerror}.",
            hint="Nobody knows what it holds: run the agent as the training's user, or name the folder in "
            "AGENT_EXCLUDE.",
        ) from error


def _fit(entry: os.DirEntry[str], path: str, inside: str, selection: Selection) -> LocalFile | str:
    """The file, or why it is none that could be published."""
    try:
        if not entry.is_symlink():
            found = entry.stat(follow_symlinks=False)
        else:
            target = os.path.realpath(entry.path, strict=True)
            if os.path.commonpath((inside, target)) != inside:
                return "a link out of the folder"
            found = os.stat(target)  # noqa: PTH116 - a Path costs more than the call
            # Another name does not make training_args.bin fit to be seen; a link into a checkpoint is fine.
            hidden = selection.reason_to_leave_out(os.path.basename(target))  # noqa: PTH119 - same
            if hidden and stat.S_ISREG(found.st_mode):
                return f"a link to {os.path.basename(target)}: {hidden}"  # noqa: PTH119 - same
    except (OSError, ValueError):
        return "a broken link" if entry.is_symlink() else "it vanished while stock was taken"
    if not stat.S_ISREG(found.st_mode):
        return "not a regular file"
    return LocalFile(path, Path(entry.path), Stamp.from_stat(found))
