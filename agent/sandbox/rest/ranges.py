"""Which rows of a result are asked for, and how the answer counts them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from agent.sandbox.rest.errors import bad_range

_RANGE = re.compile(r"(\d+)-(\d*)")
_INTEGER = re.compile(r"-?\d+")


@dataclass(frozen=True)
class Rows:
    """`limit` rows after the first `offset`; without a limit, all of them."""

    offset: int = 0
    limit: int | None = None

    @property
    def everything(self) -> bool:
        """Whether no row is left out."""
        return not self.offset and self.limit is None


def requested(method: str, parameters: Mapping[str, str], header: str | None) -> Rows:
    """Combine `limit`, `offset` and, for GET, the Range header.

    Raises:
        ApiError: PGRST103 if no row can lie in it.
    """
    limit, offset = _integer(parameters.get("limit")), _integer(parameters.get("offset")) or 0
    if limit == 0:
        return Rows(0, 0)
    match = _RANGE.fullmatch(header or "") if method == "GET" else None
    first = int(match[1]) if match else 0
    last = int(match[2]) if match and match[2] else None
    if last is not None and first > last:
        raise bad_range(
            "The lower boundary must be lower than or equal to the upper boundary in the Range header."
        )
    start = max(first, offset)
    ends = [last, None if limit is None else offset + limit - 1]
    end = min((one for one in ends if one is not None), default=None)
    if offset < 0 or (end is not None and end < start):
        raise bad_range("Limit should be greater than or equal to zero.")
    return Rows(start, None if end is None else end - start + 1)


def content_range(first: int, last: int, total: int | None) -> str:
    """Word Content-Range: `first-last/total`, with a star for what is empty or unknown."""
    span = f"{first}-{last}" if total != 0 and first <= last else "*"
    return f"{span}/{'*' if total is None else total}"


def status(rows: Rows, count: int, total: int | None) -> int:
    """Return 200 for all rows, 206 for a part of them, 416 for a start after the end."""
    if total is None:
        return 200
    if rows.offset > total:
        return 416
    return 206 if count < total else 200


def _integer(text: str | None) -> int | None:
    return int(text) if text and _INTEGER.fullmatch(text) else None
