"""The law of the only copy: what may end the pod, and when.

Pure, and asked by everything that can end the pod. The platform's alert API terminates the pod when it is
told that the job is over, so telling it is a terminate.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.pod.storage import Storage, is_folder

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from agent.pod_config import OnFinish

_WEIGHTS = (
    ".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".distcp", ".gguf", ".onnx", ".msgpack", ".h5", ".npz",
)  # fmt: skip
_STATE_FOLDERS = ("checkpoint-", "global_step")


@dataclass(frozen=True)
class Situation:
    """What is known of the model when the pod could end.

    Attributes:
        proven: the Hub was read back and holds the model.
        training_failed: the training itself ended badly.
        weights_left: there may be weights on this pod's disks.
        nothing_to_publish: on purpose: the user's own gate said no, or there is no token.
        storage: where the model's folder lives.
    """

    proven: bool
    training_failed: bool
    weights_left: bool
    nothing_to_publish: bool
    storage: Storage


@dataclass(frozen=True)
class Decision:
    """What may be done to the pod; `because` says to people why it is less than was asked, else nothing."""

    action: OnFinish
    because: str = ""


def decide(asked: OnFinish, situation: Situation) -> Decision:
    """Grant what was asked, or the most that cannot take the only copy of a model with it."""
    if asked == "keep" or _is_free(asked, situation):
        return Decision(asked)
    if not _survives("stop", situation.storage):
        return Decision(
            "keep",
            f"The pod is kept, not {_DONE[asked]}: {_what_is_here(situation)}, on a disk that ends with the "
            "container. Save it elsewhere or publish it, then stop the pod by hand.",
        )
    if asked == "stop":
        return Decision("stop")
    return Decision(
        "stop",
        f"The pod is stopped, not terminated: {_what_is_here(situation)}, and terminating is final. "
        "Save it elsewhere or publish it, then terminate the pod by hand.",
    )


def permits(action: OnFinish, situation: Situation) -> bool:
    """Whether something that does this to the pod may be called now."""
    return decide(action, situation).action == action


def _is_free(asked: OnFinish, situation: Situation) -> bool:
    if situation.proven or (situation.training_failed and not situation.weights_left):
        return True
    return situation.nothing_to_publish and _survives(asked, situation.storage)


def _survives(action: OnFinish, storage: Storage) -> bool:
    return (
        storage >= {"keep": Storage.CONTAINER, "stop": Storage.VOLUME, "terminate": Storage.NETWORK}[action]
    )


_DONE = {"stop": "stopped", "terminate": "terminated"}


def _what_is_here(situation: Situation) -> str:
    if situation.training_failed:
        return "there are weights of no training that ended well, and they may be only here"
    if situation.nothing_to_publish:
        return "the trained model was not published and is only here"
    return "the trained model is not proven to be on the Hub and may be only here"


def weights_left(paths: Iterable[Path]) -> bool:
    """Whether there may be weights in any of these files and folders; a folder that cannot be read has some.

    A name is enough: an empty file, or a link that leads nowhere today, counts.
    """
    waiting, known = [os.fspath(path) for path in paths], set[str]()
    try:
        while waiting:
            path = waiting.pop()
            if _may_be_weights(path):
                return True
            real = os.path.realpath(path)
            if real in known or not is_folder(real):
                continue
            known.add(real)
            with os.scandir(real) as entries:
                waiting += [entry.path for entry in entries]
    except (OSError, ValueError):
        return True
    return False


def _may_be_weights(path: str) -> bool:
    name = os.path.basename(path).lower()  # noqa: PTH119 - paths are strings here
    if name.endswith(_WEIGHTS):
        return os.path.lexists(path)
    return name.startswith(_STATE_FOLDERS) and is_folder(path)
