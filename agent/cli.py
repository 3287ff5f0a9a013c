"""The door: commands and exit codes; the only place that ends the process."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from agent import __version__, boundary
from agent.boundary import PROGRAM, A

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from agent.config import Config
    from agent.migrations import Migration
    from agent.outcome import Outcome
    from agent.retry import Patience

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
    14 verify-mismatch · 15 job-refused · 17 training-failed · 70 a bug · 130/143 signal
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

    used: list[Config] = []

    def story(config: Config, outcome: Outcome, patience: Patience) -> None:
        from agent.finalize import finalize as run

        used.append(config)
        run(config, outcome, patience, dry_run=dry_run)

    outcome = Outcome()
    show = show_plan if dry_run else show_outcome
    exit_code = boundary.run(_patiently(story), flags, outcome, as_json=as_json, show=show)
    if used and not dry_run:
        from agent.entrypoint import leave_after_finalize

        boundary.listen()
        leave_after_finalize(used[0], outcome, exit_code)
    sys.exit(exit_code)


@cli.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option(
    "--json-file",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="PATH",
    help="Write one JSON object there when all is done; stdout belongs to the training.",
)
@click.argument("command", metavar="-- COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
def run(*, command: tuple[str, ...], json_file: Path | None) -> None:
    """Train by running COMMAND, then finalize; on RunPod, stop the pod in the end.

    The job row hears of the progress, and a cancel stops the training. Started again after any crash, it
    continues: a training that ended is not started again. As the first process of a pod it does not return.

    \b
    training-agent run -- python train.py --epochs 3
    Exit codes: those of finalize · 17 training-failed (child_exit in the JSON is its exit code)
    """  # noqa: D301 - click's own mark for a paragraph kept as it is
    from agent.entrypoint import Entrypoint

    entrypoint = Entrypoint(command, environ=boundary.environment(), stdout=os.dup(sys.stdout.fileno()))

    def show(outcome: Outcome) -> None:
        if json_file:
            boundary.write_answer(json_file, outcome)

    exit_code = boundary.run(entrypoint.tell, {}, entrypoint.outcome, as_json=False, show=show)
    boundary.listen()
    entrypoint.leave(exit_code)
    sys.exit(exit_code)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout; logs go to stderr.")
def preflight(*, as_json: bool) -> None:
    """Look, before the GPU hours, at everything that would keep the model from being published.

    The same variables count as for finalize. Nothing is changed, neither on the Hub nor in the job's row.

    \b
    Exit codes: 0 ready · 10 config · 12 hub-auth · 13 hub-refused · 15 job-refused
    75 hub-unreachable, 76 job-unreachable: somebody did not answer
    """  # noqa: D301 - click's own mark for a paragraph kept as it is
    from agent.preflight import Preflight
    from agent.preflight import preflight as look
    from agent.preflight_view import show

    sys.exit(boundary.run(look, {}, Preflight(), as_json=as_json, show=_on_console(show)))


@cli.command()
@click.argument("folder", metavar="[DIR]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout; logs go to stderr.")
def check(*, folder: str | None, as_json: bool) -> None:
    """Show what of DIR would be published, and everything that speaks against it. Needs no account.

    DIR is OUTPUT_DIR if it is not given. The same variables count as for finalize.

    \b
    Exit codes: 0 may be published · 10 config · 11 artifact: may not be published, and why
    """  # noqa: D301 - click's own mark for a paragraph kept as it is
    from agent.check_view import show
    from agent.checking import Checked, check_folder

    flags = {"OUTPUT_DIR": folder}
    sys.exit(boundary.run(check_folder, flags, Checked(), as_json=as_json, show=_on_console(show)))


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

    sys.exit(boundary.run(render, {"OUTPUT_DIR": folder}, Preview(), as_json=as_json, show=show))


@cli.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--rollback", is_flag=True, help="Print the way back instead, newest first.")
@click.option(
    "--check", "asked", is_flag=True, help="Ask the job database which are missing; change nothing."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout; logs go to stderr.")
def migrations(*, names: tuple[str, ...], rollback: bool, asked: bool, as_json: bool) -> None:
    """List the SQL that the job database needs, print it, or say what is missing.

    NAME is a migration, a part of its name, or `all`. What is printed runs in psql and, one file after the
    other, in Supabase's SQL editor.

    \b
    training-agent migrations all | psql -v ON_ERROR_STOP=1 "$DATABASE_URL"
    Exit codes of --check: 0 all are in force · 10 config · 15 some are missing, or the row cannot be seen
    76 job-unreachable
    """  # noqa: D301 - click's own mark for a paragraph kept as it is
    from agent.migrations import load

    if rollback and not names:
        raise click.UsageError("--rollback prints the way back from a NAME; `all` is from everything.")
    if asked:
        if names:
            raise click.UsageError("--check looks at all migrations; leave out NAME.")
        from agent.schema_check import SchemaCheck, check_database
        from agent.schema_view import show_check

        answer = SchemaCheck()
        sys.exit(
            boundary.run(
                _patiently(check_database), {}, answer, as_json=as_json, show=_on_console(show_check)
            )
        )
    chosen = load() if not names else _named(names, load())
    if rollback:
        chosen.reverse()
    if as_json:
        click.echo(json.dumps({"migrations": [asdict(step) for step in chosen]}))
    elif names:
        click.echo("\n".join(step.rollback if rollback else step.sql for step in chosen), nl=False)
    else:
        from agent.schema_view import show_list

        show_list(chosen, _console())


def _named(names: tuple[str, ...], steps: list[Migration]) -> list[Migration]:
    """The migrations meant, in their own order."""
    meant: set[str] = set()
    for name in names:
        exact = {step.version for step in steps if step.name in {name, f"{step.version}_{name}"}}
        found = exact or {step.version for step in steps if name == "all" or name in step.name}
        if not found:
            known = ", ".join(step.name for step in steps)
            raise click.UsageError(f"There is no migration {name!r}. There are: {known}")
        meant |= found
    return [step for step in steps if step.version in meant]


@cli.command()
@click.option(
    "--last", metavar="N", type=click.IntRange(min=1), default=100, show_default=True, help="How many events."
)
@click.option("--local", is_flag=True, help="From this volume, also if there is a job database.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout; logs go to stderr.")
def history(*, last: int, local: bool, as_json: bool) -> None:
    """Show what was done for JOB_ID, oldest first: from the job database, else from this volume.

    Without JOB_ID: what was done for every job on this volume.

    \b
    Exit codes: 0 shown, or nothing is known · 10 config
    """  # noqa: D301 - click's own mark for a paragraph kept as it is
    from agent.history import History, recall
    from agent.history_view import show

    sys.exit(boundary.run(_patiently(recall), {}, History(last, local), as_json=as_json, show=show))


def _patiently(story: Callable[[Config, A, Patience], None]) -> Callable[[Config, A], None]:
    def with_patience(config: Config, answer: A) -> None:
        from agent.retry import Patience

        story(config, answer, Patience(config.stall_s, config.deadline_s))

    return with_patience


def _on_console(show: Callable[[A, Console], None]) -> Callable[[A], None]:
    return lambda answer: show(answer, _console())


def _console() -> Console:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)


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
