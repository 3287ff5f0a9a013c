"""Failures on order: which request meets which misfortune."""

import random
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

FaultKind = Literal["status", "reset", "hang", "slow", "truncated", "lost", "forget"]


@dataclass
class Fault:
    """One misfortune, and how often it has struck (`fired`).

    status     answer `status` (with `body`, `headers`, `retry_after`) instead of acting
    reset      abort the connection (RST) before acting
    hang       never answer; ends when the client goes or the server closes
    slow       wait `delay_s`, then act
    truncated  act, announce the whole answer, send half of it and close
    lost       act, then abort the connection without an answer
    forget     lose content nobody committed, then act

    `match` is searched in "METHOD /path"; `nth` counts the requests that match, from 0.
    """

    kind: FaultKind
    match: str = ""
    nth: int | set[int] | None = None
    probability: float | None = None
    seed: int = 0
    status: int = 503
    retry_after: int | None = None
    delay_s: float = 0.0
    times: int | None = None
    body: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    fired: int = field(default=0, init=False)
    seen: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._pattern = re.compile(self.match)
        self._random = random.Random(self.seed)  # noqa: S311 - a repeatable die, no secret

    def strikes(self, target: str) -> bool:
        """Count a matching request and say whether this one is to fail."""
        if not self._pattern.search(target):
            return False
        index, self.seen = self.seen, self.seen + 1
        unlucky = self.probability is None or self._random.random() < self.probability
        chosen = self.nth is None or index in (self.nth if isinstance(self.nth, set) else {self.nth})
        return unlucky and chosen and (self.times is None or self.fired < self.times)


class Faults:
    """The faults in force; every one counts the requests it matches, the first one due strikes."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> Fault:
        """Put a fault in force and return it, so that a test can assert it fired."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """End all faults."""
        with self._lock:
            self._faults.clear()

    def due(self, target: str) -> Fault | None:
        """Return the fault that strikes "METHOD /path", counted as fired."""
        with self._lock:
            due = [fault for fault in self._faults if fault.strikes(target)]
            if not due:
                return None
            due[0].fired += 1
            return due[0]
