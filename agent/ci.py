"""GitHub Actions as one of those who are told: outputs, a summary, annotations.

Outputs and summary are files that the runner reads when the step is over; annotations are lines that it finds
in our stderr. Whatever strangers wrote (a file's name, a server's words) stays a value in all three.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.boundary import PROGRAM, rerun
from agent.log import get_logger, redact
from agent.pod_config import UNDER_RUN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent.ending import Answer

LARGEST_SUMMARY = 1 << 20  # bytes of one step; beyond it the runner drops the whole file
_OUTPUTS = ("model_url", "commit", "result", "published")
_IN_DATA, _IN_PROPERTY = "%\r\n", "%\r\n:,"


def tell(environ: Mapping[str, str], answer: Answer, exit_code: int) -> None:
    """Tell the workflow that this is a step of, if it is one; the command ends as it ended.

    A command below `run` is silent: `run` tells of all that happened below it.

    Args:
        environ: our environment.
        answer: of the command.
        exit_code: of the command.
    """
    if environ.get("GITHUB_ACTIONS") != "true" or UNDER_RUN in environ:
        return
    try:
        _tell(environ, answer, exit_code)
    except Exception as error:  # noqa: BLE001 - whatever it is, the command ended as it ended
        get_logger().warning("the workflow was not told all", because=f"{type(error).__name__}: {error}")


def _tell(environ: Mapping[str, str], answer: Answer, exit_code: int) -> None:
    from agent.ci_summary import summary

    # Without secrets before anything is escaped: afterwards nobody would recognise one.
    told: dict[str, Any] = json.loads(_fit_to_tell(json.dumps(answer.as_json(), ensure_ascii=False)))
    command = _fit_to_tell(rerun())
    _append(environ.get("GITHUB_OUTPUT"), outputs(told))
    for line in notices(told, exit_code):
        click.echo(line, err=True)
    _append(environ.get("GITHUB_STEP_SUMMARY"), summary(told, exit_code, command), LARGEST_SUMMARY)


def _fit_to_tell(text: str) -> str:
    """Text without secrets, and without what is no text: names of files hold any bytes."""
    return redact(text).encode(errors="replace").decode()


def outputs(told: Mapping[str, Any]) -> str:
    """The step's outputs as the runner reads them; each value ends at a line that nobody could foresee."""
    lines = [""]  # what wrote to the file before us may have left its last line open
    for name in _OUTPUTS:
        if name in told:
            value, end = told[name], f"end-{secrets.token_hex(16)}"
            text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            lines += [f"{name}<<{end}", text, end]
    return "\n".join([*lines, ""])


def notices(told: Mapping[str, Any], exit_code: int) -> Iterator[str]:
    """Lines that GitHub shows beside the run: why it failed and what to do, and what is worth knowing."""
    if error := told.get("error"):
        title = f"{PROGRAM}: {error['code']} (exit {exit_code})"
        yield _command("error", title, f"{error['message']}\n{error['hint']}")
    if note := told.get("note"):
        yield _command("warning", f"{PROGRAM}: {told['result']}", note)
    for warning in told.get("warnings", ()):
        yield _command("warning", PROGRAM, warning)


def _command(name: str, title: str, text: str) -> str:
    return f"::{name} title={_escaped(title, _IN_PROPERTY)}::{_escaped(text, _IN_DATA)}"


def _escaped(text: str, special: str) -> str:
    return "".join(f"%{ord(char):02X}" if char in special else char for char in text)


def _append(path: str | None, text: str, largest: int | None = None) -> None:
    """Add to a file of the runner's in one write, whole or not at all; one that cannot be written is told."""
    if not path:
        return
    content = text.encode()
    try:
        with Path(path).open("ab", buffering=0) as file:
            before = file.tell()
            if largest and before + len(content) > largest:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)  # noqa: TRY301 - as if it were full
            if file.write(content) < len(content):
                file.truncate(before)  # half an output would fail the step
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)  # noqa: TRY301 - told below
    except OSError as error:
        get_logger().warning("the workflow was not told all", because=str(error))
