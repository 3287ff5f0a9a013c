"""State dicts as `torch.save` writes them, without torch: a zip of a pickle and one file a storage."""

from __future__ import annotations

import pickle
import zipfile
from itertools import accumulate
from math import prod
from operator import mul
from typing import TYPE_CHECKING

from tests.layouts.tensors import data_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.layouts.tensors import Spec

_STORAGES = {"F32": "FloatStorage", "F16": "HalfStorage", "BF16": "BFloat16Storage"}
_DAY_ZERO = (1980, 1, 1, 0, 0, 0)


def write_torch(path: Path, tensors: Mapping[str, Spec]) -> None:
    """Write a state dict that `torch.load(path, weights_only=True)` reads.

    Source: torch/serialization.py (`_save`), and the zips that torch itself wrote in tests/fixtures/trl.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    members = {"data.pkl": _state_dict(tensors), "byteorder": b"little"}
    members |= {f"data/{key}": data_of(name, spec) for key, (name, spec) in enumerate(tensors.items())}
    members["version"] = b"3\n"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(f"{path.stem}/{name}", _DAY_ZERO), content)


def _state_dict(tensors: Mapping[str, Spec]) -> bytes:
    """An OrderedDict of `_rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict())`."""
    items = b"".join(
        _text(name) + _tensor(key, *spec[:2]) for key, (name, spec) in enumerate(tensors.items())
    )
    return pickle.PROTO + b"\2" + _EMPTY_DICT + pickle.MARK + items + pickle.SETITEMS + pickle.STOP


def _tensor(key: int, dtype: str, shape: tuple[int, ...]) -> bytes:
    strides = tuple(accumulate(reversed(shape[1:]), mul, initial=1))[::-1]
    storage = _tuple(
        _text("storage"),
        _global("torch", _STORAGES[dtype]),
        _text(str(key)),
        _text("cpu"),
        _int(prod(shape)),
    )
    arguments = _tuple(
        storage + pickle.BINPERSID,
        _int(0),
        _tuple(*map(_int, shape)),
        _tuple(*map(_int, strides)),
        pickle.NEWFALSE,
        _EMPTY_DICT,
    )
    return _global("torch._utils", "_rebuild_tensor_v2") + arguments + pickle.REDUCE


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _text(text: str) -> bytes:
    return pickle.BINUNICODE + len(text.encode()).to_bytes(4, "little") + text.encode()


def _int(number: int) -> bytes:
    return pickle.BININT + number.to_bytes(4, "little", signed=True)


def _tuple(*items: bytes) -> bytes:
    return pickle.MARK + b"".join(items) + pickle.TUPLE


_EMPTY_DICT = _global("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
