"""The arguments a trainer was given, read from training_args.bin without running anything in it.

That file also pickles the token a script was given, so it is read for the few arguments that are asked for
and published never.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from typing import TYPE_CHECKING, Any, Self

from agent.artifact.files import open_regular
from agent.artifact.zips import open_member, open_zip

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

NAME = "training_args.bin"
_LARGEST_BYTES = 1 << 20
_PROTOCOL = 2  # torch's; the newer ones let a pickle ask for any amount of memory


class _Inert:
    """Stands for an object of any class: keeps what it was made of, and does nothing."""

    made_of: tuple[Any, ...] = ()
    state: Any = None

    def __new__(cls, *args: Any, **_: Any) -> Self:  # noqa: ANN401 - whatever a pickle holds
        self = super().__new__(cls)
        self.made_of = args
        return self

    def __setstate__(self, state: Any) -> None:  # noqa: ANN401 - same
        self.state = state


# The one that is written in Python: C's keeps a list as long as the largest number that a pickle names.
class _Reader(pickle._Unpickler):  # noqa: SLF001 - it has no public name
    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - never the class that is named
        return type(name, (_Inert,), {"module": module})

    def persistent_load(self, _: Any) -> None:  # noqa: ANN401 - the values of a tensor
        return None


def read_arguments(folder: Path, wanted: Collection[str]) -> Mapping[str, str | float | bool]:
    """The wanted arguments that are words, numbers or switches; none of a file that cannot be read so."""
    try:
        with open_regular(folder / NAME) as stream, open_zip(stream) as archive:
            (member,) = [one for one in archive.infolist() if one.filename.endswith("/data.pkl")]
            with open_member(archive, member) as packed:
                content = packed.read(_LARGEST_BYTES + 1)
        too_new = any(op.proto > _PROTOCOL for op, _, _ in pickletools.genops(content[:_LARGEST_BYTES]))
        if len(content) > _LARGEST_BYTES or too_new:
            return {}
        arguments = _Reader(io.BytesIO(content)).load()
    except Exception:  # noqa: BLE001 - a damaged pickle raises anything, and nothing depends on it
        return {}
    state = arguments.state if isinstance(arguments, _Inert) else None
    if not isinstance(state, dict):
        return {}
    found = {name: _value(state[name]) for name in sorted(wanted) if name in state}
    return {name: value for name, value in found.items() if value is not None}


def _value(value: object) -> str | float | bool | None:
    """The value, or the word that an enumeration's member stands for."""
    if isinstance(value, _Inert) and len(value.made_of) == 1:
        value = value.made_of[0]
    return value if isinstance(value, str | int | float) else None
