"""Rows made of what processes took."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.measure import Row, row

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.child import Cost
    from bench.target import Target

_UNITS = {"wall_s": "s", "cpu_s": "s", "peak_mb": "MB"}


def charge(
    runs: Iterable[tuple[Cost, ...]],
    cost: str,
    group: str,
    what: str,
    names: tuple[str, str],
    *,
    target: Target | None = None,
    sides: tuple[int, int] = (0, 1),
) -> Row:
    """A row of one kind of cost.

    Args:
        runs: what each side took, run by run.
        cost: the attribute of `Cost`.
        group: of the row.
        what: was done.
        names: of ours and theirs.
        target: what is promised.
        sides: which of a run's sides are ours and theirs.
    """
    ours, theirs = sides
    pairs = [(getattr(run[ours], cost), getattr(run[theirs], cost)) for run in runs]
    return row(group, what, _UNITS[cost], names, pairs, target=target)
