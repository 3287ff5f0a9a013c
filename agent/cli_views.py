"""The commands that show something and change nothing."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from agent import boundary

if TYPE_CHECKING:
    from agent.migrations import Migration


@click.command(short_help="Look for what would stop a publication.")
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

    sys.exit(boundary.run(look, {}, Preflight(), as_json=as_json, show=boundary.on_console(show)))


@click.command(short_help="Show what of a folder would be published.")
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
    sys.exit(boundary.run(check_folder, flags, Checked(), as_json=as_json, show=boundary.on_console(show)))


@click.command(short_help="Render the model's page without an account.")
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


@click.command(short_help="The SQL that the job database needs.")
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
                boundary.patiently(check_database),
                {},
                answer,
                as_json=as_json,
                show=boundary.on_console(show_check),
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

        show_list(chosen, boundary.console())


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
