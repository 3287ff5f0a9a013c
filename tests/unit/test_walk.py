from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from agent.artifact.walk import Selection, walk
from agent.errors import ArtifactError
from agent.patterns import Patterns


def listed(root, selection=None, under=""):
    return [file.path for file in walk(root, selection or Selection(), under=under).files]


def left(root, selection=None):
    return dict(walk(root, selection or Selection()).left_out)


def select(exclude="", include=""):
    return Selection(Patterns(exclude), Patterns(include))


FILES = {
    "model.safetensors": "w",
    "notes.tmp": "t",
    "scratch/a.txt": "a",
    "scratch/keep.txt": "k",
    "sub/scratch/b.txt": "b",
    "training_args.bin": "p",
    "checkpoint-4/optimizer.pt": "o",
    "events.log": "l",
}


@pytest.mark.parametrize(
    ("exclude", "include", "published"),
    [
        (
            "",
            "",
            ["model.safetensors", "notes.tmp", "scratch/a.txt", "scratch/keep.txt", "sub/scratch/b.txt"],
        ),
        ("*.tmp,scratch/", "", ["model.safetensors"]),
        ("/scratch/", "", ["model.safetensors", "notes.tmp", "sub/scratch/b.txt"]),
        (
            "*.tmp\nscratch/*\n!scratch/keep.txt",
            "",
            ["model.safetensors", "scratch/keep.txt", "sub/scratch/b.txt"],
        ),
        ("*.tmp,scratch/", "training_args.bin", ["model.safetensors", "training_args.bin"]),
        (
            "*.tmp,scratch/",
            "checkpoint-*/,*.log",
            ["checkpoint-4/optimizer.pt", "events.log", "model.safetensors"],
        ),
        ("*.tmp,scratch/,*.log", "*.log", ["model.safetensors"]),
    ],
)
def test_patterns_take_away_and_add_and_taking_away_wins(folder, exclude, include, published):
    assert listed(folder(FILES), select(exclude, include)) == published


def test_what_the_patterns_exclude_is_told_as_such(folder):
    assert left(folder(FILES), select("*.tmp"))["notes.tmp"] == "excluded by AGENT_EXCLUDE"


@pytest.mark.parametrize(
    "name", [".env", ".env.production", "prod.env", "sub/.netrc", ".git-credentials", "id_rsa", "a/.npmrc"]
)
def test_files_for_credentials_never_pass_whatever_is_included(folder, name):
    root = folder({"model.safetensors": "w", name: "secret"})
    assert listed(root, select(include="*,.*,**/.*")) == ["model.safetensors"]
    assert left(root, select(include="*"))[name] == "made to hold credentials"


def test_a_folder_placed_elsewhere_is_judged_where_it_will_stand(folder):
    root = folder({"model.onnx": "w", "trainer_state.json": "{}", "runs/x": "x"})
    assert listed(root, under="onnx") == ["onnx/model.onnx", "onnx/trainer_state.json"]
    assert listed(root, select("onnx/*.json"), under="onnx") == ["onnx/model.onnx"]


def test_links_in_a_circle_end(folder):
    root = folder({"model.safetensors": "w", "a/b/c.txt": "c"})
    (root / "a" / "b" / "up").symlink_to(root)
    (root / "a" / "self").symlink_to("self")
    (root / "x").symlink_to("y")
    (root / "y").symlink_to("x")
    assert listed(root) == ["a/b/c.txt", "model.safetensors"]
    assert left(root) == {
        "a/b/up": "not a regular file",
        "a/self": "a broken link",
        "x": "a broken link",
        "y": "a broken link",
    }


@pytest.mark.parametrize("target", ["/etc/hostname", "../outside.txt", "../outside", "../output-2/x.txt"])
def test_no_link_leads_out_of_the_folder(folder, tmp_path, target):
    root = folder({"model.safetensors": "w"}, "output")
    folder({"x.txt": "x"}, "output-2")
    folder({"x.txt": "x"}, "outside")
    (tmp_path / "outside.txt").write_text("secret")
    (root / "link.txt").symlink_to(target)
    assert listed(root) == ["model.safetensors"]
    assert left(root) == {"link.txt": "a link out of the folder"}


def test_the_folder_itself_may_be_a_link(folder, tmp_path):
    root = folder({"model.safetensors": "w", "a.txt": "a"})
    (root / "b.txt").symlink_to("a.txt")
    (tmp_path / "link").symlink_to(root)
    assert listed(tmp_path / "link") == ["a.txt", "b.txt", "model.safetensors"]


def test_what_is_no_file_is_never_opened(folder, monkeypatch):
    root = folder({"model.safetensors": "w"})
    os.mkfifo(root / "pipe.safetensors")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(root)  # the path of a socket is short
        server.bind("sock")
        try:
            os.mknod(root / "zero", stat.S_IFCHR | 0o600, os.makedev(1, 5))
        except PermissionError:
            (root / "zero").symlink_to("pipe.safetensors")
        assert listed(root) == ["model.safetensors"]
        assert left(root) == dict.fromkeys(("pipe.safetensors", "sock", "zero"), "not a regular file")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (b"caf\xe9.txt", "its name is not UTF-8"),
        (b"two\nlines.txt", "its name holds a control character or a backslash, which the Hub refuses"),
        (b"back\\slash.txt", "its name holds a control character or a backslash, which the Hub refuses"),
        (b"bell\x07.txt", "its name holds a control character or a backslash, which the Hub refuses"),
    ],
)
def test_names_that_the_hub_refuses_stay_behind(folder, name, reason):
    root = folder({"model.safetensors": "w"})
    (root / os.fsdecode(name)).write_text("x")
    assert listed(root) == ["model.safetensors"]
    (told,) = left(root).items()
    assert told == (name.decode(errors="surrogateescape").encode(errors="replace").decode(), reason)


def test_folders_that_the_hub_refuses_stay_behind_even_when_included(folder):
    root = folder({"model.safetensors": "w", ".cache/x": "x", "sub/.git/config": "g"})
    assert listed(root, select(include=".cache/,.git/")) == ["model.safetensors"]
    assert set(left(root, select(include=".cache/,.git/")).values()) == {"a path that the Hub refuses"}


def test_a_thousand_folders_deep_is_no_trouble(folder):
    root = folder({"model.safetensors": "w"})
    made = [f"{root}{'/d' * depth}" for depth in range(1, 1020)]
    for path in made:
        Path(path).mkdir()
    Path(made[-1], "x").write_text("x")
    try:
        assert listed(root) == ["model.safetensors"]
        assert list(left(root).values()) == ["its path is longer than 1024 bytes"]
    finally:  # those who clean up after tests are not made for this
        Path(made[-1], "x").unlink()
        for path in reversed(made):
            Path(path).rmdir()


def test_a_folder_deeper_than_the_system_can_name_is_an_error_that_says_so(folder):
    root = folder({"model.safetensors": "w"})
    handle = os.open(root, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=handle)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
    os.close(handle)
    with pytest.raises(ArtifactError, match="cannot be read: File name too long") as raised:
        walk(root, Selection())
    assert "AGENT_EXCLUDE" in raised.value.hint
    assert listed(root, select(f"/{'d' * 250}/")) == ["model.safetensors"]


def test_a_folder_that_is_never_published_need_not_be_readable(folder, monkeypatch):
    root = folder({"model.safetensors": "w", "wandb/x": "x", "mine/x": "x"})
    real = os.scandir

    def scandir(path):
        if str(path).endswith(("wandb", "mine")):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(ArtifactError, match="mine cannot be read: Permission denied"):
        walk(root, Selection())
    assert listed(root, select("mine/")) == ["model.safetensors"]
    assert left(root, select("mine/")) == {
        "mine/": "excluded by AGENT_EXCLUDE",
        "wandb/": "wandb/ is training state, cache or hidden",
    }
    for might_be_in_it in ("wandb/", "*.txt"):
        with pytest.raises(ArtifactError, match="wandb cannot be read"):
            walk(root, select("mine/", might_be_in_it))
