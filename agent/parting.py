"""The end of a pod: as it was asked for, after a last look, and never with the only copy of a model.

The request is noted before it is sent. RunPod starts a container again that only ended, and a person may
start a stopped pod again to look at something: neither must meet a second stop.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from agent.log import get_logger
from agent.pod import alert, marker
from agent.pod.release import Decision, Situation, decide, weights_left
from agent.pod.storage import Storage, storage_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.config import Config
    from agent.pod.marker import Marker
    from agent.pod.runpod import RunPod
    from agent.pod_config import OnFinish

AFTER_SUCCESS_S, AFTER_FAILURE_S = 3600.0, 120.0
ASK_AGAIN_S = 600.0
VOLUME = Path("/workspace")
# A container that died while it asked is back within seconds; a person who starts the pod again is slower.
_STILL_LEAVING_S = 120.0
_SHELLS = {"sh", "bash", "dash", "ash", "zsh", "start.sh"}


@dataclass(frozen=True)
class End:
    """How a job ended, as far as its pod is concerned.

    `proven`: the Hub was read back and holds the model. `nothing_to_publish`: on purpose. `no_model`: no
    training came to a good end here.
    """

    exit_code: int
    proven: bool = False
    nothing_to_publish: bool = False
    no_model: bool = False


class Parting:
    """How one pod is left.

    Args:
        config: what was asked for, and by which pod.
        tell: told in a sentence, once, what people must know: that the pod is still there.
        note: told when the end of the pod is asked for, just before.
        news: what the platform's alert API is to hear, as the row says it now; None if that is nothing.
    """

    def __init__(
        self,
        config: Config,
        *,
        tell: Callable[[str], None],
        note: Callable[[str], None],
        news: Callable[[], dict[str, Any] | None],
    ) -> None:
        self._config, self._tell, self._note, self._news = config, tell, note, news

    def leave(self, asked: OnFinish, end: End, marker_of: Marker | None = None) -> bool:
        """End the pod if that was asked for and may be; True when RunPod confirmed it.

        Args:
            asked: keep, stop or terminate.
            end: how the job ended.
            marker_of: the marker of the run, if there is one.
        """
        if self._has_left(marker_of):
            return False
        action = self._possible(asked, end)
        told = alert.is_asked_for(self._config) and self._may_be_told(end)
        if action == "keep" and not told:
            return False
        self._wait(action, end, marker_of)
        if marker_of and not marker_of.is_quiet():
            get_logger().info("another run is at work in this pod, which is kept for it")
            return False
        if told and self._may_be_told(end):
            self._tell_platform()
        # Somebody may have worked in the pod meanwhile; what was granted may be too much now.
        if action != "keep" and self._decide(action, end).action != action:
            action = self._granted(action, end)
        if action == "keep":
            return False
        self._note(action)
        return self._ask(action, marker_of)

    def _possible(self, asked: OnFinish, end: End) -> OnFinish:
        """What of the wish can and may be done from here."""
        if asked == "keep":
            return "keep"
        if self._config.pod_id is None:
            get_logger().warning(f"AGENT_ON_FINISH={asked} has no effect: this is no pod of RunPod")
            return "keep"
        action = self._granted(asked, end)
        return "keep" if action == "keep" or self._has_no_way(action) else action

    def _may_be_told(self, end: End) -> bool:
        """Whether the platform, which terminates the pod when it hears that a job is over, may hear it."""
        decision = self._decide("terminate", end)
        if decision.action != "terminate":
            get_logger().warning("ALERT_API_URL is not told: it terminates the pod", because=decision.because)
        return decision.action == "terminate"

    def _tell_platform(self) -> None:
        news = self._news()
        if news is None:
            get_logger().warning("ALERT_API_URL is not told: the row does not say that the job is over")
            return
        self._note("alert")
        alert.send(self._config, news)

    def _granted(self, asked: OnFinish, end: End) -> OnFinish:
        """What may be done of what was asked; people are told if it is less."""
        decision = self._decide(asked, end)
        if decision.because:
            self._shout(decision.because)
        return decision.action

    def _decide(self, asked: OnFinish, end: End) -> Decision:
        places = [self._config.output_dir, *(placed.source for placed in self._config.files)]
        here = weights_left(places)
        storage = storage_of(places, volume_id=self._config.volume_id)
        if not here and not end.no_model:
            storage = Storage.CONTAINER  # a training that ended well saved its model where nobody told us
        situation = Situation(
            proven=end.proven,
            training_failed=end.no_model,
            # Terminating takes the whole volume: a training may have saved anywhere on it.
            weights_left=here or (asked == "terminate" and weights_left([VOLUME])),
            nothing_to_publish=end.nothing_to_publish,
            storage=storage,
        )
        return decide(asked, situation)

    def _has_left(self, marker_of: Marker | None) -> bool:
        if marker_of is None or not marker_of.mark.left_at:
            return False
        since_s = marker_of.now() - marker_of.mark.left_at
        if marker_of.mark.phase == marker.LEAVING and since_s < _STILL_LEAVING_S:
            return False
        get_logger().info("the end of this pod was asked for before; somebody started it again, it is kept")
        return True

    def _has_no_way(self, asked: OnFinish) -> bool:
        """Say at once what would come to nothing after the last look: there is time to do it by hand."""
        from agent.pod.runpod import keys_of

        if not keys_of(self._config):
            self._shout(
                f"Nothing can {asked} this pod, and it goes on costing money: there is no RUNPOD_API_KEY "
                f"and no RUNPOD_TERMINATE_API_KEY. {asked.capitalize()} it by hand."
            )
            return True
        return False

    def _wait(self, action: OnFinish, end: End, marker_of: Marker | None) -> None:
        """Leave people time for a last look, counted from the end of the job."""
        grace_s = self._config.stop_after_s
        if grace_s is None and action == "keep":
            grace_s = 0.0  # nobody asked for the end of the pod, only for the platform to be told
        elif grace_s is None:
            grace_s = AFTER_FAILURE_S if end.exit_code else AFTER_SUCCESS_S
        if marker_of:
            grace_s -= max(0.0, marker_of.now() - marker_of.mark.finished_at)
        if grace_s > 0:
            who = "the platform is told" if action == "keep" else f"RunPod is asked to {action} this pod"
            get_logger().info(who, in_s=round(grace_s))
            time.sleep(grace_s)

    def _ask(self, action: OnFinish, marker_of: Marker | None) -> bool:
        """Ask for the end of the pod; a run, which nobody watches, asks until it gives up."""
        pod, told = self._pod(), False
        over = time.monotonic() + self._config.give_up_s
        while True:
            if marker_of:
                marker_of.keep(phase=marker.LEAVING, left_at=marker_of.now())
            ended = pod.end("terminate" if action == "terminate" else "stop")
            last = ended.done or marker_of is None or time.monotonic() + ASK_AGAIN_S > over
            if marker_of:
                asked = {"phase": marker.LEFT} if last else {"phase": marker.FINISHED, "left_at": 0.0}
                marker_of.keep(**asked)
            if ended.done:
                get_logger().info(f"RunPod confirmed: {action}", by=ended.how)
            elif not told:
                told = True
                self._shout(f"Nothing could {action} this pod, and it goes on costing money: {ended.because}")
            if last:
                return ended.done
            time.sleep(ASK_AGAIN_S)

    def _pod(self) -> RunPod:
        from agent.pod.runpod import RunPod, keys_of

        return RunPod(self._config.pod_id, keys_of(self._config))

    def _shout(self, sentence: str) -> None:
        get_logger().error(sentence, pod=self._config.pod_id)
        self._tell(sentence)


def is_first_process(pod_id: str | None) -> bool:
    """Whether our end is the end of the pod's container, which RunPod then starts again.

    Also below an init such as tini, which ends with us; a shell goes on with its next command.
    """
    if not pod_id or os.getpid() == 1:
        return bool(pod_id)
    try:
        init = Path("/proc/1/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return False
    return os.getppid() == 1 and init not in _SHELLS


def sleep() -> NoReturn:
    """Wait until the container is ended, and bury what dies meanwhile."""
    get_logger().info("waiting for the end of the pod; a container that ends is started again")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        signal.pause()
