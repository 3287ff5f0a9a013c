"""A GGUF file of the tiny Llama, as llama.cpp's converter lays it out."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from tests.layouts import llama
from tests.layouts.files import real_json
from tests.layouts.tensors import data_of

if TYPE_CHECKING:
    from pathlib import Path

_VERSION, _ALIGNMENT = 3, 32
_F32, _Q8_0 = 0, 8  # ggml_type
_MOSTLY_Q8_0 = 7  # general.file_type
_BLOCK = 32  # values that share a scale in Q8_0
_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def write_llama_gguf(path: Path) -> None:
    """Write GGUF version 3: matrices in Q8_0, norms in F32.

    Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; names of tensors and keys as
    convert_hf_to_gguf.py of llama.cpp gives them.
    """
    tensors = {_ggml_name(name): spec[1] for name, spec in llama.tensors().items()}
    metadata = _metadata()
    infos, data = b"", b""
    for name, shape in tensors.items():
        kind = _Q8_0 if len(shape) == 2 else _F32
        dims = struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))  # fastest dimension first
        infos += _text(name) + dims + struct.pack("<IQ", kind, len(data))
        data += _q8_0(name, shape) if kind == _Q8_0 else data_of(name, ("F32", shape))
        data += b"\0" * (-len(data) % _ALIGNMENT)
    head = b"GGUF" + struct.pack("<IQQ", _VERSION, len(tensors), len(metadata)) + b"".join(metadata) + infos
    head += b"\0" * (-len(head) % _ALIGNMENT)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + data)


def _metadata() -> list[bytes]:
    config = llama.CONFIG
    vocab: dict[str, int] = real_json("base/tokenizer.json")["model"]["vocab"]
    return [
        _key("general.architecture", 8, _text("llama")),
        _key("general.name", 8, _text("model")),
        _key("general.alignment", 4, struct.pack("<I", _ALIGNMENT)),
        _key("general.file_type", 4, struct.pack("<I", _MOSTLY_Q8_0)),
        _key("llama.block_count", 4, struct.pack("<I", llama.LAYERS)),
        _key("llama.context_length", 4, struct.pack("<I", config["max_position_embeddings"])),
        _key("llama.embedding_length", 4, struct.pack("<I", llama.HIDDEN)),
        _key("llama.feed_forward_length", 4, struct.pack("<I", llama.INTERMEDIATE)),
        _key("llama.attention.head_count", 4, struct.pack("<I", config["num_attention_heads"])),
        _key("llama.attention.layer_norm_rms_epsilon", 6, struct.pack("<f", config["rms_norm_eps"])),
        _key("tokenizer.ggml.model", 8, _text("gpt2")),
        _key("tokenizer.ggml.tokens", 9, _texts(sorted(vocab, key=vocab.__getitem__))),
        _key("tokenizer.ggml.add_bos_token", 7, b"\0"),
    ]


def _ggml_name(name: str) -> str:
    if not name.startswith("model.layers."):
        return {
            "model.embed_tokens.weight": "token_embd.weight",
            "model.norm.weight": "output_norm.weight",
            "lm_head.weight": "output.weight",
        }[name]
    layer, _, module = name.removeprefix("model.layers.").removesuffix(".weight").partition(".")
    return f"blk.{layer}.{_NAMES[module]}.weight"


def _q8_0(name: str, shape: tuple[int, ...]) -> bytes:
    """Blocks of one half-precision scale and 32 signed bytes."""
    rows, columns = shape
    assert columns % _BLOCK == 0, f"{name} has rows of {columns} values"
    count = rows * columns // _BLOCK
    scales, values = data_of(f"{name} scale", ("F16", (count,))), data_of(name, ("I8", shape))
    return b"".join(
        scales[2 * at : 2 * at + 2] + values[_BLOCK * at : _BLOCK * (at + 1)] for at in range(count)
    )


def _key(key: str, value_type: int, value: bytes) -> bytes:
    return _text(key) + struct.pack("<I", value_type) + value


def _texts(texts: list[str]) -> bytes:
    return struct.pack("<IQ", 8, len(texts)) + b"".join(map(_text, texts))


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()
