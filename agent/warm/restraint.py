"""How much of a pod the warm upload may take: the training comes first."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_CORES, SHARE = 4.0, 0.25
PAUSE_S = 5.0
_MEGA = 1_000_000
_CGROUP = Path("/sys/fs/cgroup")  # of version 2, or of version 1 with a folder for each controller
_TASKS = Path("/proc/self/task")
_ASK_EVERY_S = 1.0


def cores(cgroup: Path = _CGROUP) -> float:
    """How many processors this container may use, by its affinity and its quota."""
    allowed = float(len(os.sched_getaffinity(0)))
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        with suppress(OSError, ValueError):  # "max" is no number either
            told = " ".join((cgroup / name).read_text(encoding="ascii") for name in files)
            quota, period = map(int, told.split())
            if quota > 0 and period > 0:  # -1 is none
                return min(allowed, quota / period)
    return allowed


def throttled(cgroup: Path = _CGROUP) -> int:
    """How often the kernel held this container back, because it had used up its quota."""
    for name in ("cpu.stat", "cpu/cpu.stat"):
        with suppress(OSError, ValueError):
            for line in (cgroup / name).read_text(encoding="ascii").splitlines():
                if line.startswith("nr_throttled "):
                    return int(line.split()[1])
    return 0


def waited_s(tasks: Path = _TASKS) -> float:
    """How long the threads of this process were ready to run, and others had all processors, in seconds."""
    waited_ns = 0
    with suppress(OSError):
        for task in tasks.iterdir():
            with suppress(OSError, ValueError, IndexError):
                waited_ns += int((task / "schedstat").read_text(encoding="ascii").split()[1])
    return waited_ns / 1e9


class Restraint:
    """Makes each block of bytes take as long as its bandwidth and processor time should.

    Priority alone is not enough. A container that uses up its quota is held back as a whole, with the
    threads that load the training's data; and where all processors are wanted, the lowest priority is still
    a few percent of them. Both are asked now and then, and answered with a pause.

    Args:
        most_mb_s: 10^6 bytes in a second; None for no limit.
        most_cores: processors that may be busy with it on average.
        clock: seconds that never run backwards.
        cpu_s: processor time that this process has used.
        held_back: how often the container was throttled.
        waited_s: how long it had to wait for a processor.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        most_mb_s: float | None,
        most_cores: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        cpu_s: Callable[[], float] = time.process_time,
        held_back: Callable[[], int] = throttled,
        waited_s: Callable[[], float] = waited_s,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bytes_s = most_mb_s * _MEGA if most_mb_s else None
        self._cores = most_cores
        self._clock, self._cpu_s, self._sleep = clock, cpu_s, sleep
        self._held_back, self._waited_s = held_back, waited_s
        self._begun = self._asked = self._free_at = clock()
        self._used = cpu_s()
        self._seen = self._used, held_back(), waited_s()

    @classmethod
    def here(cls, most_mb_s: float | None) -> Restraint:
        """What is fair in this container: a quarter of its processors, four at most."""
        return cls(most_mb_s, min(MOST_CORES, SHARE * cores()))

    def after(self, count: int) -> None:
        """Wait until `count` bytes, and the processor time that went by since the last call, are fair."""
        used, self._used = self._used, self._cpu_s()
        least_s = (self._used - used) / self._cores
        if self._bytes_s:
            least_s = max(least_s, count / self._bytes_s)
        self._free_at = max(self._begun, self._free_at) + least_s
        now = self._clock()
        if now - self._asked >= _ASK_EVERY_S:
            self._asked = now
            if self._is_in_the_way():
                self._free_at = max(self._free_at, now + PAUSE_S)
        if self._free_at > now:
            self._sleep(self._free_at - now)
        self._begun = self._clock()

    def _is_in_the_way(self) -> bool:
        """Whether the container was throttled since this was asked last, or we waited more than we worked."""
        used, held_back, waited = self._seen
        self._seen = self._used, self._held_back(), self._waited_s()
        return self._seen[1] > held_back or self._seen[2] - waited > self._seen[0] - used
