"""One picture: what is left to do at the end of a training, and how much of every promise is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.groups import ORDER
from bench.measure import Series
from bench.warm import AFTER, READ, STABLE, TAIL, TRL

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

    from bench.measure import Row
    from bench.results import Group

_MET, _MISSED, _INK, _GRID = "#1a7f5a", "#c0392b", "#22262b", "#e6e8eb"
_COLORS = {STABLE: _MET, TRL: "#2f6fb2", AFTER: "#8a8f98"}
_WIDTH_IN, _TAILS_IN, _ROW_IN = 9.5, 4.2, 0.27
_SECONDS = (0.5, 1, 2, 5, 10, 20, 50, 100)
_Lines = dict[tuple[str, str], list[tuple[float, Series]]]


def draw(kept: Sequence[Group], path: Path) -> None:
    """Draw a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = sorted((one for one in kept if one.name in ORDER), key=lambda one: ORDER.index(one.name))
    rows = [row for group in shown for row in group.rows]
    promised = [row for row in rows if row.target and row.target.most != 0 and not row.what.startswith(TAIL)]
    height = _ROW_IN * len(promised) + 0.8
    plt.rcParams |= {"font.size": 9, "text.color": _INK, "axes.labelcolor": _INK, "axes.axisbelow": True}
    figure = plt.figure(figsize=(_WIDTH_IN, _TAILS_IN + height), layout="constrained")
    grid = figure.add_gridspec(2, height_ratios=[_TAILS_IN, height])
    above, below = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    _title(above, "From the end of the training to a completed job")
    _tails(above.subplots(), _lines([row for row in rows if row.what.startswith(TAIL)]))
    _title(below, "How much of each limit is used: left of the line the promise is kept")
    _promises(below.subplots(), promised)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)


def _title(part: SubFigure, words: str) -> None:
    part.suptitle(words, x=0.01, horizontalalignment="left", fontsize=11, fontweight="bold")


def used(row: Row) -> Series:
    """How much of what a row promises is used, run by run: 1 is the limit."""
    target = row.target
    assert target is not None
    shares = []
    for ours, theirs in zip(row.ours.values, row.theirs.values, strict=True):
        share = 0.0
        if target.times is not None:
            share = ours / (target.times * theirs + target.plus)
        if target.most:
            share = max(share, ours / target.most)
        if target.least:
            share = max(share, target.least / ours)
        shares.append(share)
    return Series(tuple(shares))


def _lines(tails: Sequence[Row]) -> _Lines:
    """What each side measured by size, for each bandwidth."""
    lines: _Lines = {}
    for row in tails:
        size, _, rate = row.what.removeprefix(TAIL).partition(" GB ")
        if row.their_name == READ:
            lines.setdefault((TRL, rate), []).append((float(size), row.ours))
            lines.setdefault((READ, rate), []).append((float(size), row.theirs))
        elif row.our_name == STABLE:
            lines.setdefault((STABLE, rate), []).append((float(size), row.ours))
            lines.setdefault((AFTER, rate), []).append((float(size), row.theirs))
    return lines


def _tails(axes: Axes, lines: _Lines) -> None:
    """Seconds against the size of the model: a line for each side and bandwidth; promises are dotted."""
    rates = list(dict.fromkeys(rate for _, rate in lines))
    for name, rate in [(name, rate) for name in (AFTER, TRL, STABLE) for rate in rates]:
        sizes, found = zip(*lines[name, rate], strict=True)
        style, color = "-" if rate == rates[0] else "--", _COLORS[name]
        axes.vlines(sizes, [min(one.values) for one in found], [max(one.values) for one in found], color)
        medians = [one.median for one in found]
        axes.plot(sizes, medians, style, marker="o", markersize=4, color=color, label=f"{name}, {rate}")
    read = lines[READ, rates[0]]
    promised = [one.median + 1 for _, one in read]
    label = "promised for TRL's order: one read + 1 s"
    axes.plot([size for size, _ in read], promised, color=_COLORS[TRL], linestyle=":", label=label)
    axes.axhline(2, color=_COLORS[STABLE], linestyle=":", label="promised for stable files: 2 s")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks([size for size, _ in read], [f"{size:g} GB" for size, _ in read])
    axes.set_xticks([], minor=True)
    axes.set_yticks(_SECONDS, [f"{seconds:g} s" for seconds in _SECONDS])
    axes.set_yticks([], minor=True)
    axes.grid(visible=True, axis="y", color=_GRID)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper left", ncols=3, handlelength=3)
    axes.set_ylim(top=3 * axes.get_ylim()[1])


def _promises(axes: Axes, promised: Sequence[Row]) -> None:
    """A dot for each promise with its range; left of the line it is kept."""
    for place, row in enumerate(promised):
        share, color = used(row), _MET if row.met else _MISSED
        axes.plot([min(share.values), max(share.values)], [place, place], color=color, alpha=0.35, lw=4)
        axes.plot(share.median, place, "o", color=color, markersize=5)
    axes.axvline(1, color=_INK, lw=1)
    axes.set_ylim(len(promised) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_yticks(range(len(promised)), [f"{row.group}: {row.what}" for row in promised], fontsize=8)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.grid(visible=True, axis="x", color=_GRID)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
