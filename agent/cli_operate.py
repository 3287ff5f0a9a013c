"""The commands for what is published already, and for what is under way."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

import click

from agent import boundary


@click.command(short_help="Prove that a repo holds what was published.")
@click.argument("repo", metavar="[REPO]", required=False)
@click.option("--revision", metavar="REV", help="Branch, tag or commit.  [HF_REVISION, main]")
@click.option(
    "--against",
    metavar="DIR|FILE",
    type=click.Path(path_type=Path),
    help="Compare with a folder, or with a manifest kept elsewhere, not with its own finalize.json.",
)
@click.option("--download", is_flag=True, help="Read every byte back and hash it; nothing is kept.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout; logs go to stderr.")
def verify(
    *, repo: str | None, revision: str | None, against: Path | None, download: bool, as_json: bool
) -> None:
    """Prove that what REPO holds is what was published; name everything that is not.

    REPO is HF_REPO_NAME if it is not given. Needs no token for a public repo, and downloads nothing but small
    files unless it is told to.

    \b
    training-agent verify ada/model --against ./fine_tuned_model
    Exit codes: 0 proven · 10 config · 11 artifact: DIR holds no model · 12 hub-auth · 13 hub-refused
    14 verify-mismatch: what differs, and the cure · 75 hub-unreachable
    """  # noqa: D301 - click's own mark for a paragraph kept as it is
    from agent import ci
    from agent.verification import Verification
    from agent.verification import verify as look
    from agent.verification.view import show

    answer = Verification(against=against, revision=revision, download=download)
    story, flags = boundary.patiently(look), {"HF_REPO_NAME": repo}
    exit_code = boundary.run(story, flags, answer, as_json=as_json, show=boundary.on_console(show))
    ci.tell(os.environ, answer, exit_code)
    sys.exit(exit_code)


@click.command(short_help="Go back to an earlier revision, proven.")
@click.argument("repo", metavar="[REPO]", required=False)
@click.option(
    "--to",
    metavar="REV",
    required=True,
    help="What to go back to: a commit, a tag such as job-1a2b3c4d, a branch, or `previous`.",
)
@click.option("--revision", metavar="BRANCH", help="Branch to roll back.  [HF_REVISION, main]")
@click.option("--dry-run", is_flag=True, help="Show the difference; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout; logs go to stderr.")
def rollback(*, repo: str | None, to: str, revision: str | None, dry_run: bool, as_json: bool) -> None:
    """Restore exactly the files of an earlier revision of REPO, as one new commit; prove it.

    Large files are restored by reference: nothing is uploaded. `previous` is what the branch held before its
    newest publication, however often this is run. A commit that comes from elsewhere meanwhile is not
    overwritten. The row of a job stays as it is; the job's audit trail tells of the rollback.

    \b
    training-agent rollback ada/model --to previous --dry-run
    Exit codes: 0 restored, or there already · 10 config · 12 hub-auth · 13 hub-refused · 14 verify-mismatch
    75 hub-unreachable: run again
    """  # noqa: D301 - click's own mark for a paragraph kept as it is
    from agent import ci
    from agent.rollback import Rollback, roll_back
    from agent.rollback_view import show

    answer = Rollback(to=to, dry_run=dry_run)
    story, flags = boundary.patiently(roll_back), {"HF_REPO_NAME": repo, "HF_REVISION": revision}
    exit_code = boundary.run(story, flags, answer, as_json=as_json, show=show)
    ci.tell(os.environ, answer, exit_code)
    sys.exit(exit_code)


@click.command(short_help="Show how the jobs on this volume stand.")
@click.option("--watch", is_flag=True, help="Go on showing it until the work is over.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout; logs go to stderr.")
def status(*, watch: bool, as_json: bool) -> None:
    """Show what this volume knows of JOB_ID: steps done, commits, what is still to be told, last errors.

    Without JOB_ID: of every job on this volume. Asks nobody, and changes nothing.

    \b
    Exit codes: 0 shown, or nothing is known · 10 config
    """  # noqa: D301 - click's own mark for a paragraph kept as it is
    from agent.status import Status, look
    from agent.status.view import show

    if watch and as_json:
        raise click.UsageError("--watch shows to people; for programs ask --json again and again.")
    story = look
    if watch:
        from agent.status.watch import watching

        out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding=sys.stdout.encoding)
        story = partial(watching, out=out)
    sys.exit(boundary.run(story, {}, Status(), as_json=as_json, show=show, changes_nothing=True))


@click.command(short_help="Show what was done for a job.")
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

    sys.exit(boundary.run(recall, {}, History(last, local), as_json=as_json, show=show))
