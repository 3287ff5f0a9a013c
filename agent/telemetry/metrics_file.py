"""The figures of one run as OpenMetrics text, for a node exporter's textfile collector.

Every family is a gauge: of the types, it alone is written the same way in OpenMetrics and in Prometheus' text
format 0.0.4, which the collector reads. What differs from job to job is a label of `training_agent_info`
only, so that a machine has the same few series whatever it publishes.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent import __version__
from agent.log import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from agent.outcome import Outcome

_RESULTS = ("completed", "skipped", "not-published", "cancelled", "failed", "pending")
_MODE = 0o644  # the exporter runs as another user
_PREFIX = "training_agent_"
_SUCCESS = "last_success_timestamp_seconds"
_ESCAPED = {"\\": r"\\", "\n": r"\n", '"': r"\""}


@dataclass(frozen=True)
class _Gauge:
    """One family: values by labels."""

    name: str
    meaning: str
    samples: tuple[tuple[Mapping[str, object], float], ...]

    def lines(self) -> Iterator[str]:
        """Its part of the file; nothing if nothing is known."""
        name = f"{_PREFIX}{self.name}"
        if self.samples:
            yield f"# HELP {name} {self.meaning}"
            yield f"# TYPE {name} gauge"
        for labels, value in self.samples:
            pairs = ",".join(f'{label}="{_text(of)}"' for label, of in labels.items())
            yield f"{name}{{{pairs}}} {value}" if pairs else f"{name} {value}"


def write(path: Path, outcome: Outcome, exit_code: int, clock: Callable[[], float] = time.time) -> None:
    """Replace the metrics at `path` by those of this run, whole or not at all.

    The moment of the last success is carried over from the file of the run before.

    Args:
        path: the file; its folder is made if there is none, a link to a file stays one.
        outcome: how the run ended.
        exit_code: of the command.
        clock: Unix time.

    Raises:
        OSError: it cannot be written, or is something else than a file; the file of before is untouched.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is no regular file; a rename would put one in its place")
    now = round(clock(), 3)
    succeeded = _last_success(path) if exit_code else now
    lines = [line for family in _families(outcome, exit_code, now, succeeded) for line in family.lines()]
    _replace(path, "\n".join([*lines, "# EOF", ""]))


def _families(outcome: Outcome, exit_code: int, now: float, succeeded: float | None) -> Iterator[_Gauge]:
    """What the JSON answer says, and how often was asked again."""
    told = outcome.as_json()
    yield _Gauge("info", "What the last run was about; empty is unknown.", ((_who(outcome), 1),))
    yield _one("last_run_timestamp_seconds", "When the last run ended, in Unix time.", now)
    yield _one(_SUCCESS, "When a run last ended with exit code 0, in Unix time.", succeeded)
    yield _Gauge(
        "result",
        "How the last run ended: 1 for its result, 0 for the others.",
        tuple(
            ({"result": result}, int(result == outcome.result))
            for result in dict.fromkeys((*_RESULTS, outcome.result))
        ),
    )
    yield _one("exit_code", "Exit code of the last run.", exit_code)
    yield _one("training_exit_code", "Exit code of the training under run.", told.get("child_exit"))
    yield _one("published", "Whether the model is proven to be on the Hub.", int(outcome.published))
    yield _one("duration_seconds", "How long the last run took.", told["duration_s"])
    yield _Gauge(
        "step_duration_seconds",
        "How long each step took, all attempts of the run together.",
        tuple(({"step": step}, seconds) for step, seconds in outcome.steps.items()),
    )
    yield _one("model_files", "Files of the model.", outcome.files)
    yield _one("model_size_bytes", "Size of the model.", outcome.size_bytes)
    yield _one("uploaded_bytes", "What was sent of it.", outcome.uploaded_bytes)
    yield _Gauge(
        "retries",
        "How often was asked again, by kind of call and by what became of the one before.",
        tuple(
            ({"call": call, "cause": cause}, count)
            for (call, cause), count in sorted(outcome.retries.items())
        ),
    )


def _who(outcome: Outcome) -> dict[str, object]:
    return {
        "job_id": outcome.job_id,
        "repo_id": outcome.repo_id,
        "commit": outcome.commit,
        "method": outcome.training.get("method"),
        "version": __version__,
    }


def _one(name: str, meaning: str, value: float | None) -> _Gauge:
    return _Gauge(name, meaning, () if value is None else (({}, value),))


def _text(value: object) -> str:
    text = redact("" if value is None else str(value))
    return "".join(_ESCAPED.get(character, character) for character in text)


def _last_success(path: Path) -> float | None:
    try:
        before = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(rf"^{_PREFIX}{_SUCCESS} (\d+(?:\.\d+)?)$", before, re.MULTILINE)
    return float(found[1]) if found else None


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not *.prom: the collector reads every file that ends so.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(text.encode("utf-8", "replace"))
            os.fchmod(stream.fileno(), _MODE)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
