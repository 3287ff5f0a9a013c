"""What the name of a metric tells about it."""

from __future__ import annotations

import re

_LOWER_IS_BETTER = re.compile(r"loss|error|perplexity|(^|_)wer($|_)", re.IGNORECASE)


def lower_is_better(metric: str) -> bool:
    """Whether a model with less of it is the better one."""
    return _LOWER_IS_BETTER.search(metric) is not None
