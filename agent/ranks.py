"""Which of many processes finalizes: the main one of the main node, and no other."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# As torchrun, accelerate, deepspeed, Slurm and RunPod's clusters say who a process is.
_VARIABLES = ("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "MACHINE_RANK", "SLURM_NODEID")
_FLAGS = ("--node_rank", "--node-rank", "--machine_rank", "--machine-rank")


def other_rank(environ: Mapping[str, str], command: Sequence[str] = ()) -> str | None:
    """What tells that this process is not the main one of the main node; None if nothing does.

    Args:
        environ: the process's environment.
        command: the training that it starts; its launcher's flags may name the node.
    """
    for name in _VARIABLES:
        if _is_another(environ.get(name, "")):
            return f"{name} is {environ[name].strip()}"
    for flag, value in _flags(command):
        if flag in _FLAGS and _is_another(value):
            return f"{flag} is {value}"
    return None


def _flags(command: Sequence[str]) -> list[tuple[str, str]]:
    """Every word of a command as a flag and its value, in both spellings."""
    spelled = [(flag, value) for word in command for flag, equals, value in [word.partition("=")] if equals]
    return spelled + list(itertools.pairwise(command))


def _is_another(rank: str) -> bool:
    return rank.strip().isdecimal() and int(rank) > 0
