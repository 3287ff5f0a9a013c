"""By how much our clock and a server's differ."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


def ahead_s(now: datetime, headers: Mapping[str, str]) -> float | None:
    """By how many seconds `now` is ahead of the Date of an answer; None if it has none.

    It holds whole seconds, and the way here counts as ours.
    """
    try:
        return (now - parsedate_to_datetime(headers["Date"])).total_seconds()
    except (KeyError, ValueError, TypeError):  # missing, no date, a date without a zone
        return None
