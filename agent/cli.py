"""The door: commands and exit codes; the only place that ends the process."""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from agent import __version__, boundary
from agent.boundary import PROGRAM
from agent.cli_operate import history, rollback, status, verify
from agent.cli_views import card, check, migrations, preflight

_OFTEN_ENOUGH = 50_000  # objects between two searches for garbage

if TYPE_CHECKING:
    from agent.config import Config
    from agent.outcome import Outcome
    from agent.retry import Patience


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name=PROGRAM)
def cli() -> None:
    """Publish a trained model to the Hugging Face Hub, prove it, and tell the job row the truth.

    What to do is read from the environment (HF_TOKEN, HF_REPO_NAME, OUTPUT_DIR, JOB_ID, …); a flag
    beats a variable. Running a command again is always safe.
    """


def main() -> NoReturn:
    """Run the command line; the only place that ends the process."""
    gc.set_threshold(_OFTEN_ENOUGH)  # what the libraries are made of is not garbage
    try:
        cli.main(prog_name=PROGRAM, standalone_mode=True)
    finally:
        gc.freeze()  # nor at the end, when all of it goes: to search it would take longer than a --help
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
@click.option(
    "--metrics-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PATH",
    help="Write the run's figures there as OpenMetrics text.",
)
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
    metrics_file: Path | None,
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
    exit_code = boundary.run(boundary.patiently(story), flags, outcome, as_json=as_json, show=show)
    if not dry_run:
        from agent.afterwards import tell_others

        config = used[0] if used else None
        boundary.listen()
        told = tell_others(boundary.environment(), config, outcome, exit_code, metrics_file=metrics_file)
        if told and config and (config.on_finish or config.alert_url):
            from agent.entrypoint import leave_after_finalize

            leave_after_finalize(config, outcome, exit_code)
    sys.exit(exit_code)


@cli.command(
    short_help="Train, then finalize; the start of a pod.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option(
    "--json-file",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="PATH",
    help="Write one JSON object there when all is done; stdout belongs to the training.",
)
@click.option(
    "--metrics-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PATH",
    help="Write the run's figures there as OpenMetrics text.",
)
@click.argument("command", metavar="-- COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
def run(*, command: tuple[str, ...], json_file: Path | None, metrics_file: Path | None) -> None:
    """Train by running COMMAND, then finalize; on RunPod, stop the pod in the end.

    The job row hears of the progress, and a cancel stops the training. What is finished meanwhile is sent
    ahead, unless AGENT_WARM is off; nobody sees it before the commit. Started again after any crash, it
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
    if entrypoint.tell_others(exit_code, metrics_file):
        entrypoint.leave(exit_code)  # else whoever told us to stop ends the pod
    sys.exit(exit_code)


@cli.command(short_help="Publish on this machine, check every claim.")
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


for command_of in (preflight, check, card, verify, rollback, status, history, migrations):
    cli.add_command(command_of)
