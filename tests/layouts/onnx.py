"""An ONNX graph whose weights lie in a file beside it: embedding, then the head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.layouts.llama import HIDDEN, VOCAB
from tests.layouts.tensors import data_of

if TYPE_CHECKING:
    from pathlib import Path

_FLOAT, _INT64 = 1, 7  # TensorProto.DataType
_EXTERNAL = 1  # TensorProto.DataLocation
_IR_VERSION, _OPSET = 8, 17
_WEIGHTS = {"embed_tokens.weight": (VOCAB, HIDDEN), "lm_head.weight": (HIDDEN, VOCAB)}


def write_onnx(path: Path) -> None:
    """Write `path` and its external data, `path` with `_data` added, as optimum names it.

    Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto (the numbers are its field numbers) and
    docs/ExternalData.md there.
    """
    data = b""
    initializers = []
    for name, shape in _WEIGHTS.items():
        content = data_of(name, ("F32", shape))
        where = {"location": f"{path.name}_data", "offset": str(len(data)), "length": str(len(content))}
        entries = b"".join(_field(13, _field(1, key) + _field(2, value)) for key, value in where.items())
        dims = b"".join(_field(1, size) for size in shape)
        initializers.append(dims + _field(2, _FLOAT) + _field(8, name) + entries + _field(14, _EXTERNAL))
        data += content
    graph = (
        _field(1, _node("Gather", ("embed_tokens.weight", "input_ids"), "hidden"))
        + _field(1, _node("MatMul", ("hidden", "lm_head.weight"), "logits"))
        + _field(2, "main_graph")
        + b"".join(_field(5, one) for one in initializers)
        + _field(11, _value("input_ids", _INT64, ("batch_size", "sequence_length")))
        + _field(12, _value("logits", _FLOAT, ("batch_size", "sequence_length", VOCAB)))
    )
    opset = _field(1, "") + _field(2, _OPSET)
    model = _field(1, _IR_VERSION) + _field(2, "pytorch") + _field(7, graph) + _field(8, opset)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model)
    path.with_name(f"{path.name}_data").write_bytes(data)


def _node(operator: str, inputs: tuple[str, ...], output: str) -> bytes:
    names = b"".join(_field(1, name) for name in inputs)
    return names + _field(2, output) + _field(3, operator.lower()) + _field(4, operator)


def _value(name: str, dtype: int, shape: tuple[str | int, ...]) -> bytes:
    dims = b"".join(_field(1, _field(1 if isinstance(size, int) else 2, size)) for size in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, dtype) + _field(2, dims)))


def _field(number: int, value: int | str | bytes) -> bytes:
    """One field of a protocol buffer: a varint, or bytes with their length before them."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])
