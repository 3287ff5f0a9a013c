"""Real outputs, broken in every way that disks, merges and people break them: found, with the file named."""

from __future__ import annotations

import json
import shutil
import struct
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize

from agent.artifact import Rules, check, read_training, take_stock
from agent.errors import ArtifactError
from tests.conftest import FIXTURES
from tests.layouts import LAYOUTS, UNPUBLISHABLE

INDEX = "model.safetensors.index.json"
WEIGHTS = {
    "sft_lora": ["adapter_model.safetensors"],
    "dpo_lora": ["adapter_model.safetensors"],
    "sft_full": ["model.safetensors"],
    "sharded": [f"model-0000{number}-of-00004.safetensors" for number in (1, 2, 3, 4)],
}
DOCUMENTS = {
    "sft_lora": ["adapter_config.json", "tokenizer.json", "tokenizer_config.json"],
    "sft_full": ["config.json", "generation_config.json", "tokenizer.json"],
    "sharded": ["config.json", INDEX],
}
EVERY_WEIGHT = [(name, path) for name, paths in WEIGHTS.items() for path in paths]
EVERY_DOCUMENT = [(name, path) for name, paths in DOCUMENTS.items() for path in paths]
quick = settings(deadline=None, max_examples=60)


@contextmanager
def broken(name):
    """A copy of a real output, to be broken; hypothesis needs a new one for each example."""
    with tempfile.TemporaryDirectory() as tmp:
        root = Path(tmp, name)
        shutil.copytree(
            FIXTURES / name, root, ignore=shutil.ignore_patterns("checkpoint-*", "trainer_state.json")
        )
        yield root


def findings(root):
    stock = take_stock(root)
    return check(stock, read_training(root, None), Rules()).findings


def refused(root):
    """Everything that the refusal says, if the folder is refused."""
    try:
        return " ".join(one.sentence for one in findings(root) if one.refuses)
    except ArtifactError as error:
        return error.message


@given(st.sampled_from(EVERY_WEIGHT), st.floats(0, 1, exclude_max=True))
@example(("sharded", "model-00004-of-00004.safetensors"), 0.9999999)
@example(("sft_lora", "adapter_model.safetensors"), 0.0)
@quick
def test_weights_cut_short_anywhere(which, where):
    name, path = which
    with broken(name) as root:
        content = (root / path).read_bytes()
        (root / path).write_bytes(content[: int(where * len(content))])
        assert path in refused(root)


@given(st.sampled_from(EVERY_WEIGHT), st.binary(min_size=1, max_size=9))
@quick
def test_weights_that_are_longer_than_they_say(which, more):
    name, path = which
    with broken(name) as root:
        with (root / path).open("ab") as stream:
            stream.write(more)
        assert path in refused(root)


@given(st.sampled_from(EVERY_DOCUMENT), st.floats(0, 1, exclude_max=True))
@quick
def test_documents_cut_short_anywhere(which, where):
    name, path = which
    with broken(name) as root:
        content = (root / path).read_bytes()
        left = content[: int(where * len(content.rstrip()))]
        (root / path).write_bytes(left)
        assert path in refused(root)


def tensors(content):
    return sorted((name, one["dtype"], tuple(one["shape"])) for name, one in deserialize(content))


@given(st.sampled_from(EVERY_WEIGHT), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
@settings(deadline=None, max_examples=200)
def test_a_header_byte_that_flipped_is_found_or_makes_another_valid_model(which, where, flip):
    """A flip may rename a tensor, or call its floats integers: then the file alone cannot tell.

    In a sharded model the index can.
    """
    name, path = which
    with broken(name) as root:
        content = bytearray((root / path).read_bytes())
        end = 8 + struct.unpack("<Q", content[:8])[0]
        before = tensors(bytes(content))
        content[int(where * end)] ^= flip
        (root / path).write_bytes(content)
        told = refused(root)
        try:
            after = tensors(bytes(content))
        except (SafetensorError, UnicodeDecodeError):
            assert path in told
            return
        if [one[0] for one in after] == [one[0] for one in before]:
            changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
            assert told or all(old[2] == new[2] for old, new in changed), "only a dtype may pass unseen"
        elif name == "sharded":
            assert INDEX in told


@given(st.sampled_from(WEIGHTS["sharded"]))
@quick
def test_a_shard_that_is_missing(shard):
    with broken("sharded") as root:
        (root / shard).unlink()
        assert shard in refused(root)


@given(st.permutations(WEIGHTS["sharded"]))
@quick
def test_shards_that_changed_places(order):
    assume(order != WEIGHTS["sharded"])
    with broken("sharded") as root:
        contents = {shard: (root / shard).read_bytes() for shard in order}
        for shard, taken in zip(WEIGHTS["sharded"], order, strict=True):
            (root / shard).write_bytes(contents[taken])
        assert INDEX in refused(root)


@given(
    st.sampled_from(["drop", "redirect", "rename", "invent", "smaller", "no map", "empty map", "outside"]),
    st.integers(0, 20),
    st.sampled_from(WEIGHTS["sharded"]),
)
@quick
def test_an_index_that_was_edited(how, number, shard):
    with broken("sharded") as root:
        index = json.loads((root / INDEX).read_text())
        mapped = index["weight_map"]
        tensor = sorted(mapped)[number]
        if how == "drop":
            del mapped[tensor]
        elif how == "redirect":
            assume(mapped[tensor] != shard)
            mapped[tensor] = shard
        elif how == "rename":
            mapped[f"{tensor}s"] = mapped.pop(tensor)
        elif how == "invent":
            mapped["model.invented.weight"] = shard
        elif how == "smaller":
            index["metadata"]["total_size"] -= number + 1
        elif how == "no map":
            del index["weight_map"]
        elif how == "empty map":
            index["weight_map"] = {}
        else:
            mapped[tensor] = f"../{shard}"
        (root / INDEX).write_text(json.dumps(index))
        assert INDEX in refused(root)


def test_a_total_size_that_is_too_large_is_told_and_published():
    """Trainers that save views write one: it is no sign that anything is missing."""
    with broken("sharded") as root:
        index = json.loads((root / INDEX).read_text())
        index["metadata"]["total_size"] += 1
        (root / INDEX).write_text(json.dumps(index))
        (found,) = findings(root)[:1]
        assert (found.path, found.kind, found.refuses) == (INDEX, "size-mismatch", False)


@pytest.mark.parametrize("name", sorted(path.name for path in FIXTURES.iterdir()))
def test_no_real_output_raises_a_false_alarm(name):
    assert refused(FIXTURES / name) == ""


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_no_layout_of_another_trainer_raises_a_false_alarm(name, tmp_path):
    layout = LAYOUTS[name]
    layout.make(tmp_path)
    stock = take_stock(tmp_path)
    report = check(stock, read_training(stock.root, None, beside=tmp_path), Rules())
    assert [one.sentence for one in report.findings if one.refuses] == []
    assert stock.kind == layout.kind
    inside = "" if stock.root == tmp_path else f"{stock.root.relative_to(tmp_path).as_posix()}/"
    published = {inside + file.path for file in stock.files}
    assert layout.published <= published
    assert not layout.left_out_samples & published


@pytest.mark.parametrize("name", sorted(UNPUBLISHABLE))
def test_a_run_that_left_no_model_is_refused(name, tmp_path):
    UNPUBLISHABLE[name](tmp_path)
    assert refused(tmp_path)
