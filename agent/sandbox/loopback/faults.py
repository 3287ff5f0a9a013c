"""Failures on order: which request meets which misfortune."""

import os
import random
import re
import signal
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from agent.sandbox.loopback.sender import holds_port

FaultKind = Literal["status", "reset", "hang", "slow", "truncated", "lost", "forget", "kill"]


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
    kill       SIGKILL process `pid` before acting, or with `after` once it acted, and abort the connection;
               only requests of that process match, none as long as `pid` is None

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
    pid: int | None = None
    after: bool = False
    fired: int = field(default=0, init=False)
    seen: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._pattern = re.compile(self.match)
        self._random = random.Random(self.seed)  # noqa: S311 - a repeatable die, no secret

    def strikes(self, target: str, port: int) -> bool:
        """Count a matching request and say whether this one, sent from `port`, is to fail."""
        if not self._pattern.search(target) or not self._concerns(port):
            return False
        index, self.seen = self.seen, self.seen + 1
        unlucky = self.probability is None or self._random.random() < self.probability
        chosen = self.nth is None or index in (self.nth if isinstance(self.nth, set) else {self.nth})
        return unlucky and chosen and (self.times is None or self.fired < self.times)

    def kill(self, *, acted: bool) -> bool:
        """Kill the sender if it is to die at this moment; says so."""
        if self.kind != "kill" or self.pid is None or self.after != acted:
            return False
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        return True

    def _concerns(self, port: int) -> bool:
        return self.kind != "kill" or (self.pid is not None and holds_port(self.pid, port))


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

    def due(self, target: str, port: int) -> Fault | None:
        """Return the fault that strikes "METHOD /path", counted as fired.

        Args:
            target: "METHOD /path".
            port: the sender's side of the connection.
        """
        with self._lock:
            due = [fault for fault in self._faults if fault.strikes(target, port)]
            if not due:
                return None
            due[0].fired += 1
            return due[0]
