"""How a story ends: whatever happens inside becomes a sentence in its answer and an exit code."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from agent.errors import EXIT_BUG, AgentError, Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable


class Answer(Protocol):
    """What a command has to say in the end."""

    error: dict[str, str] | None

    def failed(self, error: BaseException, *, code: str, message: str, hint: str) -> None:
        """Note why it ended early."""

    def as_json(self) -> dict[str, Any]:
        """The JSON object that callers read."""
        ...


def told(story: Callable[[], object], answer: Answer, reports: Callable[[], Path | None]) -> int:
    """Tell a story and return its exit code; an error of any kind is noted in the answer.

    Args:
        story: what to do.
        answer: where its end is noted.
        reports: the folder for the report of a bug of ours, as far as it is known by then.
    """
    try:
        story()
    except AgentError as error:
        answer.failed(error, code=error.code, message=error.message, hint=error.hint)
        return error.exit_code
    except Interrupted as error:
        answer.failed(error, code=error.code, message=str(error), hint="Run the same command to continue.")
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - a bug of ours must not look like anything else
        where = _report_bug(reports())
        answer.failed(
            error,
            code="bug",
            message=f"This is a bug in the agent: {type(error).__name__}: {error}",
            hint=f"Please report it with {where}; the model in the output folder was not touched.",
        )
        return EXIT_BUG
    return 0


def _report_bug(folder: Path | None) -> str:
    from agent.log import redact

    trace = redact(traceback.format_exc())
    try:
        folder = folder or Path.cwd()
        folder.mkdir(parents=True, exist_ok=True)
        report = folder / "bug-report.txt"
        report.write_text(trace, encoding="utf-8")
    except OSError:
        return f"this trace:\n{trace}"
    return str(report)
