"""Media types: what a client accepts, and in which form it gets its rows."""

import re
from dataclasses import dataclass

from agent.sandbox.rest.errors import no_media_type

_QUALITY = re.compile(r"q=(\d(?:\.\d*)?)")

JSON = "application/json"
OBJECT = "application/vnd.pgrst.object+json"
_PRODUCED = {
    JSON: JSON,
    "*/*": JSON,
    "application/vnd.pgrst.array": JSON,
    "application/vnd.pgrst.array+json": JSON,
    OBJECT: OBJECT,
    "application/vnd.pgrst.object": OBJECT,
}


@dataclass(frozen=True)
class Media:
    """The media type of an answer; `singular` means one object instead of a list."""

    name: str

    @property
    def singular(self) -> bool:
        """Whether there must be exactly one row."""
        return self.name == OBJECT

    @property
    def content_type(self) -> str:
        """The value of Content-Type."""
        return f"{self.name}; charset=utf-8"


def negotiate(accept: str | None) -> Media:
    """Choose the best media type the client accepts.

    Raises:
        ApiError: PGRST107 if none of them can be produced.
    """
    wanted = sorted((_quality(part) for part in (accept or "*/*").split(",")), key=lambda pair: -pair[0])
    for _, name in wanted:
        if name.lower() in _PRODUCED:
            return Media(_PRODUCED[name.lower()])
    raise no_media_type(name for _, name in wanted)


def content_type(header: str | None) -> str:
    """Return the bare media type of a body; JSON unless said otherwise."""
    return (header or JSON).partition(";")[0].strip().lower()


def _quality(part: str) -> tuple[float, str]:
    name, *parameters = (piece.strip() for piece in part.split(";"))
    quality = 1.0
    for parameter in parameters:
        if match := _QUALITY.fullmatch(parameter):
            quality = float(match[1])
        else:
            name += f";{parameter}"
    return quality, name
