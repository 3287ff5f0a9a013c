"""The pod's variables in a shell that was not given them: RunPod sets them for the main process only.

Source: https://github.com/runpod/containers/issues/70; /start.sh of RunPod's images writes the file.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

POD_ID = "RUNPOD_POD_ID"
MAIN_PROCESS = "/proc/1/environ"
FILE = "/etc/rp_environment"

# Values are not escaped in any way; of one with several lines the file holds the first.
_EXPORT = re.compile(r'export ([A-Za-z_][A-Za-z0-9_]*)="(.*)"')


def complete(
    environ: Mapping[str, str],
    settings: Iterable[Collection[str]],
    *,
    proc: str = MAIN_PROCESS,
    file: str = FILE,
) -> dict[str, str]:
    """`environ`, and what the pod was told beside it if this is a shell inside a pod; never fails.

    Only settings that `environ` says nothing about are filled in, also where it says so by another name or
    with an empty value. An environment that has RUNPOD_POD_ID, even an empty one, is taken as it is.

    Args:
        environ: the environment of this process.
        settings: of each setting that may be filled in, the names it goes by; `NAME_FILE` is one of them.
            RUNPOD's own variables may always be.
        proc: the environment of the container's main process.
        file: what RunPod's start script keeps of it, for when the process belongs to somebody else.
    """
    if POD_ID in environ:
        return dict(environ)
    told = next((found for found in (_of_process(proc), _of_file(file)) if found.get(POD_ID)), {})
    ours = [(name,) for name in told if name.startswith("RUNPOD_")]
    filled = dict(environ)
    for names in (*settings, *ours):
        known = {spelling for name in names for spelling in (name, f"{name}_FILE")}
        if known.isdisjoint(environ):
            filled |= {name: told[name] for name in known & told.keys()}
    return filled


def _of_process(path: str) -> dict[str, str]:
    entries = _content(path).split("\0")
    return {name: value for name, equals, value in (entry.partition("=") for entry in entries) if equals}


def _of_file(path: str) -> dict[str, str]:
    exports = (_EXPORT.fullmatch(line) for line in _content(path).split("\n"))
    return {export[1]: export[2] for export in exports if export}


def _content(path: str) -> str:
    """The file as Python would have it in os.environ; empty if it cannot be read."""
    try:
        return os.fsdecode(Path(path).read_bytes())
    except (OSError, ValueError):
        return ""
