"""The one error boundary: whatever happens inside becomes a sentence, a JSON object and an exit code."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import click

from agent import ending
from agent.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType

    from rich.console import Console

    from agent.config import Config
    from agent.retry import Patience

PROGRAM = "training-agent"
PIPED_WIDTH = 160  # of tables that no terminal shows


A = TypeVar("A", bound=ending.Answer)


def run(
    story: Callable[[Config, A], None],
    flags: dict[str, Any],
    outcome: A,
    *,
    as_json: bool,
    show: Callable[[A], None],
    changes_nothing: bool = False,
) -> int:
    """Tell a story with the configuration, give its answer, and return the exit code.

    Args:
        story: what to do; it fills in the answer as it goes.
        flags: variables that the command line sets; None leaves them to the environment.
        outcome: the answer; true at every moment, also when an error ends the story.
        as_json: print the answer as one JSON object on stdout.
        show: else, how a person is shown it.
        changes_nothing: whether the story only looks: then no folder is made for what it might send.
    """
    from agent import config as configuration
    from agent import log

    answers = _keep_stdout()
    style = configuration.asked_log_format() or ("console" if sys.stderr.isatty() else "json")
    log.configure(style=style, level="info")
    state_dir = None

    def tell() -> None:
        nonlocal style, state_dir
        _on_signals(_interrupt)
        config = configuration.load(environment(), flags)
        state_dir = config.state_dir
        style = config.log_format or style
        log.configure(style=style, level=config.log_level)
        warnings = list(config.warnings)
        if not changes_nothing:
            from agent.hub.environment import prepare

            warnings += prepare(os.environ, config.state_dir)
        for warning in warnings:
            log.get_logger().warning(warning)
        story(config, outcome)

    exit_code = ending.told(tell, outcome, lambda: state_dir)
    _on_signals(signal.SIG_IGN)  # only the answer is left to give, and a signal must not cut it in half
    os.dup2(answers, sys.stdout.fileno())
    if as_json:
        click.echo(log.redact(json.dumps(outcome.as_json())))
    else:
        show(outcome)
    if outcome.error:
        _last_words(outcome.error, exit_code, style)
    return exit_code


def environment() -> dict[str, str]:
    """The environment, with what the pod was told and this shell was not."""
    from agent import config as configuration
    from agent.pod.environ import complete

    return complete(os.environ, [*configuration.variables().values(), ("TRAINING_CONFIG",)])


def patiently(story: Callable[[Config, A, Patience], None]) -> Callable[[Config, A], None]:
    """A story that is told with the patience that the configuration asks for."""

    def with_patience(config: Config, answer: A) -> None:
        from agent.retry import Patience

        story(config, answer, Patience(config.stall_s, config.deadline_s))

    return with_patience


def on_console(show: Callable[[A, Console], None]) -> Callable[[A], None]:
    """A way of showing that needs a terminal, or something as wide as one."""
    return lambda answer: show(answer, console())


def console() -> Console:
    """Where a person reads tables."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)


def listen() -> None:
    """Hear signals again, after the answer was given."""
    _on_signals(_interrupt)


def write_answer(path: Path, answer: ending.Answer) -> None:
    """Write the answer as one JSON object, whole or not at all; a file that cannot be written is told."""
    from agent import log
    from agent.durable import write_durably

    try:
        write_durably(path, json.loads(log.redact(json.dumps(answer.as_json()))))
    except OSError as error:
        log.get_logger().error("the answer cannot be written", file=str(path), because=str(error))


def rerun() -> str:
    """The command that was run, to be pasted into a shell."""
    from agent import log

    return shlex.join([PROGRAM, *map(log.redact, sys.argv[1:])])


def _keep_stdout() -> int:
    """Let whatever a library prints go to stderr, and return where the answer goes.

    hf_xet, for one, falls back to logging on stdout from Rust.
    """
    sys.stdout.flush()
    answers = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def _on_signals(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, handler)


def _interrupt(signum: int, _frame: FrameType | None) -> None:
    """Stop at the next chance; a second signal stops at once."""
    signal.signal(signum, signal.SIG_DFL)
    raise Interrupted(signum)


def _last_words(error: dict[str, str], exit_code: int, style: str) -> None:
    """End a failure with its code, the hint and the command to run next."""
    from agent import log

    if style == "json":
        log.get_logger().error(
            error["message"], code=error["code"], exit_code=exit_code, hint=error["hint"], next=rerun()
        )
        return
    # A line of somebody else's that begins with `::` would be a command to GitHub's runner.
    message, hint = (error[name].replace("\r", "\n").replace("\n", "\n | ") for name in ("message", "hint"))
    words = f"error: {message}\n {error['code']} (exit {exit_code}): {hint}\n next: {rerun()}"
    click.echo(log.redact(words), err=True)
