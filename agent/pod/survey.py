"""What the pod will say to a publication: room on its disks, how long they live, who may stop it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.errors import ConfigError, JobRefusedError
from agent.pod.room import free_bytes, why_not_writable
from agent.pod.runpod import RunPod, keys_of
from agent.pod.storage import Storage, storage_of
from agent.verdict import Check

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.config import Config

GB = 10**9
# A model of 7 to 8 billion parameters in 16 bit takes 16 GB, once more for each checkpoint that is kept.
ROOM_FOR_A_MODEL = 20 * GB
# Journals and logs are small; what hf_xet remembers of uploads grows to this.
ROOM_FOR_STATE = 1 * GB
_LIVES = {
    Storage.CONTAINER: "on the container's disk, which ends with every stop of the pod",
    Storage.VOLUME: "on the pod's volume, which survives a stop and ends with the pod",
    Storage.NETWORK: "on a network volume, which outlives the pod; its quota may leave less",
}


def folders(config: Config, cache: Path) -> Iterator[Check]:
    """Look at the folders that hold the model, the agent's state and downloaded models.

    Args:
        config: what was asked for.
        cache: where the Hub's library keeps what it downloads, HF_HOME.
    """
    yield _output(config)
    yield _state(config)
    if config.pod_id:
        yield _cache(config, cache)


def release(config: Config) -> Check:
    """Say what becomes of the pod in the end, and whether RunPod shows it to a key of ours.

    Only an order tells whether a key may also stop the pod; none is given here.
    """
    name = "end of the pod"
    if config.pod_id is None:
        return Check.fine(name, "not on RunPod: nothing is stopped")
    asked = config.on_finish or "stop"
    meant = "AGENT_ON_FINISH is" if config.on_finish else "after `run`:"
    if asked == "keep":
        return Check.fine(name, f"{meant} keep: the pod costs until somebody ends it")
    keys = keys_of(config)
    probe = RunPod(config.pod_id, keys).status()
    if probe.status is None:
        cure = "Set RUNPOD_TERMINATE_API_KEY to a key that may do it, or stop the pod by hand in the end."
        return Check.note(name, f"{meant} {asked}, but RunPod shows the pod to no key: {probe.because}", cure)
    if probe.locked:
        return Check.note(name, f"{meant} {asked}, but the pod is locked", "Unlock it in RunPod's console.")
    shown = f"RunPod shows the pod ({probe.status}) to {' or '.join(keys)}"
    return Check.fine(name, f"{meant} {asked}; {shown}, which may still lack the right to {asked} it")


def _output(config: Config) -> Check:
    name, folder = "output folder", config.output_dir
    if why := why_not_writable(folder):
        return Check.refused(
            name,
            ConfigError(
                f"OUTPUT_DIR: nothing can be written to {folder} ({why}).",
                hint="Set OUTPUT_DIR, here and for the training, to a folder on a volume with room.",
            ),
        )
    said, low = _room(folder, ROOM_FOR_A_MODEL)
    if low:
        return Check.note(name, said, "Free some, or set OUTPUT_DIR to a larger volume.")
    if config.pod_id is None:
        return Check.fine(name, f"{said}; not on RunPod")
    lives = _storage(config, folder)
    if lives is Storage.CONTAINER:
        cure = "Set OUTPUT_DIR, here and for the training, to a folder below /workspace."
        return Check.note(name, f"{said}; {_LIVES[lives]}", cure)
    return Check.fine(name, f"{said}; {_LIVES[lives]}")


def _state(config: Config) -> Check:
    name, folder = "state folder", config.state_dir
    why = why_not_writable(folder)
    if why and config.job_database is None:
        return Check.refused(
            name,
            JobRefusedError(
                f"The job's row cannot be written below {folder}: {why}.",
                hint="Set AGENT_STATE_DIR to a folder that can be written, then run again.",
            ),
        )
    if why:
        return Check.note(
            name,
            f"nothing can be written to {folder} ({why}): a run that is interrupted sends all again",
            "Set AGENT_STATE_DIR to a folder on a volume.",
        )
    said, low = _room(folder, ROOM_FOR_STATE)
    if low:
        return Check.note(name, said, "Free some, or set AGENT_STATE_DIR to a larger volume.")
    return Check.fine(name, said)


def _cache(config: Config, cache: Path) -> Check:
    name = "model cache"
    lives = _storage(config, cache)
    if lives is Storage.CONTAINER:
        return Check.note(
            name,
            f"{cache} is {_LIVES[lives]}: base models are downloaded again",
            "Set HF_HOME to a folder below /workspace.",
        )
    return Check.fine(name, f"{cache} is {_LIVES[lives]}")


def _storage(config: Config, folder: Path) -> Storage:
    """How long a file lives that is written there; what lies below already does not matter here."""
    return storage_of([folder / ".new"], volume_id=config.volume_id)


def _room(folder: Path, least: int) -> tuple[str, bool]:
    free = free_bytes(folder)
    return f"{folder} has {free / GB:,.1f} GB free", free < least
