"""JSON from somebody else's hands: a document, or one ValueError that quotes none of it."""

from __future__ import annotations

import json
from typing import Any


def parse_json(text: str | bytes) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Parse JSON; bare NaN and Infinity, which trainers write, are floats.

    Raises:
        ValueError: it is not JSON, or nested too deep to be meant.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} in line {error.lineno}") from error
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    except ValueError as error:
        raise ValueError("not JSON that can be read") from error
