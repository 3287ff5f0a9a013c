"""Reports of figures, in whatever JSON a harness or a script wrote them, as tables of the card.

Known by name are the results of lm-evaluation-harness (https://github.com/EleutherAI/lm-evaluation-harness,
`results` and `groups`, `acc,none` beside `acc_stderr,none`) and of lighteval
(https://huggingface.co/docs/lighteval/saving-and-reading-results); every other document is read by its shape.
"""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.card.markdown import code, number, plain, table, words
from agent.parse import parse_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MOST_BYTES = 5_000_000
_MOST_FIGURES = 10_000
_MOST_ROWS = 60
_MOST_COLUMNS = 6
_MOST_METRICS = 30
_DEEPEST = 8

_NAMES = ("task", "name", "benchmark", "metric", "dataset", "id")
_HARNESS = ("versions", "config", "configs", "config_general")
_SAMPLES_COUNTED = "sample_len"  # in lm-evaluation-harness it stands among a task's metrics
_STDERR = "_stderr"


class Figure(NamedTuple):
    """One number of a report: what was measured, by which metric, and the standard error if it is told.

    `what` is a path from the outermost level inwards, and empty in a flat report.
    """

    what: tuple[str, ...]
    metric: str
    value: float
    stderr: float | None = None


def read_report(content: bytes) -> list[Figure]:
    """Read every figure of a report, as floats, in the report's order; at most 10,000.

    Lists whose entries have no names come last: they are longer than what is said about them.

    Raises:
        ValueError: it is no report; the message goes on after the file's path.
    """
    if len(content) > MOST_BYTES:
        raise ValueError(f"has more than {MOST_BYTES:,} bytes, too many for a report")
    try:
        document = parse_json(content)
    except ValueError as error:
        raise ValueError(f"is damaged: {error}") from error
    if not isinstance(document, dict | list):
        raise ValueError("holds neither an object nor a list")  # noqa: TRY004 - it is the content that is wrong
    figures = list(islice(_figures(_results(document)), _MOST_FIGURES))
    if not figures:
        raise ValueError("holds no number")
    return figures


def report_table(figures: Sequence[Figure], path: str) -> str:
    """Show a report as one table of Markdown; what is too much for a card is counted.

    Args:
        figures: of one report.
        path: where the report stands in the repo.
    """
    whats = list(dict.fromkeys(figure.what for figure in figures))
    columns = list(dict.fromkeys(figure.metric for figure in figures))
    cells = {(figure.what, figure.metric): _value(figure) for figure in figures}
    if _is_grid(figures, whats, columns):
        head = ["What", *map(plain, columns)]
        rows = [
            [_label(what), *(cells.get((what, metric), "") for metric in columns)]
            for what in whats[:_MOST_ROWS]
        ]
        left = len(whats) - len(rows)
    else:
        head = ["What", "Metric", "Value"][not any(whats) :]
        shown = [[_label(one.what), plain(one.metric), _value(one)] for one in figures[:_MOST_ROWS]]
        rows = [row[not any(whats) :] for row in shown]
        left = len(figures) - len(rows)
    least = "at least " if len(figures) >= _MOST_FIGURES else ""
    return table(head, rows) + (f"\nand {least}{left:,} more in {code(path)}\n" if left else "")


def metrics(figures: Sequence[Figure]) -> dict[str, float]:
    """The first 30 finite figures, as `task/metric` or `metric`, for the metadata of the card."""
    found: dict[str, float] = {}
    for what, metric, value, _ in figures:
        # `accuracy/value` says no more than `accuracy`.
        levels = what if what and metric == "value" else (*what, metric)
        if math.isfinite(value):
            found.setdefault("/".join(map(words, levels)), value)
        if len(found) == _MOST_METRICS:
            break
    return found


def _results(document: dict[str, Any] | list[Any]) -> dict[str, Any] | list[Any]:
    """The part that holds results: what a harness writes beside them are its settings and the time."""
    results = document.get("results") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(results, dict | list):
        return document
    if isinstance(results, dict) and _holds_objects(results) and any(key in document for key in _HARNESS):
        groups = document.get("groups")
        tasks = results | (groups if isinstance(groups, dict) and _holds_objects(groups) else {})
        return {
            task: {key: value for key, value in measured.items() if key != _SAMPLES_COUNTED}
            for task, measured in tasks.items()
        }
    beside = [value for key, value in document.items() if key != "results"]
    alone = not any(isinstance(value, dict | list) or _number(value) is not None for value in beside)
    return results if alone else document


def _holds_objects(document: dict[str, Any]) -> bool:
    return all(isinstance(value, dict) for value in document.values())


def _figures(document: dict[str, Any] | list[Any]) -> Iterator[Figure]:
    series: list[tuple[tuple[str, ...], list[Any]]] = []
    yield from _inside(document, (), series)
    for what, items in series:
        yield from _unnamed(items, what)


def _inside(
    value: object, what: tuple[str, ...], series: list[tuple[tuple[str, ...], list[Any]]] | None
) -> Iterator[Figure]:
    """The figures of an object or a list; lists without names go to `series`, if there is one."""
    if len(what) > _DEEPEST:
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            figure = _figure(value, key, what)
            if figure:
                yield figure
            elif isinstance(inner, dict | list):
                yield from _inside(inner, (*what, key), series)
    elif isinstance(value, list):
        seen = set()
        for position, item in enumerate(value, 1):
            if name := _name(item):
                again = (str(position),) if name in seen else ()
                seen.add(name)
                yield from _inside(item, (*what, *name, *again), series)
        if series is None:
            yield from _unnamed(value, what)
        else:
            series.append((what, value))


def _unnamed(items: list[Any], what: tuple[str, ...]) -> Iterator[Figure]:
    for position, item in enumerate(items, 1):
        value = _number(item)
        if value is not None:
            yield Figure(what, str(position), value)
        elif item and isinstance(item, dict | list) and not _name(item):
            yield from _inside(item, (*what, str(position)), None)


def _name(item: object) -> tuple[str, ...]:
    """What an entry of a list calls itself; of several metrics of one task, the metric too."""
    if not isinstance(item, dict) or item.keys().isdisjoint(_NAMES):
        return ()
    named = {key: item[key] for key in _NAMES if isinstance(item.get(key), str) and item[key].strip()}
    first = next(iter(named.values()), None)
    return tuple(dict.fromkeys((first, named.get("metric", first)))) if first else ()


def _figure(fields: dict[str, Any], key: str, what: tuple[str, ...]) -> Figure | None:
    """The figure under a key; a standard error is told with what it belongs to."""
    value = _number(fields[key])
    if value is None:
        return None
    name, comma, picked = key.partition(",")
    measured = name.removesuffix(_STDERR) + comma + picked
    if measured != key and _number(fields.get(measured)) is not None:
        return None
    stderr = _number(fields.get(name + _STDERR + comma + picked))
    return Figure(what, key.removesuffix(",none"), value, stderr)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf  # as JSON's 1e400 is read


def _is_grid(figures: Sequence[Figure], whats: Sequence[tuple[str, ...]], columns: Sequence[str]) -> bool:
    """Whether a row for each task and a column for each metric says it all, half filled at least."""
    places = len(whats) * len(columns)
    distinct = len({figure[:2] for figure in figures}) == len(figures)
    return all(whats) and len(columns) <= _MOST_COLUMNS and distinct and 2 * len(figures) >= places


def _label(what: Sequence[str]) -> str:
    return plain(" / ".join(what))


def _value(figure: Figure) -> str:
    shown = number(figure.value)
    return shown if figure.stderr is None else f"{shown} ± {number(figure.stderr)}"
