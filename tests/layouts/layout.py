"""What a layout is: how to make the folder, and what a careful person would say about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KINDS = frozenset(
    {"adapter", "adapters", "merged", "full", "sharded", "gguf", "onnx", "pytorch", "diffusers"}
)


@dataclass(frozen=True)
class Layout:
    """One output folder as a trainer or exporter leaves it; all paths are relative to that folder.

    `make` fills a folder, which need not exist. `kind` is what a person would call the model. `published`
    are the files that somebody needs to load the model. `left_out_samples` are some that must stay behind.
    What is in neither (cards, plots, logs of other names) is a matter of taste.
    """

    make: Callable[[Path], None]
    kind: str
    published: frozenset[str]
    left_out_samples: frozenset[str] = frozenset()
