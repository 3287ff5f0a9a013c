"""JSON as everybody but Python understands it."""

import json
from typing import Any, NoReturn


def loads(text: str | bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Parse JSON; NaN and Infinity are none.

    Raises:
        ValueError: also for text nested too deeply, and for bytes that are no UTF-8.
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def load_object(text: str | bytes) -> dict[str, Any] | None:
    """Parse a JSON object; None for everything else."""
    try:
        value = loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)
