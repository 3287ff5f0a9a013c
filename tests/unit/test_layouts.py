"""The made folders are what they claim to be: readable by official libraries, consistent, always the same."""

from __future__ import annotations

import json
import math
import os
import struct
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize

from tests.conftest import ROOT
from tests.layouts import KINDS, LAYOUTS, UNPUBLISHABLE, llama
from tests.layouts.tensors import write_safetensors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MOST_BYTES = 300_000
MAKE = {name: layout.make for name, layout in LAYOUTS.items()} | dict(UNPUBLISHABLE)
HARMLESS = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch BFloat16Storage",
    "torch FloatStorage",
}
FLOATS = {"F64": "d", "F32": "f", "F16": "e"}
_MAKE_ALL = """
import sys
from pathlib import Path
from tests.layouts import LAYOUTS, UNPUBLISHABLE
for name, layout in LAYOUTS.items():
    layout.make(Path(sys.argv[1], name))
for name, make in UNPUBLISHABLE.items():
    make(Path(sys.argv[1], name))
"""
each_folder = pytest.mark.parametrize("name", MAKE)
each_layout = pytest.mark.parametrize("name", LAYOUTS)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every folder, made once; tests only read."""
    root = tmp_path_factory.mktemp("layouts")
    for name, make in MAKE.items():
        make(root / name)
    return root


def _files(folder: Path, *endings: str) -> list[Path]:
    return [
        path for path in sorted(folder.rglob("*")) if path.is_file() and path.name.endswith(endings or "")
    ]


def _tensors(path: Path) -> dict[str, dict[str, Any]]:
    return dict(deserialize(path.read_bytes()))


def _values(tensor: dict[str, Any]) -> tuple[float, ...]:
    data = bytes(tensor["data"])
    if tensor["dtype"] == "BF16":
        data = b"".join(b"\0\0" + data[at : at + 2] for at in range(0, len(data), 2))
    code = FLOATS.get(tensor["dtype"], "f")
    return struct.unpack(f"<{len(data) // struct.calcsize(code)}{code}", data)


@each_layout
def test_a_layout_names_files_that_are_there(made: Path, name: str) -> None:
    layout = LAYOUTS[name]
    found = {path.relative_to(made / name).as_posix() for path in _files(made / name)}
    assert layout.kind in KINDS
    assert layout.published
    assert layout.published | layout.left_out_samples <= found
    assert not layout.published & layout.left_out_samples


@each_layout
def test_a_generator_names_its_source(name: str) -> None:
    assert "Source: " in str(LAYOUTS[name].make.__doc__)


def test_every_kind_has_a_layout() -> None:
    assert {layout.kind for layout in LAYOUTS.values()} == KINDS


@each_folder
def test_a_folder_is_small(made: Path, name: str) -> None:
    assert sum(path.stat().st_size for path in _files(made / name)) < MOST_BYTES


def test_another_process_makes_the_same_bytes(made: Path, tmp_path: Path) -> None:
    """Sets are walked in another order there: nothing written may depend on it."""
    environ = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "1"}
    subprocess.run([sys.executable, "-c", _MAKE_ALL, str(tmp_path)], env=environ, cwd=ROOT, check=True)
    first, second = (
        {path.relative_to(root).as_posix(): path.read_bytes() for path in _files(root)}
        for root in (made, tmp_path)
    )
    assert first.keys() == second.keys()
    assert [path for path in first if first[path] != second[path]] == []


@each_folder
def test_safetensors_open_and_hold_finite_values(made: Path, name: str) -> None:
    for path in _files(made / name, ".safetensors"):
        tensors = _tensors(path)
        assert tensors or name == "zero3-empty-adapter"
        for tensor in tensors.values():
            if tensor["dtype"] in {"F32", "BF16"}:
                values = _values(tensor)
                assert all(map(math.isfinite, values))
                assert any(values)


@each_folder
def test_an_index_maps_every_tensor_of_every_shard(made: Path, name: str) -> None:
    for index in _files(made / name, ".index.json"):
        document = json.loads(index.read_text())
        size, found = 0, {}
        for shard in sorted(set(document["weight_map"].values())):
            for tensor, size_bytes in _shard(index.parent / shard):
                found[tensor] = shard
                size += size_bytes
        assert found == document["weight_map"]
        assert size == document["metadata"]["total_size"]


def _shard(path: Path) -> Iterator[tuple[str, int]]:
    """Names and sizes of the tensors in a shard of either format."""
    if path.suffix == ".safetensors":
        for name, tensor in _tensors(path).items():
            yield name, len(tensor["data"])
        return
    with zipfile.ZipFile(path) as archive:
        sizes = [entry.file_size for entry in archive.infolist() if "/data/" in entry.filename]
        text = archive.read(f"{path.stem}/data.pkl")
    names = [name for name in llama.tensors() if struct.pack("<I", len(name)) + name.encode() in text]
    yield from zip(names, sizes, strict=True)


@each_folder
def test_documents_parse(made: Path, name: str) -> None:
    for path in _files(made / name, ".json"):
        assert json.loads(path.read_text(encoding="utf-8"))
    for path in _files(made / name, ".jsonl"):
        assert all(
            json.loads(line)["current_steps"] for line in path.read_text(encoding="utf-8").splitlines()
        )


@each_folder
def test_an_adapter_is_what_its_config_says(made: Path, name: str) -> None:
    for path in _files(made / name, "adapter_config.json"):
        config = json.loads(path.read_text())
        weights = path.with_name("adapter_model.safetensors")
        tensors = _tensors(weights) if weights.is_file() else {}
        if config["peft_type"] != "LORA" or not tensors:
            continue
        assert {key.split(".")[-3] for key in tensors if ".lora_A." in key} <= set(config["target_modules"])
        assert all(any(f".{module}." in key for key in tensors) for module in config["target_modules"])
        for key, tensor in tensors.items():
            rank = next((rank for part, rank in config["rank_pattern"].items() if part in key), config["r"])
            assert ".lora_A." not in key or tensor["shape"][0] == rank
            assert ".lora_B." not in key or tensor["shape"][1] == rank
        assert config["use_dora"] == any("magnitude" in key for key in tensors)


@each_folder
def test_the_embedding_has_a_row_for_every_token(made: Path, name: str) -> None:
    for path in _files(made / name, "tokenizer.json"):
        document = json.loads(path.read_text())
        tokens = {*document["model"]["vocab"].values(), *(token["id"] for token in document["added_tokens"])}
        assert tokens == set(range(len(tokens)))
        for weights in path.parent.glob("*.safetensors"):
            for key, tensor in _tensors(weights).items():
                if key.endswith(("embed_tokens.weight", "lm_head.weight")):
                    assert tensor["shape"][0] == len(tokens)


@pytest.mark.parametrize(
    "path",
    [
        "axolotl-zero3-recovered/pytorch_model.bin",
        "peft-adapter-bin/adapter_model.bin",
        "pytorch-bin/pytorch_model.bin",
        "pytorch-sharded-bin/pytorch_model-00002-of-00002.bin",
        "pytorch-own-loop/model.pt",
    ],
)
def test_a_pickle_names_harmless_globals_only(made: Path, path: str) -> None:
    from picklescan.scanner import scan_file_path

    found = scan_file_path(str(made / path))
    names = {f"{one.module} {one.name}" for one in found.globals}
    assert not found.scan_err
    assert found.issues_count == 0
    assert names <= HARMLESS
    assert "torch._utils _rebuild_tensor_v2" in names


@pytest.mark.parametrize(
    "path", ["unsloth-gguf/model.Q8_0.gguf", "unsloth-gguf-beside-config/unsloth.Q8_0.gguf"]
)
def test_a_gguf_file_is_of_version_3(made: Path, path: str) -> None:
    content = (made / path).read_bytes()
    magic, version, tensors, _ = struct.unpack_from("<4sIQQ", content)
    assert (magic, version, tensors) == (b"GGUF", 3, len(llama.tensors()))
    assert len(content) % 32 == 0


def test_a_modelfile_names_the_file_beside_it(made: Path) -> None:
    for path in (
        *_files(made / "unsloth-gguf", "Modelfile"),
        *_files(made / "unsloth-gguf-beside-config", "Modelfile"),
    ):
        first = path.read_text().splitlines()[0]
        assert path.with_name(first.removeprefix("FROM ")).is_file()


def test_an_onnx_graph_names_its_data(made: Path) -> None:
    graph, data = ((made / "onnx" / name).read_bytes() for name in ("model.onnx", "model.onnx_data"))
    assert graph.count(b"model.onnx_data") == 2
    assert str(len(data) // 2).encode() in graph


@given(
    tensors=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
            lambda name: name != "__metadata__"
        ),
        st.tuples(
            st.sampled_from(["F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I64", "I8", "U8", "BOOL"]),
            st.lists(st.integers(0, 4), max_size=3).map(tuple),
        ),
        max_size=5,
    ),
    metadata=st.none() | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.text("abc")),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_tensors_can_be_written(
    tmp_path: Path, tensors: dict[str, Any], metadata: dict[str, str] | None
) -> None:
    write_safetensors(tmp_path / "any.safetensors", tensors, metadata)
    found = _tensors(tmp_path / "any.safetensors")
    assert {name: (tensor["dtype"], tuple(tensor["shape"])) for name, tensor in found.items()} == tensors
    for tensor in found.values():
        if tensor["dtype"] in {*FLOATS, "BF16"}:
            assert all(0 < abs(value) < 1 for value in _values(tensor))
        else:
            assert 0xFF not in tensor["data"]


def test_the_official_library_refuses_what_is_cut_short(made: Path) -> None:
    """So the tests above can fail."""
    content = (made / "unsloth-lora" / "adapter_model.safetensors").read_bytes()
    with pytest.raises(SafetensorError):
        deserialize(content[:-1])
