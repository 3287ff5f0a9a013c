"""What was told to whom about one job, written down before it is sent: a crash repeats nothing for ever.

Who was told is known by a hash of the address; no address and no token is kept here.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.journal import Journal

MOST = 2  # sends of which nobody knows whether they arrived; a third might be the third in somebody's inbox
_SENT = "sent"


class Ledger:
    """The sends of one job, each known by its channel and its event.

    Args:
        journal: where it is kept; one that cannot be written still counts for as long as we run.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._told = {
            channel: events for channel, events in journal.kept("told").items() if _is_table(events)
        }
        self.issue = journal.kept("issue")

    def is_closed(self, channel: str, event: str) -> bool:
        """Whether nobody is to be told again: it arrived, or may have arrived too often."""
        so_far = self._told.get(channel, {}).get(event, 0)
        return so_far == _SENT or (isinstance(so_far, int) and so_far >= MOST)

    def begin(self, channel: str, event: str) -> None:
        """Count a send that is about to be made; until it is settled it may have arrived."""
        self._set(channel, event, self._count(channel, event) + 1)

    def refused(self, channel: str, event: str) -> None:
        """Take the send back: it certainly did not arrive."""
        self._set(channel, event, self._count(channel, event) - 1)

    def sent(self, channel: str, event: str) -> None:
        """Note that it arrived."""
        self._set(channel, event, _SENT)

    def begin_anew(self) -> None:
        """Forget the failures: whatever fails from now on is another job's."""
        self._told = {
            channel: {event: told for event, told in events.items() if not event.startswith("failed:")}
            for channel, events in self._told.items()
        }
        self._journal.keep(told=self._told)

    def remember_issue(self, **facts: Any) -> None:  # noqa: ANN401 - whatever JSON holds
        """Keep what is known of the job's issue; None takes a fact out."""
        known = {**self.issue, **facts}
        self.issue = {name: value for name, value in known.items() if value is not None}
        self._journal.keep(issue=self.issue)

    def _count(self, channel: str, event: str) -> int:
        so_far = self._told.get(channel, {}).get(event, 0)
        return so_far if isinstance(so_far, int) else 0

    def _set(self, channel: str, event: str, value: int | str) -> None:
        self._told = {**self._told, channel: {**self._told.get(channel, {}), event: value}}
        self._journal.keep(told=self._told)


def channel_key(address: str) -> str:
    """What an address is called in the ledger."""
    return hashlib.sha256(address.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _is_table(events: object) -> bool:
    return isinstance(events, dict)
