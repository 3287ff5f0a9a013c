"""The output folder, read without changing it: what makes the model, and what stays behind."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.artifact import names
from agent.artifact.files import LocalFile
from agent.errors import ArtifactError
from agent.hashes import Stamp
from agent.parse import parse_json

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Inventory:
    """What one output folder holds.

    `kind` is `adapter`, `sharded` or `full`; `left_out` pairs each path with the reason.
    """

    root: Path
    files: tuple[LocalFile, ...]
    left_out: tuple[tuple[str, str], ...]
    kind: str

    @property
    def size_bytes(self) -> int:
        """Bytes of all files to publish."""
        return sum(file.size_bytes for file in self.files)

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


def take_stock(output_dir: Path) -> Inventory:
    """Decide what of `output_dir` makes the model; a whole `merged_model/` in it comes first.

    Raises:
        ArtifactError: the folder is missing, unreadable, or holds no weights to publish.
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
    merged = output_dir / "merged_model"
    root = merged if merged.is_dir() and _whole_model(merged) else output_dir
    files, left_out = _walk(root)
    if root == output_dir and merged.is_dir():
        left_out += [(file.path, "merged_model/ is not whole") for file in files if _under_merged(file)]
        files = [file for file in files if not _under_merged(file)]
    weights = [file for file in files if names.is_weights(file.path)]
    if not weights:
        raise ArtifactError(f"No model weights to publish in {root}.", hint=_where_weights_are(left_out))
    empty = [file.path for file in weights if file.size_bytes == 0]
    if empty:
        raise ArtifactError(
            f"{empty[0]} in {root} is empty.",
            hint="The training did not finish writing it; save the model again (was the disk full?).",
        )
    missing = [shard for shard in _shards(root, files) if shard not in {file.path for file in files}]
    if missing:
        raise ArtifactError(
            f"{missing[0]} is missing in {root}, though the index of the shards names it.",
            hint="The model is not whole; save it again (was the disk full, or a shard moved?).",
        )
    return Inventory(root, tuple(files), tuple(left_out), _kind(files))


def _under_merged(file: LocalFile) -> bool:
    return file.path.startswith("merged_model/")


def _kind(files: list[LocalFile]) -> str:
    paths = {file.path for file in files}
    if "adapter_config.json" in paths:
        return "adapter"
    return "sharded" if any(names.is_index(path) for path in paths) else "full"


def _shards(root: Path, files: list[LocalFile]) -> list[str]:
    """The shards that the indexes in the root name.

    Raises:
        ArtifactError: an index cannot be read.
    """
    found = []
    for file in files:
        if names.is_index(file.path) and "/" not in file.path:
            shards = _named_by(file.source)
            if shards is None:
                raise ArtifactError(
                    f"{file.path} in {root} names no shards.",
                    hint="The index is damaged; save the model again.",
                )
            found += shards
    return found


def _named_by(index: Path) -> list[str] | None:
    """The shards an index names; None if it is damaged."""
    try:
        shards = set(parse_json(index.read_bytes())["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    return sorted(shards) if shards and all(isinstance(name, str) for name in shards) else None


def _whole_model(folder: Path) -> bool:
    """Whether a merged model is all there: config, weights, and every shard its index names."""
    try:
        if not (folder / "config.json").is_file():
            return False
        for weights in ("model.safetensors", "pytorch_model.bin"):
            index = folder / f"{weights}.index.json"
            if index.is_file():
                shards = _named_by(index)
                return shards is not None and all((folder / name).is_file() for name in shards)
            if (folder / weights).is_file():
                return True
    except OSError:
        pass
    return False


def _walk(root: Path) -> tuple[list[LocalFile], list[tuple[str, str]]]:
    files: list[LocalFile] = []
    left_out: list[tuple[str, str]] = []

    def unreadable(error: OSError) -> None:
        raise ArtifactError(
            f"{error.filename} cannot be read: {error.strerror}.",
            hint="Run the agent as the training's user.",
        ) from error

    for folder, subfolders, found in os.walk(root, onerror=unreadable):
        subfolders.sort()
        for name in [*found, *(sub for sub in subfolders if Path(folder, sub).is_symlink())]:
            source = Path(folder, name)
            path = source.relative_to(root).as_posix()
            reason = names.reason_to_leave_out(path) or _unfit(source, path, root)
            if reason is None:
                try:
                    files.append(LocalFile(path, source, Stamp.of(source)))
                except OSError:
                    reason = "it vanished while stock was taken"
            if reason:
                left_out.append((path.encode(errors="replace").decode(), reason))
    return sorted(files, key=lambda file: file.path), sorted(left_out)


def _unfit(source: Path, path: str, root: Path) -> str | None:
    try:
        path.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    try:
        target = source.resolve(strict=True)
        mode = target.stat().st_mode
    except (OSError, RuntimeError):
        return "a broken link"
    if source.is_symlink() and not target.is_relative_to(root.resolve()):
        return "a link out of the folder"
    if not stat.S_ISREG(mode):
        return "not a regular file"
    # Another name does not make training_args.bin fit to be seen; a link into a checkpoint is fine.
    hidden = names.reason_to_leave_out(target.name) if source.is_symlink() else None
    return f"a link to {target.name}: {hidden}" if hidden else None


def _still(file: LocalFile) -> bool:
    try:
        return Stamp.of(file.source) == file.stamp
    except OSError:
        return False


def _where_weights_are(left_out: list[tuple[str, str]]) -> str:
    weights = [(path, reason) for path, reason in left_out if path.endswith((".safetensors", ".distcp"))]
    in_root = [f"{path} is {reason}" for path, reason in weights if "/" not in path]
    if in_root:
        return f"{in_root[0]}; put the file itself into the folder."
    folders = sorted({path.split("/")[0] for path, _ in weights})
    if folders:
        return (
            f"Weights were found in {', '.join(folders)}, which is training state; let the training script "
            "end with trainer.save_model(), or set OUTPUT_DIR to the checkpoint you want to publish."
        )
    return "Let the training script end with trainer.save_model(), or set OUTPUT_DIR to where it saved it."
