"""The Prefer header: what a client wishes, and which wishes are reported as granted."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_VALUES = {
    "resolution": ("merge-duplicates", "ignore-duplicates"),
    "missing": ("default", "null"),
    "return": ("representation", "minimal", "headers-only"),
    "count": ("exact", "planned", "estimated"),
    "tx": ("commit", "rollback"),
    "handling": ("strict", "lenient"),
}
_KNOWN = {f"{name}={value}" for name, values in _VALUES.items() for value in values}
_INTEGER = re.compile(r"-?\d+")


@dataclass(frozen=True)
class Preferences:
    """The first wish of each kind; `unknown` holds what nobody understands."""

    resolution: str | None = None
    missing: str | None = None
    returns: str | None = None
    count: str | None = None
    tx: str | None = None
    handling: str | None = None
    timezone: str | None = None
    max_affected: int | None = None
    unknown: tuple[str, ...] = ()

    @property
    def strict(self) -> bool:
        """Whether wishes that cannot be granted are errors."""
        return self.handling == "strict"

    @property
    def counts(self) -> bool:
        """Whether the total is to be counted."""
        return self.count in {"exact", "estimated"}

    def granted(self, *hidden: str) -> str | None:
        """Return Preference-Applied without the kinds that do not concern the request; None if empty."""
        applied = {
            "resolution": self.resolution,
            "missing": self.missing,
            "return": self.returns,
            "count": self.count,
            "tx": self.tx,
            "handling": self.handling,
            "timezone": self.timezone,
            "max-affected": self.max_affected if self.strict else None,
        }
        shown = {name: value for name, value in applied.items() if value is not None and name not in hidden}
        return ", ".join(f"{name}={value}" for name, value in shown.items()) or None


def parse(headers: Iterable[str], *, tx_allowed: bool) -> Preferences:
    """Parse all Prefer headers of a request; `tx` counts only where the server lets clients choose."""
    wishes = [wish.strip() for header in headers for wish in header.split(",")]

    def first(name: str) -> str | None:
        known = (wish.partition("=")[2] for wish in wishes if wish in _KNOWN and wish.startswith(f"{name}="))
        return next(known, None)

    def free(name: str) -> str | None:
        return next((wish.removeprefix(name) for wish in wishes if wish.startswith(name)), None)

    affected = free("max-affected=") or ""
    return Preferences(
        resolution=first("resolution"),
        missing=first("missing"),
        returns=first("return"),
        count=first("count"),
        tx=first("tx") if tx_allowed else None,
        handling=first("handling"),
        timezone=free("timezone="),
        max_affected=int(affected) if _INTEGER.fullmatch(affected) else None,
        unknown=tuple(
            wish
            for wish in wishes
            if wish not in _KNOWN and not wish.startswith(("timezone=", "max-affected="))
        ),
    )
