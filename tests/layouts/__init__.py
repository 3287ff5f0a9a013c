"""Output folders as trainers and exporters leave them, made small; every generator names its source.

Weights are valid and their shapes agree with their configs; training state is real where it is TRL's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.layouts import axolotl, diffusion, exports, llama_factory, peft, trl, unsloth
from tests.layouts.layout import KINDS, Layout
from tests.layouts.unpublishable import UNPUBLISHABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KINDS", "LAYOUTS", "UNPUBLISHABLE", "Layout"]

LAYOUTS: Mapping[str, Layout] = {
    **axolotl.LAYOUTS,
    **unsloth.LAYOUTS,
    **llama_factory.LAYOUTS,
    **trl.LAYOUTS,
    **peft.LAYOUTS,
    **diffusion.LAYOUTS,
    **exports.LAYOUTS,
}
