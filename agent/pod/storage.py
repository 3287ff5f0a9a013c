"""Where a path lives, and so what ends with it: told from the mounts, by the path's real place.

In doubt it lives in the container: then nobody stops the pod while the only copy of a model is there.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_MOUNTINFO = Path("/proc/self/mountinfo")
_ESCAPE = re.compile(rb"\\([0-7]{3})")
# A volume of the host's Docker that nobody named comes from the image's VOLUME, and goes with the container.
_ANONYMOUS = re.compile(r"/volumes/[0-9a-f]{64}/_data(/|$)")
_DISKS = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs"})
_NETWORKS = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "fuse",
        "gpfs",
        "lustre",
        "nfs",
        "nfs4",
        "smb3",
        "virtiofs",
        "wekafs",
    }
)


class Storage(IntEnum):
    """How long what is stored somewhere lives; the greater outlives the smaller."""

    CONTAINER = 0  # until the pod stops
    VOLUME = 1  # until the pod is terminated
    NETWORK = 2  # longer than the pod


@dataclass(frozen=True)
class _Mount:
    number: str
    parent: str
    root: str
    point: str
    kind: str


def storage_of(paths: Iterable[Path], *, volume_id: str | None, mountinfo: str | None = None) -> Storage:
    """Say how long all of these paths live: the weakest place of any of them, or of anything below them.

    A link counts by where it leads, a path that does not exist by its nearest parent that does.

    Args:
        paths: files or folders.
        volume_id: RUNPOD_VOLUME_ID; only a pod that has a network volume can have files on it.
        mountinfo: what /proc/self/mountinfo says; see proc_pid_mountinfo(5).
    """
    found = []
    try:
        mounts = _mounts(_read() if mountinfo is None else mountinfo)
        for place in _places(paths, mounts):
            found.append(_judge(_mount_of(place, mounts), volume_id))
            if found[-1] == Storage.CONTAINER:  # nothing is weaker
                break
    except (OSError, ValueError):
        return Storage.CONTAINER
    return min(found, default=Storage.CONTAINER)


def _read() -> str:
    return os.fsdecode(_MOUNTINFO.read_bytes())


def _mounts(mountinfo: str) -> list[_Mount]:
    """Parse every line; one that cannot be read may be the mount that matters."""
    return [_mount(line) for line in mountinfo.split("\n") if line]


def _mount(line: str) -> _Mount:
    before, separator, after = line.partition(" - ")
    if not separator:
        raise ValueError(f"no line of mountinfo: {line!r}")
    number, parent, _device, root, point, *_ = before.split(" ")
    return _Mount(number, parent, _unescape(root), _unescape(point), after.split(" ")[0])


def _unescape(field: str) -> str:
    return os.fsdecode(_ESCAPE.sub(lambda found: bytes([int(found[1], 8) & 0xFF]), os.fsencode(field)))


def _mount_of(place: str, mounts: list[_Mount]) -> _Mount:
    """Find the mount a real path is on, as the kernel does: from the root down, always to the top one.

    By parent, not by the length of the mount point: what was mounted over a folder hides the mounts
    below it, and those stay in the list.
    """
    waiting = list(reversed(mounts))  # of two on one place the later one lies on top
    numbers = {mount.number for mount in mounts if mount.parent != mount.number}
    current: _Mount | None = None
    for folder in ("/", *_folders(place)):
        while above := _on(current, folder, waiting, numbers):
            current = above
            waiting.remove(above)
    if current is None:
        raise ValueError("mountinfo shows no root")
    return current


def _on(current: _Mount | None, folder: str, waiting: list[_Mount], numbers: set[str]) -> _Mount | None:
    """The mount that covers a folder of the current one; the root is the one that covers none."""
    for mount in waiting:
        covered = mount.parent not in numbers if current is None else mount.parent == current.number
        if covered and mount.point == folder:
            return mount
    return None


def _folders(place: str) -> Iterator[str]:
    """`/a`, `/a/b` and so on, down to the place itself."""
    for end, letter in enumerate(f"{place}/"):
        if letter == "/" and end:
            yield place[:end]


def _judge(mount: _Mount, volume_id: str | None) -> Storage:
    if mount.point == "/" or "overlay" in mount.kind or _ANONYMOUS.search(mount.root):
        return Storage.CONTAINER
    if mount.kind.partition(".")[0] in _NETWORKS:
        return Storage.NETWORK if volume_id else Storage.VOLUME
    return Storage.VOLUME if mount.kind in _DISKS else Storage.CONTAINER


def _places(paths: Iterable[Path], mounts: list[_Mount]) -> Iterator[str]:
    """The real place of each path, of every link below it, and of every mount below it.

    Raises:
        OSError: a folder cannot be listed, so that nobody knows where its links lead.
    """
    waiting, known = [os.path.realpath(path) for path in paths], set[str]()
    while waiting:
        place = waiting.pop()
        if place in known:
            continue
        known.add(place)
        yield place
        yield from (mount.point for mount in mounts if mount.point.startswith(f"{place}/"))
        if not is_folder(place):
            continue
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.is_symlink():
                    waiting.append(os.path.realpath(entry.path))
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)


def is_folder(path: str) -> bool:
    """Whether there is a folder; what is missing is none.

    Raises:
        OSError: nobody can say, for want of rights or in a ring of links.
    """
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)  # noqa: PTH116 - real paths are strings here
    except (FileNotFoundError, NotADirectoryError):
        return False
