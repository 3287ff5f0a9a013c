"""The door: commands, the one error boundary, exit codes."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

import click

from agent import __version__
from agent.errors import EXIT_BUG, AgentError, Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from agent.config import Config
    from agent.outcome import Outcome

PROGRAM = "training-agent"
PIPED_WIDTH = 160  # of tables that no terminal shows


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name=PROGRAM)
def cli() -> None:
    """Publish a trained model to the Hugging Face Hub, prove it, and tell the job row the truth.

    What to do is read from the environment (HF_TOKEN, HF_REPO_NAME, OUTPUT_DIR, JOB_ID, …); a flag
    beats a variable. Running a command again is always safe.
    """


def main() -> NoReturn:
    """Run the command line; the only place that ends the process."""
    cli.main(prog_name=PROGRAM, standalone_mode=True)
    sys.exit(0)


@cli.command()
@click.option("--output-dir", metavar="DIR", help="Folder to publish.  [OUTPUT_DIR]")
@click.option("--repo", metavar="NAME", help="Repo, as namespace/name or name.  [HF_REPO_NAME]")
@click.option("--revision", metavar="BRANCH", help="Branch to commit to.  [HF_REVISION, main]")
@click.option("--private/--public", default=None, help="Visibility of the repo.  [HF_REPO_PRIVATE]")
@click.option("--job-id", metavar="UUID", help="The job this model belongs to.  [JOB_ID]")
@click.option("--base-model", metavar="ID", help="The base model to name on the card.  [BASE_MODEL]")
@click.option("--commit-message", metavar="TEXT", help="First line of the commit.  [AGENT_COMMIT_MESSAGE]")
@click.option("--dry-run", is_flag=True, help="Show what would be published; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout; logs go to stderr.")
def finalize(
    *,
    output_dir: str | None,
    repo: str | None,
    revision: str | None,
    private: bool | None,
    job_id: str | None,
    base_model: str | None,
    commit_message: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Publish the output folder, prove it, and complete the job row.

    \b
    Exit codes: 0 done or nothing to do · 10 config · 11 artifact · 12 hub-auth · 13 hub-refused
    14 verify-mismatch · 15 job-refused · 70 a bug · 130/143 signal
    75 hub-unreachable, 76 job-unreachable: run again
    """  # noqa: D301 - click's own mark for a paragraph kept as it is
    flags = {
        "OUTPUT_DIR": output_dir,
        "HF_REPO_NAME": repo,
        "HF_REVISION": revision,
        "HF_REPO_PRIVATE": private,
        "JOB_ID": job_id,
        "BASE_MODEL": base_model,
        "AGENT_COMMIT_MESSAGE": commit_message,
    }

    from agent.finalize_view import show_outcome, show_plan
    from agent.outcome import Outcome

    def story(config: Config, outcome: Outcome) -> None:
        from agent.finalize import finalize as run
        from agent.retry import Patience

        run(config, outcome, Patience(config.stall_s, config.deadline_s), dry_run=dry_run)

    _run(story, flags, Outcome(), as_json=as_json, show=show_plan if dry_run else show_outcome)


@cli.command()
@click.argument("folder", metavar="[DIR]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout; logs go to stderr.")
def check(*, folder: str | None, as_json: bool) -> None:
    """Show what of DIR would be published, and everything that speaks against it. Needs no account.

    DIR is OUTPUT_DIR if it is not given. The same variables count as for finalize.

    \b
    Exit codes: 0 may be published · 10 config · 11 artifact: may not be published, and why
    """  # noqa: D301 - click's own mark for a paragraph kept as it is
    from agent.checking import Checked, check_folder

    def show(checked: Checked) -> None:
        from rich.console import Console

        from agent.check_view import show as print_tables

        print_tables(checked, Console(width=None if sys.stdout.isatty() else PIPED_WIDTH))

    _run(check_folder, {"OUTPUT_DIR": folder}, Checked(), as_json=as_json, show=show)


@cli.command()
@click.argument("folder", metavar="[DIR]", required=False)
@click.option("--open", "open_it", is_flag=True, help="Show the page in a browser.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout; logs go to stderr.")
def card(*, folder: str | None, open_it: bool, as_json: bool) -> None:
    """Render the page of the model in DIR as it would be published. Needs no account.

    Written below AGENT_STATE_DIR: README.md with its plots, and page.html, which holds everything. DIR is
    OUTPUT_DIR if it is not given. The same variables count as for finalize.

    \b
    Exit codes: 0 rendered · 10 config · 11 artifact: there is no model, or the page cannot be written
    """  # noqa: D301 - click's own mark for a paragraph kept as it is
    from agent.preview import Preview, render

    def show(preview: Preview) -> None:
        if preview.html is None:
            return
        click.echo(f"{preview.html}\n{preview.markdown}  ({len(preview.plots)} plots)")
        if preview.refused:
            click.echo(f"finalize would not publish it: {preview.refused}", err=True)
        if open_it and click.launch(str(preview.html)) != 0:
            click.echo("no browser could be opened", err=True)

    _run(render, {"OUTPUT_DIR": folder}, Preview(), as_json=as_json, show=show)


@cli.command()
@click.option(
    "--output-dir", type=click.Path(path_type=Path), help="A folder to publish; default: one is made."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def demo(*, output_dir: Path | None, as_json: bool) -> None:
    """Publish to a Hub and a job database embedded on this machine; check every claim. Needs no account.

    Exit 0 only if everything shown is true.
    """
    try:
        from agent.demo.run import run_demo
        from agent.sandbox.postgres import PostgresError
    except ModuleNotFoundError as error:
        raise click.UsageError(
            f"The demo needs {error.name}: pip install 'training-completion-agent[demo]'"
        ) from error
    try:
        sys.exit(run_demo(output_dir, as_json=as_json))
    except PostgresError as error:
        raise click.UsageError(str(error)) from error
    except KeyboardInterrupt:
        click.echo("stopped; nothing is left running", err=True)
        sys.exit(128 + signal.SIGINT)


class _Answer(Protocol):
    """What a command has to say in the end."""

    error: dict[str, str] | None

    def failed(self, error: BaseException, *, code: str, message: str, hint: str) -> None: ...

    def as_json(self) -> dict[str, Any]: ...


_A = TypeVar("_A", bound=_Answer)


def _run(
    story: Callable[[Config, _A], None],
    flags: dict[str, Any],
    outcome: _A,
    *,
    as_json: bool,
    show: Callable[[_A], None],
) -> NoReturn:
    """The error boundary: whatever happens inside becomes a sentence, a JSON object and an exit code."""
    from agent import config as configuration
    from agent import log

    exit_code = 0
    answers = _keep_stdout()
    style = configuration.asked_log_format() or ("console" if sys.stderr.isatty() else "json")
    log.configure(style=style, level="info")
    state_dir = None
    try:
        _on_signals(_interrupt)
        config = configuration.load(flags=flags)
        state_dir = config.state_dir
        style = config.log_format or style
        log.configure(style=style, level=config.log_level)
        from agent.hub.environment import prepare

        for warning in [*config.warnings, *prepare(os.environ, config.state_dir)]:
            log.get_logger().warning(warning)
        story(config, outcome)
    except AgentError as error:
        exit_code = error.exit_code
        outcome.failed(error, code=error.code, message=error.message, hint=error.hint)
    except Interrupted as error:
        exit_code = error.exit_code
        outcome.failed(error, code=error.code, message=str(error), hint="Run the same command to continue.")
    except Exception as error:  # noqa: BLE001 - the boundary: a bug of ours must not look like anything else
        exit_code = EXIT_BUG
        where = _report_bug(state_dir)
        outcome.failed(
            error,
            code="bug",
            message=f"This is a bug in the agent: {type(error).__name__}: {error}",
            hint=f"Please report it with {where}; the model in the output folder was not touched.",
        )
    _on_signals(signal.SIG_IGN)  # only the answer is left to give, and a signal must not cut it in half
    os.dup2(answers, sys.stdout.fileno())
    if as_json:
        click.echo(log.redact(json.dumps(outcome.as_json())))
    else:
        show(outcome)
    if outcome.error:
        _last_words(outcome.error, exit_code, style)
    sys.exit(exit_code)


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

    rerun = " ".join([PROGRAM, *sys.argv[1:]])
    if style == "json":
        log.get_logger().error(
            error["message"], code=error["code"], exit_code=exit_code, hint=error["hint"], next=rerun
        )
        return
    words = f"error: {error['message']}\n {error['code']} (exit {exit_code}): {error['hint']}\n next: {rerun}"
    click.echo(log.redact(words), err=True)


def _report_bug(state_dir: Path | None) -> str:
    from agent import log

    trace = log.redact(traceback.format_exc())
    try:
        folder = state_dir or Path.cwd()
        folder.mkdir(parents=True, exist_ok=True)
        report = folder / "bug-report.txt"
        report.write_text(trace, encoding="utf-8")
    except OSError:
        return f"this trace:\n{trace}"
    return str(report)
