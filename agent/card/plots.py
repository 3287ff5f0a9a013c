"""Draw figures: `python -m agent.card.plots FOLDER`, with a JSON list of them in the folder when stdin ends.

A process of its own, so that neither matplotlib's memory nor its crashes are the publisher's. The images
are transparent, in colours that can be read on a white page as well as on a dark one.
"""

from __future__ import annotations

import gc
import importlib
import io
import json
import math
import os
import resource
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from agent.card.easel import ASKED
from agent.card.figure import Figure
from agent.card.markdown import number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet

    from agent.card.figure import Panel, Series

# 3:1 or more against #ffffff and #0b0f19 (WCAG 2.2, 1.4.11), the ink of text 4:1. The hues are those of
# Okabe and Ito, which colour-blind readers tell apart.
INK = "#747a87"
COLOURS = {
    "training": "#1f7fc4",
    "evaluation": "#d55e00",
    "checkpoint": INK,
    "best": "#009e73",
    "lost": "#c4689b",
}

_LEGEND = ("training", "smoothed", "evaluation", "checkpoint", "best checkpoint", "NaN or infinite")
_PIXELS, _DPI = (1200, 600), 150
_PALETTE = 256
_LONGEST_S, _LARGEST_BYTES = 120, 16 << 20
_FLATTEST = 0.01  # of the values: a difference below it is drawn as next to nothing
_SMALL, _LARGE = 1e-3, 1e7  # an axis of other values is labelled in powers of ten
_NEAR_ZERO = 1e-9  # of an axis: what is left of zero after arithmetic
_STYLE: dict[Any, dict[str, Any]] = {
    "axes": {
        "edgecolor": INK,
        "facecolor": "none",
        "grid": True,
        "labelcolor": INK,
        "titlelocation": "left",
        "titlesize": "medium",
        "xmargin": 0.02,
    },
    "axes.grid": {"axis": "y"},
    "axes.spines": {"right": False, "top": False},
    "figure": {"facecolor": "none"},
    "figure.constrained_layout": {"h_pad": 0.06, "w_pad": 0.1},
    "font": {"family": "DejaVu Sans", "size": 10},  # comes with matplotlib
    "grid": {"alpha": 0.3, "color": INK},
    "legend": {
        "columnspacing": 1.4,
        "fontsize": "medium",
        "frameon": False,
        "handlelength": 1.6,
        "handletextpad": 0.5,
    },
    "lines": {"linewidth": 2, "markersize": 5},
    "text": {"color": INK},
    "xtick": {"color": INK},
    "ytick": {"color": INK},
    "ytick.major": {"size": 0},
}
_LINES: dict[str, dict[str, Any]] = {
    "faint": {"alpha": 0.5, "linewidth": 0.8},
    "line": {},
    "points": {"marker": "o"},
}


def draw(figure: Figure) -> bytes:
    """A figure as PNG, of the same bytes whenever it is the same figure."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as Sheet
    from PIL import Image

    pixels, png = io.BytesIO(), io.BytesIO()
    with mpl.rc_context():
        mpl.rcdefaults()
        for group, values in _STYLE.items():
            mpl.rc(group, **values)
        sheet = Sheet(figsize=(_PIXELS[0] / _DPI, _PIXELS[1] / _DPI), dpi=_DPI, layout="constrained")
        _draw_on(sheet, figure)
        sheet.savefig(pixels, format="rgba")
    image = Image.frombytes("RGBA", _PIXELS, pixels.getvalue())
    image.quantize(_PALETTE).save(png, "PNG", optimize=True)
    return png.getvalue()


def _draw_on(sheet: Sheet, figure: Figure) -> None:
    column = sheet.subplots(len(figure.panels), sharex=True, squeeze=False)[:, 0]
    named: dict[str, Artist] = {}
    for axes, panel in zip(column, figure.panels, strict=True):
        _draw_panel(axes, panel)
        _draw_checkpoints(axes, figure)
        handles, labels = axes.get_legend_handles_labels()
        named |= dict(zip(labels, handles, strict=True))
    column[-1].set_xlabel("optimizer step")
    labels = sorted(named, key=_LEGEND.index)
    sheet.legend([named[label] for label in labels], labels, loc="outside lower center", ncols=len(labels))


def _draw_panel(axes: Axes, panel: Panel) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    for series in panel.series:
        _draw_series(axes, series)
    lost = {
        step
        for series in panel.series
        for step, value in zip(series.steps, series.values, strict=True)
        if value is None
    }
    _mark_below(axes, lost, "lost", "x", "NaN or infinite")
    axes.set_title(panel.label + (" (log scale)" if panel.log_scale else ""))
    if panel.log_scale:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value, value, value)))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        low, high = _limits(panel)
        axes.set_ylim(low, high)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value, *axes.get_ylim())))
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value, *axes.get_xlim())))


def _draw_series(axes: Axes, series: Series) -> None:
    """The line, with a mark on each value that stands alone between gaps."""
    around = [None, *series.values, None]
    alone = [
        at
        for at, value in enumerate(around[1:-1])
        if value is not None and around[at] is around[at + 2] is None
    ]
    axes.plot(
        series.steps,
        [math.nan if value is None else value for value in series.values],
        color=COLOURS[series.split],
        label=series.label,
        **({"marker": ".", "markevery": alone} if alone else {}) | _LINES[series.style],
    )


def _mark_below(axes: Axes, steps: Iterable[int], what: str, marker: str, label: str) -> None:
    shown = sorted(steps)
    if shown:
        axes.plot(
            shown,
            [0.0] * len(shown),
            transform=axes.get_xaxis_transform(),
            clip_on=False,
            color=COLOURS[what],
            linestyle="none",
            marker=marker,
            label=label,
            zorder=3,
        )


def _draw_checkpoints(axes: Axes, figure: Figure) -> None:
    _mark_below(axes, set(figure.checkpoints) - {figure.best}, "checkpoint", "^", "checkpoint")
    if figure.best is not None:
        axes.axvline(figure.best, color=COLOURS["best"], linestyle=":", label="best checkpoint", zorder=1)


def _limits(panel: Panel) -> tuple[float, float]:
    """From where to where the values are drawn; what hardly changes is drawn flat."""
    values = [value for series in panel.series for value in series.values if value is not None]
    low, high = (0.0, 1.0) if panel.share or not any(values) else (min(values), max(values))
    missing = _FLATTEST * max(abs(low), abs(high)) - (high - low)
    margin = max(0.05 * (high - low), missing / 2)
    return low - margin, high + margin


def _tick(value: float, low: float, high: float) -> str:
    """A tick's label, written as the others of its axis are."""
    if abs(value) < _NEAR_ZERO * (high - low):
        return "0"
    if _SMALL <= max(abs(low), abs(high)) < _LARGE:
        return number(value)
    digits, _, power = f"{value:.3e}".partition("e")
    return f"{float(digits):g}e{int(power)}"


def main() -> int:
    """Draw what the folder's list asks for into it; tell on stderr which figure could not be drawn."""
    _be_modest()
    folder, failed = Path(sys.argv[1]), 0
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as settings:
        os.environ.update(MPLCONFIGDIR=settings, MPL_IGNORE_SYSTEM_FONTS="1")
        _get_ready()
        sys.stdin.read()
        try:
            asked = json.loads((folder / ASKED).read_text())
        except FileNotFoundError:  # whoever started us is gone, and nobody else tidies up
            shutil.rmtree(folder, ignore_errors=True)
            return 0
        _be_brief()
        for document in asked:
            try:
                _write(folder / PurePosixPath(document["path"]).name, draw(Figure.from_dict(document)))
            except Exception as error:  # noqa: BLE001 - one figure must not cost the others
                sys.stderr.write(f"{document['path']}: {type(error).__name__}: {error}\n")
                failed = 1
    return failed


def _get_ready() -> None:
    """Load what takes long, before anybody waits for it; what is wrong with it, drawing will tell."""
    for module in ("matplotlib.figure", "matplotlib.backends.backend_agg", "PIL.Image"):
        with suppress(Exception):
            importlib.import_module(module)


def _be_modest() -> None:
    """Stay behind the upload, and write no more than plots have."""
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_BYTES, _LARGEST_BYTES))


def _be_brief() -> None:
    """End also if nobody is left to end us."""
    signal.alarm(_LONGEST_S)


def _write(target: Path, content: bytes) -> None:
    part = target.with_suffix(".part")
    part.write_bytes(content)
    part.replace(target)


if __name__ == "__main__":
    gc.disable()  # it lives for a second, and hardly anything of it is garbage
    code = main()
    gc.freeze()  # nor is it searched for some at the end, which somebody waits for
    sys.exit(code)
