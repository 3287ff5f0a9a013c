"""`python -m bench.summary`: write what is kept of the last measurement into README and draw its plot."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bench import plot, results
from bench.child import REPO_ROOT
from bench.groups import ORDER
from bench.report import number, spread, verdict
from bench.warm import CONTENT, READ, STABLE, TAIL, TRL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.measure import Row
    from bench.results import Group

README = REPO_ROOT / "README.md"
BEGIN, END = "<!-- rendered by python -m bench.summary -->", "<!-- end of bench.summary -->"
_BETWEEN = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
_TAILS = """\
| exit to `completed` | files stable | promised | TRL's order | promised | one read | sent | without us |
|---|---|---|---|---|---|---|---|"""
_ROWS = """\
| what | this agent | beside it | ratio | promised |
|---|---|---|---|---|"""


def main() -> None:
    """Bring README and plot up to date; nothing is measured."""
    kept = results.load()
    README.write_text(update(README.read_text("utf-8"), kept), "utf-8")
    plot.draw(kept, results.FOLDER / "speed.png")


def update(readme: str, kept: Sequence[Group]) -> str:
    """README with what lies between the markers rendered anew."""
    return _BETWEEN.sub(lambda _: f"{BEGIN}\n{render(kept)}\n{END}", readme)


def render(kept: Sequence[Group]) -> str:
    """What was promised and what was measured, in Markdown."""
    shown = {group.name: group for group in kept if group.name in ORDER}
    parts = [_machine(list(shown.values()))]
    if "warm" in shown:
        parts.append("\n".join([_TAILS, *_tails(shown["warm"].rows)]))
    rows = [row for name in ORDER if name in shown for row in shown[name].rows]
    rows = [row for row in rows if row.target or row.group == "cold"]
    lines = [_line(row) for row in rows if not row.what.startswith((TAIL, CONTENT))]
    parts.append("\n".join([_ROWS, *lines]))
    return "\n\n".join(parts)


def _machine(kept: Sequence[Group]) -> str:
    """What it ran on, once for each machine or version that differs."""
    found = dict.fromkeys(
        f"{on['system']}, {on['cores']} cores, {on['memory_gb']:.0f} GB, Python {on['python']}, "
        f"huggingface_hub {on['huggingface_hub']}, hf_xet {on['hf_xet']}"
        for on in (group.ran_on for group in kept)
    )
    runs = min(len(row.ours.values) for group in kept for row in group.rows)
    return f"{'; '.join(found)}. Medians (min-max) of {runs} runs or more; ~ marks a noisy one."


def _tails(rows: Sequence[Row]) -> list[str]:
    """A line for each size and bandwidth."""
    lines = []
    for what in dict.fromkeys(row.what for row in rows if row.what.startswith(TAIL)):
        here = {(row.our_name, row.their_name): row for row in rows if row.what == what}
        stable = next(row for (ours, _), row in here.items() if ours == STABLE)
        trl = here[TRL, READ]
        sent = [row for row in rows if row.what == CONTENT + what.removeprefix(TAIL)]
        cells = [
            what.removeprefix(TAIL),
            spread(stable.ours, "s"),
            _promise(stable),
            spread(trl.ours, "s"),
            _promise(trl),
            spread(trl.theirs, "s"),
            f"{number(max(max(row.ours.values) for row in sent))} MB",
            f"{stable.their_name}: {spread(stable.theirs, 's')}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _line(row: Row) -> str:
    cells = [
        f"{row.group}: {row.what}",
        spread(row.ours, row.unit),
        f"{row.their_name}: {spread(row.theirs, row.unit)}",
        spread(row.ratio, "x"),
        _promise(row),
    ]
    return f"| {' | '.join(cells)} |"


def _promise(row: Row) -> str:
    """What was promised and whether it was kept; nothing for a row without a promise."""
    said = {"MISSED": "**missed**"}.get(verdict(row), verdict(row))
    return f"{row.target.words(row.unit)}: {said}" if row.target else ""


if __name__ == "__main__":
    main()
