"""An index and its shards belong together, or the difference is told."""

from __future__ import annotations

import json

import pytest

from agent.artifact.safetensors import read_header
from agent.artifact.shards import check_index, strays
from tests.conftest import FIXTURES
from tests.unit.tensors import header_of, local

NAME = "model.safetensors.index.json"
ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
HEADERS = {
    ONE: header_of({"a": ("F32", [2, 2]), "b": ("BF16", [4])}),
    TWO: header_of({"c": ("F32", [8])}),
}
MAP = {"a": ONE, "b": ONE, "c": TWO}
REAL = FIXTURES / "sharded"


@pytest.fixture
def checked(tmp_path):
    """What is found of an index in `folder` of the repo, the shards being as above if not told otherwise."""

    def check(document, headers=HEADERS, present=None, folder=""):
        source = tmp_path / NAME
        source.write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())
        here = {folder + name: header for name, header in headers.items()}
        present = set(here) if present is None else present
        return list(check_index(local(source, folder + NAME), here, present))

    return check


@pytest.fixture
def straying(tmp_path):
    """What is found of these paths; an index comes with the names of its shards, or with what it holds."""

    def look(paths, indexes=()):
        files = []
        for number, (path, content) in enumerate(dict(indexes).items()):
            source = tmp_path / str(number)
            shards = {str(place): name for place, name in enumerate(content)}
            source.write_bytes(
                content if isinstance(content, bytes) else json.dumps({"weight_map": shards}).encode()
            )
            files.append(local(source, path))
        return list(strays([*paths, *(file.path for file in files)], files))

    return look


def index(weight_map=MAP, **metadata):
    return {"metadata": metadata, "weight_map": weight_map}


def numbered(count, total, ending="safetensors", stem="model"):
    return [f"{stem}-{number:05}-of-{total:05}.{ending}" for number in range(1, count + 1)]


def test_a_real_model_has_no_flaw():
    files = {path.name: path for path in REAL.iterdir()}
    headers = {name: read_header(path) for name, path in files.items() if path.suffix == ".safetensors"}
    assert list(check_index(local(files[NAME]), headers, files)) == []
    assert list(strays(list(files), [local(files[NAME])])) == []


def test_an_index_that_fits_has_no_flaw(checked):
    assert checked(index(total_size=56)) == []
    assert checked(index(total_size=56.0)) == []
    assert checked(index(), folder="adapter/deep/") == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged: not JSON: Expecting value in line 1"),
        (b"\xff\xfe\x00", "is damaged: not JSON that can be read"),
        (b"[" * 100_000, "is damaged: nested too deep"),
        (b"9" * 5000, "is damaged: not JSON that can be read"),
        (b"[]", "is damaged: it has no weight_map from tensors to shards"),
        (b"{}", "is damaged: it has no weight_map from tensors to shards"),
        (b'{"weight_map": {}}', "is damaged: it has no weight_map from tensors to shards"),
        (b'{"weight_map": {"a": 1}}', "is damaged: it has no weight_map from tensors to shards"),
        (b'{"weight_map": ["a"]}', "is damaged: it has no weight_map from tensors to shards"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_damaged_index(checked, content, message):
    [found] = checked(content)
    assert (found.path, found.kind, found.message, found.refuses) == (NAME, "damaged", message, True)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../x.safetensors", "a/../../x", "./x", "a//b", "", "a\\b", "a/"], ids=repr
)
def test_a_shard_is_a_file_of_the_index_s_folder(checked, name):
    [found] = checked(index({"a": name}), present={name})
    assert found.message == f"names shards that are no files of its folder: {json.dumps(name)}"


def test_loaders_need_a_metadata_object(checked):
    for metadata in ({}, {"metadata": None}, {"metadata": []}):
        [found] = checked({"weight_map": MAP, **metadata})
        assert (found.kind, found.message, found.refuses) == ("damaged", "has no metadata object", True)


def test_a_missing_shard_is_named(checked):
    [found] = checked(index(), {ONE: HEADERS[ONE]}, folder="sub/")
    assert (found.path, found.kind) == (f"sub/{NAME}", "shard-missing")
    assert found.message == f'names shards that are missing: "sub/{TWO}"'


def test_a_damaged_shard_is_not_told_again(checked):
    assert checked(index(total_size=1), {ONE: HEADERS[ONE], TWO: None}) == []


def test_pickled_shards_need_only_be_there(checked):
    shards = numbered(2, 2, "bin", "pytorch_model")
    weight_map = dict(zip("abc", shards * 2, strict=False))
    assert checked(index(weight_map, total_size=5), {}, present=shards) == []
    [found] = checked(index(weight_map), {}, present=shards[:1])
    assert found.message == f'names shards that are missing: "{shards[1]}"'


def test_tensors_that_are_not_where_the_index_puts_them(checked):
    [found] = checked(index({**MAP, "d": TWO, "e": ONE}))
    assert found.kind == "index-mismatch"
    assert found.message == (
        'does not fit its shards: 2 tensors are not in the shard that is named for it: "d", "e"'
    )


def test_tensors_that_the_index_does_not_know(checked):
    [found] = checked(index({"b": ONE, "c": TWO}))
    assert found.message == 'does not fit its shards: 1 tensor is in a shard, but not in the weight_map: "a"'


def test_a_tensor_in_two_shards(checked):
    twice = {**HEADERS, TWO: header_of({"a": ("F32", [2, 2]), "c": ("F32", [8])})}
    [found] = checked(index(), twice)
    assert found.message == 'does not fit its shards: 1 tensor is in more than one shard: "a"'


def test_the_index_of_another_model_is_told_in_a_few_lines(checked):
    found = checked(index({f"t{number}": ONE for number in range(10_000)} | {"c": TWO}))
    assert [one.message.removeprefix("does not fit its shards: ") for one in found] == [
        '10,000 tensors are not in the shard that is named for it: "t0", "t1", "t2", … and 9,997 more',
        '2 tensors are in a shard, but not in the weight_map: "a", "b"',
    ]


@pytest.mark.parametrize(
    ("told", "refuses"),
    [(55, True), (55.5, True), (-1, True), (float("nan"), True), (57, False), (10**400, False)],
)
def test_a_total_size_that_is_too_small_is_refused_and_one_too_large_is_told(checked, told, refuses):
    [found] = checked(index(total_size=told))
    assert (found.kind, found.refuses) == ("size-mismatch", refuses)
    assert found.message == f"tells a total_size of {str(told)[:20]}, but the tensors have 56 bytes"


@pytest.mark.parametrize("told", ["56", None, True, [56]], ids=repr)
def test_a_total_size_of_another_type_says_nothing(checked, told):
    assert checked(index(total_size=told)) == []


def test_shards_that_no_index_names(straying):
    [found] = straying([*numbered(2, 2), *numbered(1, 3)], {NAME: numbered(2, 2)})
    assert (found.path, found.kind, found.refuses) == (numbered(1, 3)[0], "stray-shard", False)
    assert found.message == "is one of 1 shards that no index names: nobody would load them"


@pytest.mark.parametrize("folder", ["", "text_encoder/"])
@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_shards_without_an_index(straying, folder, ending):
    shards = [folder + name for name in numbered(2, 2, ending)]
    [found] = straying([*shards, "elsewhere/" + NAME])
    assert (found.path, found.kind, found.refuses) == (shards[0], "index-missing", True)
    assert found.message == "is one of 2 shards, but no index is there to name them"


def test_shards_beside_the_whole_file_are_strays(straying):
    [found] = straying(["model.safetensors", *numbered(2, 2)])
    assert (found.kind, found.refuses) == ("stray-shard", False)


@pytest.mark.parametrize("indexes", [{}, {NAME: [numbered(4, 4)[0], numbered(4, 4)[3]]}])
def test_a_set_with_a_gap_in_its_numbers(straying, indexes):
    first, _, _, last = numbered(4, 4)
    [found] = straying([first, last], indexes)
    assert (found.path, found.kind, found.refuses) == (first, "shard-missing", True)
    assert found.message == "belongs to shards of which, by their numbers, 2 more must be there"


def test_a_shard_that_the_index_misses_too_is_told_by_the_index_alone(straying):
    assert straying(numbered(1, 2), {NAME: numbered(2, 2)}) == []


def test_numbers_from_zero_or_beyond_the_total_make_no_gap(straying):
    shards = [f"model-{number:05}-of-00002.safetensors" for number in range(3)]
    assert straying(shards, {NAME: shards}) == []
    assert straying(shards[:2], {NAME: shards[:2]}) == []


def test_beside_a_damaged_index_nothing_can_be_said(straying):
    assert straying(numbered(2, 3), {NAME: b"{"}) == []


@pytest.mark.parametrize(
    "paths",
    [
        ["model.safetensors"],
        ["model-00001-of-00003.gguf"],
        ["a-1-of-2.safetensors"],
        [*numbered(2, 2, stem="model.fp16"), "model.safetensors.index.fp16.json"],
    ],
    ids=lambda paths: paths[0],
)
def test_names_that_are_no_numbered_set_or_have_some_index(straying, paths):
    assert [one for one in straying(paths) if one.refuses] == []


def test_the_single_file_shadows_the_shards(straying):
    [found] = straying(["model.safetensors", *numbered(2, 2)], {NAME: numbered(2, 2)})
    assert (found.path, found.kind, found.refuses) == (NAME, "shadowed", True)
    assert found.message == "and its shards are ignored by loaders: model.safetensors comes first"
    below = [f"vae/{name}" for name in ("model.safetensors", *numbered(2, 2))]
    [found] = straying(below, {f"vae/{NAME}": numbered(2, 2)})
    assert (found.kind, found.refuses) == ("shadowed", False)


def test_a_name_in_an_index_is_not_taken_for_a_file(straying):
    assert straying([], {NAME: ["\x1b[31m-00001-of-00002.safetensors"]}) == []


def test_an_index_larger_than_any_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("agent.artifact.shards._LARGEST_INDEX", 100)
    (tmp_path / NAME).write_bytes(b" " * 101)
    [found] = check_index(local(tmp_path / NAME), {}, ())
    assert found.message == "has more than 100 bytes, too many to be meant"
