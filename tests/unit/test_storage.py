"""Where a path lives: told by the mounts, by the real path, and in doubt as what ends first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.pod.storage import Storage, storage_of

ROOT = "100 90 0:50 / / rw,relatime master:1 - overlay overlay rw,lowerdir=/a:/b"
PROC = "101 100 0:51 / /proc rw,nosuid - proc proc rw"
SHM = "102 100 0:52 / /dev/shm rw - tmpfs shm rw"
POD_DISK = "103 100 259:1 /pods/abc/vol /workspace rw,noatime shared:5 - xfs /dev/nvme0n1p1 rw,attr2"
NETWORK_DISK = "103 100 0:60 / /workspace rw,relatime - fuse mfs#eu.example:9421 rw,allow_other"
MODEL = Path("/workspace/fine_tuned_model")


def mounts(*lines):
    return "".join(f"{line}\n" for line in (ROOT, PROC, SHM, *lines))


def on(point, kind, *, number=200, parent=100, root="/"):
    escaped = os.fspath(point).replace("\\", "\\134").replace(" ", "\\040")
    return f"{number} {parent} 0:99 {root} {escaped} rw - {kind} some-device rw"


def test_the_longer_lived_is_the_greater():
    assert Storage.CONTAINER < Storage.VOLUME < Storage.NETWORK


@pytest.mark.parametrize(
    ("line", "volume_id", "expected"),
    [
        (POD_DISK, None, Storage.VOLUME),
        (POD_DISK, "vol-1", Storage.VOLUME),
        (NETWORK_DISK, "vol-1", Storage.NETWORK),
        (NETWORK_DISK, None, Storage.VOLUME),
        (NETWORK_DISK, "", Storage.VOLUME),
    ],
)
def test_a_network_volume_is_one_only_if_the_pod_says_that_it_has_one(line, volume_id, expected):
    assert storage_of([MODEL], volume_id=volume_id, mountinfo=mounts(line)) == expected


@pytest.mark.parametrize(
    "kind",
    ["fuse", "fuse.mfs", "nfs", "nfs4", "ceph", "lustre", "virtiofs", "9p", "cifs", "smb3", "beegfs", "gpfs"],
)
def test_network_file_systems_outlive_the_pod_that_has_a_volume_id(kind):
    mountinfo = mounts(on("/workspace", kind))
    assert storage_of([MODEL], volume_id="vol-1", mountinfo=mountinfo) == Storage.NETWORK


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs"])
def test_disks_live_until_the_pod_is_terminated(kind):
    mountinfo = mounts(on("/workspace", kind))
    assert storage_of([MODEL], volume_id="vol-1", mountinfo=mountinfo) == Storage.VOLUME


@pytest.mark.parametrize(
    "kind",
    [
        "overlay",
        "fuse.fuse-overlayfs",
        "tmpfs",
        "ramfs",
        "squashfs",
        "fuseblk",
        "fusectl",
        "nfsd",
        "neverheard",
    ],
)
def test_what_is_no_known_disk_ends_with_the_container(kind):
    mountinfo = mounts(on("/workspace", kind))
    assert storage_of([MODEL], volume_id="vol-1", mountinfo=mountinfo) == Storage.CONTAINER


@pytest.mark.parametrize("kind", ["overlay", "ext4", "xfs", "fuse.mfs", "nfs4"])
def test_the_root_ends_with_the_container_whatever_it_is(kind):
    mountinfo = f"{on('/', kind, number=100, parent=90)}\n{PROC}\n"
    assert storage_of([MODEL], volume_id="vol-1", mountinfo=mountinfo) == Storage.CONTAINER


def test_a_volume_that_the_image_declares_goes_with_the_container():
    anonymous = on("/workspace", "ext4", root=f"/var/lib/docker/volumes/{'0a' * 32}/_data")
    named = on("/workspace", "ext4", root="/var/lib/docker/volumes/abc123/_data")
    assert storage_of([MODEL], volume_id=None, mountinfo=mounts(anonymous)) == Storage.CONTAINER
    assert storage_of([MODEL], volume_id=None, mountinfo=mounts(named)) == Storage.VOLUME


def test_the_weakest_of_several_paths_counts():
    mountinfo = mounts(POD_DISK)
    assert (
        storage_of([MODEL, Path("/root/adapter")], volume_id=None, mountinfo=mountinfo) == Storage.CONTAINER
    )
    assert storage_of([Path("/root/a"), MODEL], volume_id=None, mountinfo=mountinfo) == Storage.CONTAINER
    assert storage_of([MODEL, MODEL], volume_id=None, mountinfo=mountinfo) == Storage.VOLUME


def test_a_folder_whose_name_only_begins_like_the_mount_is_not_on_it():
    mountinfo = mounts(POD_DISK)
    assert storage_of([Path("/workspace2/m")], volume_id=None, mountinfo=mountinfo) == Storage.CONTAINER


def test_a_mount_inside_the_volume_counts_for_itself():
    mountinfo = mounts(POD_DISK, on("/workspace/fine_tuned_model", "tmpfs", parent=103))
    assert storage_of([MODEL], volume_id=None, mountinfo=mountinfo) == Storage.CONTAINER
    assert storage_of([Path("/workspace/else")], volume_id=None, mountinfo=mountinfo) == Storage.VOLUME


def test_a_mount_below_the_folder_makes_it_as_weak():
    mountinfo = mounts(POD_DISK, on(MODEL / "shards", "tmpfs", parent=103))
    assert storage_of([MODEL], volume_id=None, mountinfo=mountinfo) == Storage.CONTAINER


def test_the_later_of_two_mounts_on_one_folder_counts():
    covered = mounts(POD_DISK, on("/workspace", "tmpfs", parent=103))
    assert storage_of([MODEL], volume_id=None, mountinfo=covered) == Storage.CONTAINER
    beside = mounts(on("/workspace", "tmpfs", number=103), on("/workspace", "ext4", number=104))
    assert storage_of([MODEL], volume_id=None, mountinfo=beside) == Storage.VOLUME


def test_a_mount_that_another_one_hides_does_not_count():
    """The inner one is longer, but nobody reaches it any more."""
    inner = on("/workspace/fine_tuned_model", "ext4", number=104, parent=103)
    over = on("/workspace", "tmpfs", number=105, parent=103)
    mountinfo = mounts(POD_DISK, inner, over)
    assert storage_of([MODEL], volume_id=None, mountinfo=mountinfo) == Storage.CONTAINER


def test_the_order_of_the_lines_does_not_matter_where_nothing_is_covered():
    mountinfo = f"{POD_DISK}\n{SHM}\n{PROC}\n{ROOT}\n"
    assert storage_of([MODEL], volume_id=None, mountinfo=mountinfo) == Storage.VOLUME


def test_escaped_mount_points_are_read(tmp_path):
    spaced = tmp_path / "my vol\\ume"
    (spaced / "model").mkdir(parents=True)
    mountinfo = mounts(on(spaced, "ext4"))
    assert "\\040" in mountinfo
    assert "\\134" in mountinfo
    assert storage_of([spaced / "model"], volume_id=None, mountinfo=mountinfo) == Storage.VOLUME
    assert storage_of([tmp_path / "my"], volume_id=None, mountinfo=mountinfo) == Storage.CONTAINER


@pytest.fixture
def volume(tmp_path):
    """A folder that counts as the pod's volume, and one that does not."""
    for name in ("volume/model", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path / "volume", mounts(on(tmp_path / "volume", "ext4"))


def test_a_path_that_does_not_exist_counts_by_its_parent(volume):
    folder, mountinfo = volume
    assert storage_of([folder / "not/yet/there"], volume_id=None, mountinfo=mountinfo) == Storage.VOLUME


def test_a_folder_that_is_a_link_counts_by_where_it_leads(volume):
    folder, mountinfo = volume
    inside, outside = folder / "inside", folder / "outside"
    inside.symlink_to(folder / "model")
    outside.symlink_to(folder.parent / "elsewhere")
    back = folder.parent / "back"
    back.symlink_to(folder / "model")
    assert storage_of([inside], volume_id=None, mountinfo=mountinfo) == Storage.VOLUME
    assert storage_of([outside], volume_id=None, mountinfo=mountinfo) == Storage.CONTAINER
    assert storage_of([back], volume_id=None, mountinfo=mountinfo) == Storage.VOLUME


@pytest.mark.parametrize("target", ["elsewhere", "elsewhere/model.safetensors", "elsewhere/missing"])
def test_a_link_below_the_folder_that_leads_out_makes_it_as_weak(target, volume):
    folder, mountinfo = volume
    (folder.parent / "elsewhere/model.safetensors").write_bytes(b"weights")
    (folder / "model/deep").mkdir()
    assert storage_of([folder / "model"], volume_id=None, mountinfo=mountinfo) == Storage.VOLUME
    (folder / "model/deep/link").symlink_to(folder.parent / target)
    assert storage_of([folder / "model"], volume_id=None, mountinfo=mountinfo) == Storage.CONTAINER


def test_a_link_out_of_a_folder_that_a_link_leads_to_counts_too(volume):
    folder, mountinfo = volume
    (folder / "store").mkdir()
    (folder / "store/blob").symlink_to(folder.parent / "elsewhere")
    (folder / "model/store").symlink_to(folder / "store")
    assert storage_of([folder / "model"], volume_id=None, mountinfo=mountinfo) == Storage.CONTAINER


def test_links_that_lead_nowhere_but_round_in_the_volume_end(volume):
    folder, mountinfo = volume
    (folder / "model/up").symlink_to(folder)
    assert storage_of([folder / "model"], volume_id=None, mountinfo=mountinfo) == Storage.VOLUME


def test_a_link_to_itself_leaves_doubt(volume):
    folder, mountinfo = volume
    (folder / "model/ring").symlink_to(folder / "model/ring")
    assert storage_of([folder / "model"], volume_id=None, mountinfo=mountinfo) == Storage.CONTAINER


def test_a_folder_that_cannot_be_listed_leaves_doubt(volume, monkeypatch):
    folder, mountinfo = volume

    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("agent.pod.storage.os.scandir", refuse)
    assert storage_of([folder / "model"], volume_id=None, mountinfo=mountinfo) == Storage.CONTAINER


@pytest.mark.parametrize(
    "mountinfo",
    [
        "",
        "nonsense",
        "1 2 3",
        f"{PROC}\n{SHM}\n",
        mounts(POD_DISK, "104 100 0:60 / /somewhere"),
        mounts("104 104 0:60 / /workspace rw - ext4 /dev/a rw"),
        mounts("100 100 0:60 / / rw - ext4 /dev/a rw"),
        mounts(
            on("/workspace", "tmpfs", number=104, parent=105),
            on("/workspace", "ext4", number=105, parent=104),
        ),
    ],
)
def test_mounts_that_cannot_be_read_leave_doubt(mountinfo):
    assert storage_of([MODEL], volume_id="vol-1", mountinfo=mountinfo) == Storage.CONTAINER


def test_no_path_at_all_and_an_impossible_one_leave_doubt():
    mountinfo = mounts(POD_DISK)
    assert storage_of([], volume_id=None, mountinfo=mountinfo) == Storage.CONTAINER
    assert storage_of([Path("/workspace/\0")], volume_id=None, mountinfo=mountinfo) == Storage.CONTAINER


def test_the_mounts_of_this_machine_are_read():
    """Its root is one that ends with the container, its /proc is no disk."""
    assert storage_of([Path("/etc")], volume_id="vol-1") == Storage.CONTAINER
    assert storage_of([Path("/proc/self/maps")], volume_id="vol-1") == Storage.CONTAINER


def test_mounts_that_cannot_be_opened_leave_doubt(monkeypatch, tmp_path):
    monkeypatch.setattr("agent.pod.storage._MOUNTINFO", tmp_path / "missing")
    assert storage_of([MODEL], volume_id="vol-1") == Storage.CONTAINER
