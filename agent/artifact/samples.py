"""What of a samples folder is published: a few images and texts, small enough to be looked at in a card."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from agent.artifact.files import why_no_folder
from agent.artifact.walk import Selection, Walk, walk
from agent.errors import ArtifactError

if TYPE_CHECKING:
    from pathlib import Path

    from agent.artifact.files import LocalFile

_FOLDER = "samples"
_MOST_SAMPLES = 24
_MOST_BYTES = 20_000_000
_IMAGE_BYTES = 2_000_000
_TEXT_BYTES = 64_000
# No SVG: it is a document that can hold scripts.
_IMAGES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif"})
_TEXTS = frozenset({".txt", ".md", ".json", ".jsonl", ".csv"})


def choose_samples(folder: Path, selection: Selection) -> Walk:
    """Choose the samples to publish below `samples/`, in the order a person counts in.

    A sample that does not fit under the limit of all of them is left out, and smaller ones behind it are
    still taken.

    Raises:
        ArtifactError: the folder is missing, or cannot be read.
    """
    _must_be_folder(folder)
    found = walk(folder, selection, under=_FOLDER)
    chosen, room = Walk(left_out=found.left_out), _MOST_BYTES
    for file in sorted(found.files, key=_natural):
        reason = _too_much(file, room, len(chosen.files))
        if reason:
            chosen.left_out.append((file.path, reason))
        else:
            chosen.files.append(file)
            room -= file.size_bytes
    chosen.left_out.sort()
    return chosen


def is_image(path: str) -> bool:
    """Whether a sample is an image, told by its name."""
    return _ending(path) in _IMAGES


def _must_be_folder(folder: Path) -> None:
    what = why_no_folder(folder)
    if what:
        raise ArtifactError(
            f"The samples folder {folder} {what}.",
            hint="Set SAMPLES_DIR to a folder of images or texts that exists when the training has ended.",
        )


def _too_much(file: LocalFile, room: int, taken: int) -> str | None:
    image = is_image(file.path)
    if not image and _ending(file.path) not in _TEXTS:
        return "no image or text"
    limit = _IMAGE_BYTES if image else _TEXT_BYTES
    if file.size_bytes > limit:
        return f"larger than {limit:,} bytes"
    if taken == _MOST_SAMPLES:
        return f"after the first {_MOST_SAMPLES} samples"
    return f"more than {_MOST_BYTES:,} bytes of samples" if file.size_bytes > room else None


def _ending(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


def _natural(file: LocalFile) -> list[str | int]:
    """Order sample before sample-2 before sample-10: odd parts are digits, so that like meets like."""
    parts = re.split(r"([0-9]+)", file.path.casefold().rpartition(".")[0])
    return [int(part) if index % 2 else part for index, part in enumerate(parts)]
