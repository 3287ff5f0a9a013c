"""A PEFT adapter's config speaks of the weights beside it, or the difference is told."""

from __future__ import annotations

import json

import pytest

from agent.artifact import adapter
from agent.artifact.adapter import check_adapter
from agent.artifact.safetensors import read_header
from tests.conftest import FIXTURES
from tests.unit.tensors import header_of, local

REAL = sorted(path.parent for path in FIXTURES.rglob("adapter_config.json"))
LAYER = "base_model.model.model.layers"


def lora(module, a, b, adapter=""):
    """The two matrices of a module as PEFT saves them."""
    return {f"{module}.lora_A{adapter}.weight": ("F32", a), f"{module}.lora_B{adapter}.weight": ("F32", b)}


TWO = {
    **lora(f"{LAYER}.0.self_attn.q_proj", [4, 16], [16, 4]),
    **lora(f"{LAYER}.1.self_attn.v_proj", [4, 16], [8, 4]),
}
Q = f"{LAYER}.0.self_attn.q_proj"
V = f"{LAYER}.1.self_attn.v_proj"


@pytest.fixture
def checked(tmp_path):
    """What is found of an adapter in `folder`, from its config and the shapes of its tensors."""

    def check(tensors=TWO, folder="", **settings):
        config = {"peft_type": "LORA", "r": 4, "target_modules": ["q_proj", "v_proj"], **settings}
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
        (tmp_path / "adapter_model.safetensors").write_bytes(b"")
        prefix = f"{folder}/" if folder else ""
        return list(
            check_adapter(
                local(tmp_path / "adapter_config.json", f"{prefix}adapter_config.json"),
                local(tmp_path / "adapter_model.safetensors", f"{prefix}adapter_model.safetensors"),
                header_of(tensors),
                folder,
            )
        )

    return check


@pytest.mark.parametrize("folder", REAL, ids=lambda path: str(path.relative_to(FIXTURES)))
def test_a_real_adapter_has_no_flaw(folder):
    config, weights = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    assert list(check_adapter(local(config), local(weights), read_header(weights), "")) == []


def test_a_real_adapter_with_another_config_has(tmp_path):
    weights = REAL[0] / "adapter_model.safetensors"
    config = json.loads((REAL[0] / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"r": 8, "target_modules": ["o_proj"]}))
    rank, modules = check_adapter(
        local(tmp_path / "adapter_config.json"), local(weights), read_header(weights), ""
    )
    assert (rank.kind, rank.path, rank.refuses) == ("adapter-mismatch", "adapter_model.safetensors", True)
    assert rank.message.startswith("does not fit adapter_config.json: 8 LoRA matrices are not of rank 8, ")
    assert rank.message.endswith("… and 5 more; the first has the shape [4, 32]")
    assert modules.message == (
        "holds LoRA weights of modules that are not in target_modules: "
        '"model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.v_proj", '
        '"model.layers.1.self_attn.q_proj", … and 1 more'
    )


def test_weights_without_a_config(tmp_path):
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    weights = local(tmp_path / "adapter_model.safetensors", "a/adapter_model.safetensors")
    [found] = check_adapter(None, weights, header_of(TWO), "a")
    assert (found.path, found.kind, found.refuses) == (weights.path, "adapter-config-missing", True)
    assert list(check_adapter(None, None, None, "a")) == []


@pytest.mark.parametrize(("folder", "where"), [("", "the folder"), ("a/b", "a/b/")])
def test_a_config_without_weights(tmp_path, folder, where):
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "IA3"}')
    [found] = check_adapter(local(tmp_path / "adapter_config.json"), None, None, folder)
    assert (found.path, found.kind, found.refuses) == ("adapter_config.json", "adapter-weights-missing", True)
    assert f"no adapter weights are in {where}:" in found.message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged: not JSON: Expecting value in line 1"),
        (b"[" * 100_000, "is damaged: nested too deep"),
        (b"[]", "is no adapter's config: it has no peft_type"),
        (b'{"r": 4}', "is no adapter's config: it has no peft_type"),
        (b'{"peft_type": null}', "is no adapter's config: it has no peft_type"),
        (b'{"peft_type": "LORA", "r": 0}', "has no rank: r is no whole number above 0"),
        (b'{"peft_type": "LORA", "r": "4"}', "has no rank: r is no whole number above 0"),
        (b'{"peft_type": "lora", "r": true}', "has no rank: r is no whole number above 0"),
        (b'{"peft_type": "Lora", "r": 4.0}', "has no rank: r is no whole number above 0"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_damaged_config(tmp_path, content, message):
    (tmp_path / "adapter_config.json").write_bytes(content)
    file = local(tmp_path / "adapter_config.json")
    [found] = check_adapter(file, file, header_of(TWO), "")
    assert (found.path, found.kind, found.message) == ("adapter_config.json", "damaged", message)


def test_a_config_larger_than_any_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(adapter, "_LARGEST_CONFIG", 100)
    (tmp_path / "adapter_config.json").write_bytes(b" " * 101)
    file = local(tmp_path / "adapter_config.json")
    [found] = check_adapter(file, file, None, "")
    assert found.message == "has more than 100 bytes, too many to be meant"


def test_an_adapter_that_fits_has_no_flaw(checked):
    assert checked() == []
    assert checked(folder="named") == []
    assert checked(lora(Q, [8, 16], [16, 8]), r=8) == []


def test_the_rank_is_lora_config_s_own_if_the_file_tells_none(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    file = local(tmp_path / "adapter_config.json")
    assert list(check_adapter(file, file, header_of(lora(Q, [8, 16], [16, 8])), "")) == []
    assert len(list(check_adapter(file, file, header_of(TWO), ""))) == 1


@pytest.mark.parametrize(
    ("tensors", "wrong"),
    [
        (lora(Q, [8, 16], [16, 8]), 2),
        (lora(Q, [4, 16], [16, 8]), 1),
        (lora(Q, [16, 4], [16, 4]), 1),
        (lora(Q, [4, 16], [4, 16]), 1),
        (lora(Q, [0], [0]), 2),
        (lora(Q, [4], [16, 4]), 1),
        (lora(Q, [], []), 2),
        (lora(Q, [8, 3, 5, 5], [8, 8, 1, 1]), 2),
        (lora(Q, [4, 3, 5, 5], [8, 3, 1, 1]), 1),
        (lora(Q, [4, 3, 5, 5], [8, 0, 1, 1]), 1),
        ({f"{Q}.lora_embedding_A": ("F32", [64, 4]), f"{Q}.lora_embedding_B": ("F32", [16, 4])}, 1),
    ],
    ids=str,
)
def test_matrices_of_another_rank(checked, tensors, wrong):
    [found] = checked(tensors)
    assert f": {wrong} LoRA matrices are not of rank 4, " in found.message
    assert "ZeRO-3" in found.hint


@pytest.mark.parametrize(
    "tensors",
    [
        lora(Q, [4, 3, 5, 5], [8, 4, 1, 1]),
        lora(Q, [4, 3, 5, 5], [8, 1, 1, 1]),  # of a convolution with four groups
        lora(Q, [4, 16], [16, 4], adapter=".default"),
        {**lora(Q, [4, 16], [16, 4]), f"{Q}.lora_B.bias": ("F32", [16])},
        {**lora(Q, [4, 16], [16, 4]), f"{Q}.lora_magnitude_vector": ("F32", [16])},
        {**lora(Q, [4, 16], [16, 4]), "base_model.model.lm_head.weight": ("F32", [64, 16])},
        {f"{Q}.lora_embedding_A": ("F32", [4, 64]), f"{Q}.lora_embedding_B": ("F32", [16, 4])},
        {f"{Q}.lora_embedding_A.x": ("F32", [4, 64]), f"{Q}.lora_embedding_B.x": ("F32", [16, 4])},
    ],
    ids=str,
)
def test_what_peft_also_writes(checked, tensors):
    assert checked(tensors) == []


def test_half_a_pair(checked):
    [found] = checked({**TWO, f"{Q}.lora_A.other.weight": ("F32", [4, 16])})
    assert found.message == f'holds half a pair of lora_A and lora_B: "{Q}.lora_A.other.weight"'
    [found] = checked({f"{Q}.lora_B.weight": ("F32", [16, 4])})
    assert found.message == f'holds half a pair of lora_A and lora_B: "{Q}.lora_B.weight"'


@pytest.mark.parametrize(
    ("pattern", "v_rank"),
    [
        ({"v_proj": 2}, 2),
        ({"self_attn.v_proj": 2}, 2),
        ({"model.layers.1.self_attn.v_proj": 2}, 2),
        ({"layers.1.self_attn.v_proj": 2, "v_proj": 3}, 2),
        ({"v_proj": 3, "layers.1.self_attn.v_proj": 2}, 3),
        ({"proj": 2, "layers.0.self_attn.v_proj": 3, "self_attn": 5}, 4),
        ({"v_proj": "2"}, None),
        ({"v_proj": [2]}, None),
        (["v_proj"], 4),
    ],
    ids=str,
)
def test_the_first_rank_pattern_that_ends_the_name_counts(checked, pattern, v_rank):
    for rank in (2, 3, 4):
        tensors = {**lora(Q, [4, 16], [16, 4]), **lora(V, [rank, 16], [8, rank])}
        found = checked(tensors, rank_pattern=pattern)
        assert [V in one.message for one in found] == ([] if rank == v_rank else [True])


def test_a_rank_pattern_with_regular_expressions_allows_each_of_its_ranks(checked):
    pattern = {r"^model\.layers\.[0-9]+\.self_attn\.v_proj": 2, "(a+)+$": 3}
    for rank in (2, 3, 4):
        assert checked(lora(V, [rank, 16], [8, rank]), rank_pattern=pattern) == []
    [found] = checked(lora(V, [5, 16], [8, 5]), rank_pattern=pattern)
    assert ": 2 LoRA matrices are not of its ranks, " in found.message
    assert "sorts them when it saves" in found.hint


@pytest.mark.parametrize(
    ("targets", "fit"),
    [
        (["q_proj", "v_proj"], True),
        (["self_attn.q_proj", "model.layers.1.self_attn.v_proj"], True),
        (["proj"], False),
        (["roj", "q_proj"], False),
        ([], False),
        ([None, {}], False),
        (None, True),
        ({"q_proj": 1}, True),
        ("all-linear", True),
        ("All-Linear", True),
        (r".*\.(q_proj|v_proj)", True),
        (r"model\.layers\.\d+\.self_attn\.[qv]_proj", True),
        (r".*\.q_proj", False),
        (r"(q_proj|v_proj)", False),
        ("(", True),  # PEFT will say so itself
    ],
    ids=str,
)
def test_weights_are_those_of_the_target_modules(checked, targets, fit):
    found = checked(target_modules=targets)
    assert [one.message.split(":")[0] for one in found] == (
        [] if fit else ["holds LoRA weights of modules that are not in target_modules"]
    )


def test_a_pattern_that_takes_for_ever_says_nothing(checked, monkeypatch):
    monkeypatch.setattr(adapter, "_REGEX_S", 0.2)
    assert checked(lora(f"base_model.model.{'a' * 200}b", [4, 16], [16, 4]), target_modules="(a+)+$") == []


def test_a_pattern_is_not_run_where_no_process_can_be_started(checked, monkeypatch):
    monkeypatch.setattr(adapter.sys, "executable", "/nowhere/python")
    assert checked(target_modules="nothing") == []


@pytest.mark.parametrize(
    "module",
    [
        "base_model.model.vision.attn.base_layer.out_proj",
        "base_model.model._orig_mod.model.q_proj",
        "base_model.model.model.q_proj._orig_mod",
        "base_model.model._fsdp_wrapped_module.q_proj",
        "q_proj",
    ],
)
def test_modules_that_are_wrapped_keep_their_names(checked, module):
    assert checked(lora(module, [4, 16], [16, 4])) == []
    wrapped = checked(lora(module, [4, 16], [16, 4]), target_modules=r"(model\.)?q_proj")
    assert wrapped == []


def test_an_adapter_without_any_lora_weights(checked):
    empty = {"base_model.model.lm_head.weight": ("F32", [64, 16])}
    [found] = checked(empty)
    assert (found.kind, found.message) == ("adapter-mismatch", "holds no LoRA weights")
    for explains in ("modules_to_save", "trainable_token_indices", "target_parameters"):
        assert checked(empty, **{explains: ["lm_head"]}) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"target_parameters": ["experts.gate_up_proj"]},
        {"use_bdlora": {"nblocks": 2}},
        {"layer_replication": [[0, 2]]},
        {"peft_type": "ADALORA"},
        {"peft_type": "IA3"},
    ],
    ids=str,
)
def test_shapes_that_a_config_does_not_tell_are_not_judged(checked, settings):
    assert checked(lora(Q, [64, 16], [16, 32]), target_modules=["other"], **settings) == []


def test_a_tied_output_layer_is_trained_without_being_named(checked):
    tied = lora("base_model.model.lm_head", [4, 16], [64, 4])
    assert checked(tied, ensure_weight_tying=True) == []
    assert len(checked(tied, ensure_weight_tying=False)) == 1


def test_names_longer_than_any_module_s_are_passed_over(checked):
    assert checked({**TWO, **lora("a." * 100_000, [1, 1], [1, 1])}) == []
