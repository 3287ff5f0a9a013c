"""The ladder: every way to end a pod, with every key, until RunPod itself shows that the pod is over.

None of them may be relied on: the pod's own key may lack the right, APIs retire, answers get lost. An order
that was taken is not yet one that was carried out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from agent import log
from agent.pod import rungs
from agent.pod.line import Line
from agent.pod.rungs import Reply
from agent.pod.runpodctl import RunPodCtl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from agent.pod.rungs import Action, Api, Apis, Rung

LONGEST_RETRY_AFTER_S = 30.0
_ASK_AGAIN_AFTER_S = (1.0, 2.0, None)  # an order is given three times each way
_LOOK_AFTER_S = (
    0.0,
    1.0,
    2.0,
    4.0,
    8.0,
    15.0,
    30.0,
)  # the pauses before each look at an order that was taken
_LONGEST_WORDS = 300


@dataclass(frozen=True)
class Probe:
    """What RunPod shows of the pod: its status, or None and why no key may see it."""

    status: str | None
    locked: bool
    because: str


@dataclass(frozen=True)
class Ended:
    """Whether RunPod confirms that the pod is over, which order did it, and what was said on the way."""

    done: bool
    how: str | None
    because: str


class _GiveUpError(Exception):
    """There is no use in going on; the sentence says why."""


class Ladder:
    """One way up: what was seen, ordered and said on it.

    Args:
        pod_id: a checked one.
        keys: variable to key, in the order in which they are tried.
        apis: where to ask.
        within_s: seconds for everything.
        clock: seconds, from any start.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        pod_id: str,
        keys: Mapping[str, str],
        apis: Apis,
        *,
        within_s: float,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._pod_id, self._keys, self._clock, self._sleep = pod_id, keys, clock, sleep
        self._within_s, self._until = within_s, clock() + within_s
        self._line = Line(self._left_s)
        self._apis: tuple[Api, ...] = (
            rungs.v2(apis.v2, self._line),
            rungs.GraphQL(apis.graphql, self._line),
            rungs.v1(apis.v1, self._line),
        )
        self._rungs: tuple[Rung, ...] = (*self._apis, RunPodCtl(self._left_s))
        self._looks = [(api, name) for name in keys for api in self._apis]
        # Only who knew the pod can tell that it is gone: for a stranger's key, and on an API that has
        # retired, there never was one.
        self._knowing: set[str] = set()
        self._said: dict[str, str] = {}  # by way: the answer to its last order, else to the first look
        self._sight = ""
        self._may_be_gone = False  # a terminate was taken, or its answer was lost

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.__exit__(kind, error, trace)

    def probe(self) -> Probe:
        """Look once each way with each key, until one shows the pod."""
        try:
            seen = self._look()
        except _GiveUpError as enough:
            return Probe(None, locked=False, because=f"{enough} {self._told()}")
        if seen is None:
            return Probe(None, locked=False, because=f"No key may see pod {self._pod_id}. {self._told()}")
        return Probe(seen.status, seen.locked, self._told())

    def end(self, action: Action) -> Ended:
        """Look first, then order each way with each key, until a look shows that the pod is over."""
        try:
            if self._is_over():
                return Ended(done=True, how=None, because=f"Nobody had to be asked. {self._told()}")
            for name in self._keys:
                for rung in self._rungs:
                    if self._order(rung, name, action):
                        way = _way(rung, name)
                        because = f"{way} {self._said[way]}. {self._sight}".rstrip()
                        return Ended(done=True, how=way, because=because)
            if self._is_over():
                return Ended(done=True, how=None, because=self._told())
        except _GiveUpError as reason:
            enough = str(reason)
        else:
            enough = (
                f"RunPod did not {action} pod {self._pod_id}: {action} it by hand in the console, and set "
                "RUNPOD_TERMINATE_API_KEY to a key that may."
            )
        return Ended(done=False, how=None, because=f"{enough} {self._told()}")

    def _order(self, rung: Rung, name: str, action: Action) -> bool:
        """Give one order one way, again while that may help; says whether the pod is over."""
        for wait_s in _ASK_AGAIN_AFTER_S:
            self._check_time()
            reply = rung.end(self._pod_id, action, self._keys[name])
            self._said[_way(rung, name)] = words = self._cut(reply)
            log.get_logger().info("asked RunPod", to=action, answer=f"{_way(rung, name)} {words}")
            if reply.over:
                self._sight = ""
                return True
            self._may_be_gone |= action == "terminate" and reply.kind in {"accepted", "unknown", "gone"}
            if reply.kind in {"accepted", "seen"}:
                return self._is_carried_out(rung, name)
            if reply.kind in {"refused", "absent"}:
                return False
            if reply.kind != "busy" and self._is_over():
                return True
            if reply.kind == "gone" or wait_s is None:
                return False
            self._pause(max(wait_s, min(reply.retry_after_s or 0.0, LONGEST_RETRY_AFTER_S)))
        return False

    def _is_carried_out(self, rung: Rung, name: str) -> bool:
        """Look until an order that was taken shows."""
        self._knowing.add(_way(rung, name))
        for wait_s in _LOOK_AFTER_S:
            self._pause(wait_s)
            if self._is_over():
                return True
        return False

    def _is_over(self) -> bool:
        """Look whether the pod runs no more.

        Raises:
            _GiveUpError: it is locked, or time is up.
        """
        seen = self._look()
        if seen is None or seen.over:
            return seen is not None
        if seen.locked:
            raise _GiveUpError(
                f"Pod {self._pod_id} is locked, so RunPod neither stops nor terminates it: unlock it in the "
                "console, then end it there by hand."
            )
        return False

    def _look(self) -> Reply | None:
        """See the pod, first where it was seen last; None if nobody shows it and nobody says it is gone.

        It is gone when it may have been terminated, who knew it finds it no more, and nobody else shows it.
        """
        gone = None
        for api, name in list(self._looks):
            self._check_time()
            reply = api.look(self._pod_id, self._keys[name])
            way = _way(api, name)
            if reply.kind == "seen":
                self._sight = f"{way} {self._cut(reply)}."
                self._knowing.add(way)
                self._looks.sort(key=lambda look: look != (api, name))
                return reply
            if reply.kind in {"absent", "gone"} and self._may_be_gone and way in self._knowing:
                gone = Reply("ended", reply.words)
                self._sight = f"{way} showed the pod before it was terminated, and now {self._cut(reply)}."
            self._said.setdefault(way, self._cut(reply))
        return gone

    def _check_time(self) -> None:
        if self._left_s() <= 0:
            raise _GiveUpError(f"RunPod was asked for {self._within_s:.0f} s without a clear answer.")

    def _pause(self, seconds: float) -> None:
        self._sleep(min(seconds, max(0.0, self._left_s())))

    def _left_s(self) -> float:
        return self._until - self._clock()

    def _told(self) -> str:
        said = [f"{way} {words}." for way, words in self._said.items()]
        return " ".join([*said, self._sight]).rstrip()

    @staticmethod
    def _cut(reply: Reply) -> str:
        """The server's words in one line; redacted whole, for half a secret is not recognised."""
        return " ".join(log.redact(reply.words).split())[:_LONGEST_WORDS].rstrip(".")


def _way(rung: Rung, name: str) -> str:
    return f"{rung.name} with {name}"
