"""Ending the pod we are in: asked of RunPod every way there is, and believed only when RunPod confirms it."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from agent import log
from agent.pod.ladder import Ended, Ladder, Probe
from agent.pod.rungs import Apis

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.pod.rungs import Action
    from agent.pod_config import PodSettings

__all__ = ["APIS", "Apis", "Ended", "Probe", "RunPod", "keys_of"]

LADDER_S = 300.0  # for everything that `end` does; enough for the last way after all others hung
PROBE_S = 10.0  # for everything that `status` does
_POD_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_KEY = re.compile(r"[!-~]+")

APIS = Apis("https://api.runpod.io/v2", "https://api.runpod.io/graphql", "https://rest.runpod.io/v1")


def keys_of(settings: PodSettings) -> dict[str, str]:
    """The keys that may end the pod, by the variable each came from; the one made for it comes first."""
    given = {"RUNPOD_TERMINATE_API_KEY": settings.own_pod_key, "RUNPOD_API_KEY": settings.pod_key}
    return {name: key.get_secret_value() for name, key in given.items() if key}


class RunPod:
    """One pod, and the keys to it.

    Args:
        pod_id: as RUNPOD_POD_ID has it. One that is no id is never sent anywhere: an empty one would turn
            the address of a pod into that of all pods.
        keys: variable to key, in the order in which they are tried.
        sleep: waits for so many seconds.
        clock: seconds, from any start.
        apis: where to ask; `APIS` if not given.
    """

    def __init__(
        self,
        pod_id: str | None,
        keys: Mapping[str, str],
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        apis: Apis | None = None,
    ) -> None:
        log.hide(keys.values())
        self._pod_id, self._sleep, self._clock, self._apis = pod_id, sleep, clock, apis
        self._keys = {name: key for name, key in keys.items() if _KEY.fullmatch(key)}

    def status(self) -> Probe:
        """Ask each way with each key once, until one shows the pod; nothing is changed."""
        if why_not := self._why_not():
            return Probe(None, locked=False, because=why_not)
        with self._ladder(PROBE_S) as ladder:
            return ladder.probe()

    def end(self, action: Action) -> Ended:
        """Stop or terminate the pod, and say whether RunPod confirms it.

        Safe to call again, and after any lost answer: the status is asked before every order. Never raises
        for what RunPod or the network does.

        Args:
            action: what to do; nothing more than this is ever done.
        """
        if why_not := self._why_not():
            return Ended(done=False, how=None, because=why_not)
        with self._ladder(LADDER_S) as ladder:
            return ladder.end(action)

    def _ladder(self, within_s: float) -> Ladder:
        return Ladder(
            self._pod_id or "",
            self._keys,
            self._apis or APIS,
            within_s=within_s,
            clock=self._clock,
            sleep=self._sleep,
        )

    def _why_not(self) -> str:
        if not self._pod_id or not _POD_ID.fullmatch(self._pod_id):
            shown = log.redact(repr(self._pod_id))[:60]
            return f"RUNPOD_POD_ID is no id of a pod ({shown}), so nobody was asked about one."
        if not self._keys:
            return (
                "There is no key to ask RunPod with: RUNPOD_API_KEY is missing or no key. Set "
                "RUNPOD_TERMINATE_API_KEY to a key that may stop this pod."
            )
        return ""
