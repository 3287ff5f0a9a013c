"""Which base model a publication may name: one that a reader of the repo can find."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agent.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def is_model_id(text: str) -> bool:
    """Whether this can be a model id on the Hub; a path on somebody's disk can not."""
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9_][\w.-]*)?", text, re.ASCII) is not None


def choose_base(configured: str | None, found: Iterable[str], exists: Callable[[str], bool]) -> str | None:
    """Return the base model to name, or None if nobody could follow the reference.

    Args:
        configured: BASE_MODEL or the training config's model; wins whenever it is an id.
        found: what the folder's own files name, in order of trust.
        exists: asks the Hub; a relative folder such as `out/base` looks like an id, too.
    """
    if configured:
        if is_model_id(configured):
            return configured
        get_logger().warning("BASE_MODEL is a path, which no reader can follow", base_model=configured)
    for base in dict.fromkeys(found):
        if not is_model_id(base):
            get_logger().warning(
                "left out a local base path; set BASE_MODEL to name the base", base_model=base
            )
        elif exists(base):
            return base
        else:
            get_logger().warning(
                "left out a base model that is not on the Hub; set BASE_MODEL to name it", base_model=base
            )
    return None
