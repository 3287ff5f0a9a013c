from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from agent.artifact import take_stock
from agent.errors import ArtifactError
from agent.hashes import Stamp

ADAPTER = [
    "README.md",
    "adapter_config.json",
    "adapter_model.safetensors",
    "chat_template.jinja",
    "tokenizer.json",
    "tokenizer_config.json",
]
MERGED = {"merged_model/config.json": "{}", "merged_model/model.safetensors": "merged"}
INDEX_OF_TWO = {
    "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}
}


def paths(stock):
    return [file.path for file in stock.files]


def refusal(folder):
    with pytest.raises(ArtifactError) as raised:
        take_stock(folder)
    assert raised.value.exit_code == 11
    return raised.value.message, raised.value.hint


@pytest.mark.parametrize(
    ("name", "kind", "size_bytes", "published"),
    [
        ("sft_lora", "adapter", 13_710, ADAPTER),
        ("sft_lora_abs", "adapter", 13_734, ADAPTER),
        ("dpo_lora", "adapter", 14_636, ADAPTER),
        ("orpo_lora", "adapter", 14_115, ADAPTER),
        (
            "sft_full",
            "full",
            116_313,
            [
                "README.md",
                "chat_template.jinja",
                "config.json",
                "generation_config.json",
                "model.safetensors",
                "tokenizer.json",
                "tokenizer_config.json",
            ],
        ),
        (
            "sharded",
            "sharded",
            110_757,
            [
                "config.json",
                "generation_config.json",
                "model-00001-of-00004.safetensors",
                "model-00002-of-00004.safetensors",
                "model-00003-of-00004.safetensors",
                "model-00004-of-00004.safetensors",
                "model.safetensors.index.json",
            ],
        ),
        (
            "base",
            "full",
            114_995,
            [
                "chat_template.jinja",
                "config.json",
                "generation_config.json",
                "model.safetensors",
                "tokenizer.json",
                "tokenizer_config.json",
            ],
        ),
    ],
)
def test_a_real_output_publishes_exactly_its_model(real_output, name, kind, size_bytes, published):
    stock = take_stock(real_output(name))
    assert paths(stock) == published
    assert (stock.kind, stock.size_bytes, stock.root) == (kind, size_bytes, real_output(name))


def test_what_stays_behind_is_told_with_the_reason(real_output):
    stock = take_stock(real_output("sft_lora"))
    in_root = [(path, reason) for path, reason in stock.left_out if "/" not in path]
    record = "record of the training, read for the card and the manifest"
    assert in_root == [
        ("all_results.json", record),
        ("eval_results.json", record),
        ("train_results.json", record),
        ("trainer_state.json", record),
        ("training_args.bin", "training state, log or hidden file"),
    ]
    assert {path.split("/")[0] for path, _ in stock.left_out if "/" in path} == {
        "checkpoint-2",
        "checkpoint-4",
    }
    assert len(stock.left_out) == 27


def test_a_checkpoint_may_be_published_as_the_output_folder_without_its_training_state(real_output):
    stock = take_stock(real_output("dpo_lora") / "checkpoint-4")
    assert paths(stock) == ADAPTER
    assert [path for path, _ in stock.left_out] == [
        "optimizer.pt",
        "rng_state.pth",
        "scheduler.pt",
        "trainer_state.json",
        "training_args.bin",
    ]


def test_files_can_be_asked_for_by_path(real_output):
    stock = take_stock(real_output("sft_full"))
    assert stock.get("config.json").source == real_output("sft_full") / "config.json"
    assert stock.get("training_args.bin") is None


def test_nothing_that_must_not_be_published_is_published(folder):
    root = folder(
        {
            "model.safetensors": "w",
            "sub/notes.txt": "kept",
            "training_args.bin": "hf_token inside",
            "optimizer.pt": "x",
            "optimizer.bin": "x",
            "scheduler.pt": "x",
            "scaler.pt": "x",
            "rng_state_0.pth": "x",
            "zero_to_fp32.py": "x",
            "latest": "x",
            "a.distcp": "x",
            "train.log": "x",
            ".env": "HF_TOKEN=x",
            ".git/config": "x",
            ".cache/x": "x",
            "__pycache__/x.pyc": "x",
            "runs/events": "x",
            "wandb/x": "x",
            "global_step4/x.pt": "x",
            "pytorch_model_fsdp_0/model.safetensors": "x",
            "optimizer_0/x": "x",
            "checkpoint-4/model.safetensors": "x",
            "sub/training_args.bin": "x",
            "sub/.env": "x",
        }
    )
    assert paths(take_stock(root)) == ["model.safetensors", "sub/notes.txt"]


def test_nested_folders_keep_their_places_in_a_stable_order(folder):
    root = folder(
        {"z/b.txt": "1", "z/a.txt": "2", "a/deep/er/x": "3", "model.safetensors": "w", "Z.txt": "4"}
    )
    assert paths(take_stock(root)) == ["Z.txt", "a/deep/er/x", "model.safetensors", "z/a.txt", "z/b.txt"]


def test_empty_files_other_than_weights_are_published(folder):
    assert paths(take_stock(folder({"model.safetensors": "w", "note.txt": ""}))) == [
        "model.safetensors",
        "note.txt",
    ]


def test_empty_folders_are_nothing(folder):
    assert paths(take_stock(folder({"model.safetensors": "w", "empty/er": None}))) == ["model.safetensors"]


@pytest.mark.parametrize(
    "name", ["modèle 1.safetensors", "模型.safetensors", "a b\tc.safetensors", "-rf.safetensors"]
)
def test_unusual_but_valid_names_are_published(folder, name):
    assert paths(take_stock(folder({name: "w"}))) == [name]


def test_a_whole_merged_model_comes_first(folder):
    root = folder({"adapter_model.safetensors": "a", "adapter_config.json": "{}", "README.md": "r", **MERGED})
    stock = take_stock(root)
    assert (stock.root, paths(stock), stock.kind) == (
        root / "merged_model",
        ["config.json", "model.safetensors"],
        "full",
    )


def test_a_whole_merged_model_in_shards_comes_first(folder):
    root = folder(
        {
            "adapter_model.safetensors": "a",
            "merged_model/config.json": "{}",
            "merged_model/model-1.safetensors": "1",
            "merged_model/model-2.safetensors": "2",
            "merged_model/model.safetensors.index.json": INDEX_OF_TWO,
        }
    )
    stock = take_stock(root)
    assert (stock.root, stock.kind) == (root / "merged_model", "sharded")


def test_a_merged_model_may_lie_on_another_disk(folder):
    elsewhere = folder({"config.json": "{}", "model.safetensors": "merged"}, "elsewhere")
    root = folder({"adapter_model.safetensors": "a"})
    (root / "merged_model").symlink_to(elsewhere)
    assert paths(take_stock(root)) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize(
    "merged",
    [
        {"model.safetensors": "merged"},
        {"config.json": "{}"},
        {"config.json": "{}", "model-1.safetensors": "1"},
        {"config.json": "{}", "model-1.safetensors": "1", "model.safetensors.index.json": INDEX_OF_TWO},
        {"config.json": "{}", "model.safetensors": "1", "model.safetensors.index.json": "{"},
        {"config.json": "{}", "model.safetensors": "1", "model.safetensors.index.json": "[]"},
        {"config.json": "{}", "model.safetensors": "1", "model.safetensors.index.json": "null"},
        {"config.json": "{}", "model.safetensors": "1", "model.safetensors.index.json": {}},
        {"config.json": "{}", "model.safetensors": "1", "model.safetensors.index.json": {"weight_map": {}}},
        {"config.json": "{}", "model.safetensors": "1", "model.safetensors.index.json": {"weight_map": []}},
        {
            "config.json": "{}",
            "model.safetensors": "1",
            "model.safetensors.index.json": {"weight_map": {"a": 5}},
        },
        {
            "config.json": "{}",
            "model.safetensors": "1",
            "model.safetensors.index.json": {"weight_map": {"a": []}},
        },
        {"config.json": "{}", "model.safetensors": "1", "model.safetensors.index.json": b"\xff\xfe"},
        {"config.json": None, "model.safetensors": "1"},
    ],
    ids=[
        "no config",
        "no weights",
        "shards without index",
        "a shard is missing",
        "index cut short",
        "index a list",
        "index null",
        "index empty",
        "no shards",
        "shards a list",
        "shard a number",
        "shard a list",
        "index not text",
        "config a folder",
    ],
)
def test_a_merged_model_that_is_not_whole_is_left_out_and_the_adapter_published(folder, merged):
    root = folder(
        {"adapter_model.safetensors": "a", "adapter_config.json": "{}"}
        | {f"merged_model/{path}": content for path, content in merged.items()}
    )
    stock = take_stock(root)
    assert (stock.root, stock.kind) == (root, "adapter")
    assert paths(stock) == ["adapter_config.json", "adapter_model.safetensors"]
    left = dict(stock.left_out)
    assert {path for path in left if path.startswith("merged_model/")} == {
        f"merged_model/{path}" for path, content in merged.items() if content is not None
    }
    assert set(left.values()) == {"merged_model/ is not whole"}
    assert [one.sentence.partition(":")[0] for one in stock.remarks] == [
        "merged_model/ is not whole and stays behind"
    ]


def test_a_folder_whose_name_only_begins_like_merged_model_is_an_ordinary_one(folder):
    root = folder(
        {"model.safetensors": "w", "merged_model_notes/x.txt": "n", "merged_model/config.json": "{}"}
    )
    assert paths(take_stock(root)) == ["merged_model_notes/x.txt", "model.safetensors"]


def test_a_file_called_merged_model_is_an_ordinary_file(folder):
    assert paths(take_stock(folder({"model.safetensors": "w", "merged_model": "x"}))) == [
        "merged_model",
        "model.safetensors",
    ]


def test_a_missing_folder_is_refused_with_place_and_cure(tmp_path):
    assert refusal(tmp_path / "nowhere") == (
        f"The output folder {tmp_path}/nowhere does not exist.",
        "Set OUTPUT_DIR (or --output-dir) to the folder the training saved its model in.",
    )


def test_a_file_instead_of_a_folder_is_refused_with_place_and_cure(tmp_path):
    (tmp_path / "file").write_text("x")
    message, hint = refusal(tmp_path / "file")
    assert message == f"The output folder {tmp_path}/file is not a folder."
    assert hint == "Set OUTPUT_DIR (or --output-dir) to the folder the training saved its model in."
    assert (
        refusal(tmp_path / "file" / "below")[0] == f"The output folder {tmp_path}/file/below does not exist."
    )


def test_a_dangling_link_instead_of_a_folder_is_refused(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert refusal(tmp_path / "link")[0] == f"The output folder {tmp_path}/link does not exist."


def test_an_empty_folder_is_refused_with_place_and_cure(folder):
    root = folder({})
    assert refusal(root) == (
        f"No model weights to publish in {root}.",
        "Let the training script end with trainer.save_model(), or set OUTPUT_DIR to where it saved it.",
    )


def test_a_folder_with_everything_but_weights_is_refused(folder):
    root = folder({"config.json": "{}", "tokenizer.json": "{}", "README.md": "x"})
    assert refusal(root)[0] == f"No model weights to publish in {root}."


def test_a_folder_that_cannot_be_listed_is_refused_and_not_skipped(folder, monkeypatch):
    root = folder({"model.safetensors": "w", "sub/x.txt": "x"})
    real = os.scandir

    def scandir(path):
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert refusal(root) == (
        f"{root}/sub cannot be read: Permission denied.",
        (
            "Nobody knows what it holds: run the agent as the training's user, or name the folder in "
            "AGENT_EXCLUDE."
        ),
    )


def test_a_link_inside_the_folder_is_published_as_the_file_it_points_to(folder):
    root = folder({"weights/real.safetensors": "weights"})
    (root / "model.safetensors").symlink_to("weights/real.safetensors")
    stock = take_stock(root)
    assert paths(stock) == ["model.safetensors", "weights/real.safetensors"]
    assert stock.get("model.safetensors").size_bytes == 7


@pytest.mark.parametrize("target", ["absolute", "relative"])
def test_a_link_out_of_the_folder_is_not_followed(folder, tmp_path, target):
    (tmp_path / "secret.txt").write_text("x")
    root = folder({"model.safetensors": "w"})
    (root / "notes.txt").symlink_to(tmp_path / "secret.txt" if target == "absolute" else "../secret.txt")
    stock = take_stock(root)
    assert paths(stock) == ["model.safetensors"]
    assert stock.left_out == (("notes.txt", "a link out of the folder"),)


def test_a_link_to_a_sibling_whose_name_begins_the_same_is_out_of_the_folder(folder):
    (folder({"x.txt": "x"}, "out-other") / "x.txt").exists()
    root = folder({"model.safetensors": "w"})
    (root / "x.txt").symlink_to("../out-other/x.txt")
    assert take_stock(root).left_out == (("x.txt", "a link out of the folder"),)


def test_a_link_to_a_folder_is_not_followed(folder, tmp_path):
    folder({"x.txt": "x"}, "elsewhere")
    root = folder({"model.safetensors": "w", "inside/y.txt": "y"})
    (root / "far").symlink_to(tmp_path / "elsewhere")
    (root / "near").symlink_to("inside")
    (root / "self").symlink_to(".")
    stock = take_stock(root)
    assert paths(stock) == ["inside/y.txt", "model.safetensors"]
    assert stock.left_out == (
        ("far", "a link out of the folder"),
        ("near", "not a regular file"),
        ("self", "not a regular file"),
    )


def test_broken_links_are_left_out(folder):
    root = folder({"model.safetensors": "w"})
    (root / "gone").symlink_to("nowhere")
    (root / "loop").symlink_to("loop")
    (root / "ping").symlink_to("pong")
    (root / "pong").symlink_to("ping")
    stock = take_stock(root)
    assert paths(stock) == ["model.safetensors"]
    assert stock.left_out == (
        ("gone", "a broken link"),
        ("loop", "a broken link"),
        ("ping", "a broken link"),
        ("pong", "a broken link"),
    )


def test_the_output_folder_itself_may_be_a_link(folder, tmp_path):
    root = folder({"model.safetensors": "w", "sub/x": "x"})
    (root / "link").symlink_to("sub/x")
    (tmp_path / "alias").symlink_to(root)
    assert paths(take_stock(tmp_path / "alias")) == ["link", "model.safetensors", "sub/x"]


def test_a_relative_output_folder_is_taken_as_it_is(folder, monkeypatch):
    monkeypatch.chdir(folder({"model.safetensors": "w"}).parent)
    assert paths(take_stock(Path("out"))) == ["model.safetensors"]


def test_a_pipe_is_left_out_without_being_opened(folder):
    root = folder({"model.safetensors": "w"})
    os.mkfifo(root / "pipe")
    os.mkfifo(root / "other.safetensors")
    stock = take_stock(root)
    assert paths(stock) == ["model.safetensors"]
    assert stock.left_out == (("other.safetensors", "not a regular file"), ("pipe", "not a regular file"))


def test_a_device_behind_a_link_is_left_out(folder):
    root = folder({"model.safetensors": "w"})
    (root / "zero.safetensors").symlink_to("/dev/zero")
    assert paths(take_stock(root)) == ["model.safetensors"]


def test_a_folder_called_like_weights_is_no_weights(folder):
    root = folder({"model.safetensors/x.txt": "x"})
    assert refusal(root)[0] == f"No model weights to publish in {root}."


def test_a_file_name_that_is_not_utf8_is_left_out_in_readable_form(folder):
    root = folder({"model.safetensors": "w"})
    Path(os.fsdecode(os.fsencode(root) + b"/bad\xff.txt")).write_text("x")
    stock = take_stock(root)
    assert paths(stock) == ["model.safetensors"]
    assert stock.left_out == (("bad?.txt", "its name is not UTF-8"),)


def test_a_thousand_files_are_no_trouble(folder):
    stock = take_stock(folder({f"d{n % 10}/f{n}.txt": "x" for n in range(1000)} | {"model.safetensors": "w"}))
    assert len(stock.files) == 1001
    assert stock.size_bytes == 1001


def until_its_stamp_moves(path, change):
    """Do `change` again until the file system's clock has ticked; it is a few milliseconds coarse."""
    before = path.stat().st_ctime_ns
    for _ in range(1_000_000):
        change()
        if path.stat().st_ctime_ns != before:
            return
    raise AssertionError("the file system's clock stands still")


@pytest.fixture
def stock(folder):
    return take_stock(folder({"model.safetensors": "weights", "config.json": "{}", "note.txt": "n"}))


def test_an_untouched_folder_has_not_changed(stock):
    (stock.root / "model.safetensors").read_bytes()
    assert stock.changed() == []


def test_a_rewrite_of_the_same_size_is_noticed(stock):
    path = stock.root / "model.safetensors"
    until_its_stamp_moves(path, lambda: path.write_text("WEIGHTS"))
    assert stock.changed() == ["model.safetensors"]


def test_a_rewrite_with_its_old_time_restored_is_noticed(stock):
    path = stock.root / "model.safetensors"
    before = path.stat()

    def rewrite():
        path.write_text("WEIGHTS")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    until_its_stamp_moves(path, rewrite)
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert stock.changed() == ["model.safetensors"]


def test_a_replacement_with_the_same_size_and_time_is_noticed(stock, tmp_path):
    path = stock.root / "model.safetensors"
    shutil.copy2(path, tmp_path / "new")
    (tmp_path / "new").replace(path)
    assert stock.changed() == ["model.safetensors"]


def test_growing_and_removal_are_noticed(stock):
    (stock.root / "note.txt").write_text("longer")
    (stock.root / "config.json").unlink()
    assert stock.changed() == ["config.json", "note.txt"]


def test_a_link_that_points_elsewhere_now_is_noticed(folder):
    root = folder({"a.safetensors": "one", "b.safetensors": "two"})
    (root / "model.safetensors").symlink_to("a.safetensors")
    stock = take_stock(root)
    (root / "model.safetensors").unlink()
    (root / "model.safetensors").symlink_to("b.safetensors")
    assert stock.changed() == ["model.safetensors"]


def test_a_stamp_is_what_the_file_system_says_of_the_file_behind_a_link(tmp_path):
    (tmp_path / "x").write_text("12345")
    (tmp_path / "link").symlink_to("x")
    found = (tmp_path / "x").stat()
    assert vars(Stamp.of(tmp_path / "link")) == {
        "size_bytes": 5,
        "mtime_ns": found.st_mtime_ns,
        "ctime_ns": found.st_ctime_ns,
        "inode": found.st_ino,
        "device": found.st_dev,
    }


@pytest.mark.parametrize("part", ["size_bytes", "mtime_ns", "ctime_ns", "inode", "device"])
def test_every_part_of_a_stamp_counts(tmp_path, part):
    (tmp_path / "x").write_text("x")
    stamp = Stamp.of(tmp_path / "x")
    other = Stamp(**{**vars(stamp), part: getattr(stamp, part) + 1})
    assert stamp == Stamp.of(tmp_path / "x")
    assert stamp != other
