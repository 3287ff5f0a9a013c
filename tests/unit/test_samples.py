from __future__ import annotations

import os

import pytest

from agent.artifact.samples import choose_samples, is_image
from agent.artifact.walk import EVERYTHING, Selection
from agent.errors import ArtifactError
from agent.patterns import Patterns

IMAGE, TEXT, ALL = 2_000_000, 64_000, 20_000_000


def paths(chosen):
    return [file.path for file in chosen.files]


@pytest.fixture
def sized(tmp_path):
    """Make a folder of files that are as long as asked for, and take no room."""

    def make(sizes):
        for name, size in sizes.items():
            with (tmp_path / name).open("wb") as stream:
                stream.truncate(size)
        return tmp_path

    return make


def test_images_and_texts_are_taken_and_nothing_else(folder):
    taken = ["a.png", "b.JPG", "c.jpeg", "d.webp", "e.gif", "f.txt", "g.md", "h.json", "i.jsonl", "j.CSV"]
    left = ["k.svg", "l.html", "m.mp4", "n.png.exe", "png", "o.pdf"]
    chosen = choose_samples(folder(dict.fromkeys([*taken, *left], "x")), EVERYTHING)
    assert paths(chosen) == [f"samples/{name}" for name in taken]
    assert dict(chosen.left_out) == {f"samples/{name}": "no image or text" for name in left}


def test_samples_keep_their_folders_below_samples(folder):
    root = folder({"step-1/a.png": "x", "step-1/b/c.txt": "y"})
    chosen = choose_samples(root, EVERYTHING)
    assert [(file.path, file.source) for file in chosen.files] == [
        ("samples/step-1/a.png", root / "step-1/a.png"),
        ("samples/step-1/b/c.txt", root / "step-1/b/c.txt"),
    ]


def test_samples_stand_in_the_order_a_person_counts_in(folder):
    names = [
        "s1/x.png",
        "s2/x.png",
        "s10/x.png",
        "sample.txt",
        "sample-2.txt",
        "Sample-3.txt",
        "sample-10.txt",
        "x.md",
        "x1.md",
    ]
    chosen = choose_samples(folder(dict.fromkeys(reversed(names), "x")), EVERYTHING)
    assert paths(chosen) == [f"samples/{name}" for name in names]


def test_names_that_count_alike_have_an_order(folder):
    names = ["A1.txt", "a01.txt", "a1.txt", "a²2.txt", "a٣.txt", f"a{'9' * 250}.txt", "1.txt", "01.txt"]
    chosen = choose_samples(folder(dict.fromkeys(names, "x")), EVERYTHING)
    assert paths(chosen)[:5] == [
        f"samples/{name}" for name in ("01.txt", "1.txt", "A1.txt", "a01.txt", "a1.txt")
    ]
    assert len(chosen.files) == len(names)


@pytest.mark.parametrize(("name", "limit"), [("a.png", IMAGE), ("a.txt", TEXT)])
def test_a_sample_may_be_as_large_as_the_limit(sized, name, limit):
    assert paths(choose_samples(sized({name: limit}), EVERYTHING)) == [f"samples/{name}"]


@pytest.mark.parametrize(("name", "limit"), [("a.png", IMAGE), ("a.txt", TEXT)])
def test_a_larger_sample_stays_and_the_reason_names_the_limit(sized, name, limit):
    chosen = choose_samples(sized({name: limit + 1}), EVERYTHING)
    assert chosen.files == []
    assert chosen.left_out == [(f"samples/{name}", f"larger than {limit:,} bytes")]


def test_at_most_twenty_four_samples_are_taken(folder):
    chosen = choose_samples(folder({f"{index}.txt": "x" for index in range(1, 28)}), EVERYTHING)
    assert paths(chosen) == [f"samples/{index}.txt" for index in range(1, 25)]
    assert chosen.left_out == [
        (f"samples/{index}.txt", "after the first 24 samples") for index in (25, 26, 27)
    ]


def test_samples_that_are_left_out_take_no_place(sized):
    root = sized({f"{index}.png": IMAGE + 1 for index in range(30)} | {"last.txt": 1})
    assert paths(choose_samples(root, EVERYTHING)) == ["samples/last.txt"]


def test_all_samples_together_are_bounded_and_a_smaller_one_still_fits(sized):
    root = sized({f"{index}.png": 1_999_000 for index in range(1, 12)} | {"last.txt": 10_000, "of.txt": 1})
    chosen = choose_samples(root, EVERYTHING)
    assert paths(chosen) == [*(f"samples/{index}.png" for index in range(1, 11)), "samples/last.txt"]
    assert sum(file.size_bytes for file in chosen.files) == ALL
    assert chosen.left_out == [
        (path, "more than 20,000,000 bytes of samples") for path in ("samples/11.png", "samples/of.txt")
    ]


def test_an_empty_folder_is_no_fault(folder):
    chosen = choose_samples(folder({}), EVERYTHING)
    assert (chosen.files, chosen.left_out) == ([], [])


def test_what_is_never_published_is_no_sample(folder):
    root = folder(
        {
            "a.txt": "x",
            ".hidden.txt": "x",
            "runs/b.txt": "x",
            "trainer_log.jsonl": "{}",
            ".env": "x",
            "b.svg": "x",
        }
    )
    chosen = choose_samples(root, EVERYTHING)
    assert paths(chosen) == ["samples/a.txt"]
    assert chosen.left_out == [
        ("samples/.env", "made to hold credentials"),
        ("samples/.hidden.txt", "training state, log or hidden file"),
        ("samples/b.svg", "no image or text"),
        ("samples/runs/b.txt", "runs/ is training state, cache or hidden"),
        ("samples/trainer_log.jsonl", "training state, log or hidden file"),
    ]


def test_the_users_patterns_hold_below_samples(folder):
    chosen = choose_samples(folder({"a.txt": "x", "b.txt": "x"}), Selection(exclude=Patterns("samples/b*")))
    assert paths(chosen) == ["samples/a.txt"]
    assert chosen.left_out == [("samples/b.txt", "excluded by AGENT_EXCLUDE")]


def test_what_is_no_file_of_the_folder_is_no_sample(folder, tmp_path):
    root = folder({"a.txt": "x"})
    (tmp_path / "secret.txt").write_text("s")
    (root / "out.txt").symlink_to(tmp_path / "secret.txt")
    (root / "loop.png").symlink_to(root / "loop.png")
    os.mkfifo(root / "pipe.txt")
    chosen = choose_samples(root, EVERYTHING)
    assert paths(chosen) == ["samples/a.txt"]
    assert dict(chosen.left_out) == {
        "samples/loop.png": "a broken link",
        "samples/out.txt": "a link out of the folder",
        "samples/pipe.txt": "not a regular file",
    }


def test_a_missing_folder_is_told_with_the_variable(tmp_path):
    with pytest.raises(ArtifactError, match=r"The samples folder .*/none does not exist\.") as caught:
        choose_samples(tmp_path / "none", EVERYTHING)
    assert "SAMPLES_DIR" in caught.value.hint


def test_a_file_in_place_of_the_folder_is_told(folder):
    with pytest.raises(ArtifactError, match=r"a\.txt is not a folder\."):
        choose_samples(folder({"a.txt": "x"}) / "a.txt", EVERYTHING)


def test_a_folder_of_an_impossible_name_is_told(tmp_path):
    with pytest.raises(ArtifactError, match=r"cannot be entered: File name too long\."):
        choose_samples(tmp_path / ("x" * 300), EVERYTHING)


@pytest.mark.parametrize(
    ("path", "image"), [("samples/a.PNG", True), ("samples/a.txt", False), ("png", False)]
)
def test_an_image_is_told_by_its_ending(path, image):
    assert is_image(path) is image
