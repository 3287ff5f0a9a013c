"""What a rollback did, or would do, as a person reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.filesize import decimal

from agent.rollback import ALREADY_THERE, DRY_RUN, ROLLED_BACK

if TYPE_CHECKING:
    from agent.rollback import Rollback

_SHORT = 12
_SAID = {
    ROLLED_BACK: "{url}  holds the files of {target} again, proven at {commit}",
    ALREADY_THERE: "{url}  holds the files of {target} already",
    DRY_RUN: "would roll back {repo} ({branch}) from {before} to {target}",
}


def show(answer: Rollback) -> None:
    """Print where the branch is now; of a dry run every file that would change."""
    said = _SAID.get(answer.result)
    if said is None:
        return
    click.echo(
        said.format(
            url=answer.model_url,
            repo=answer.repo_id,
            branch=answer.revision,
            target=str(answer.target)[:_SHORT],
            before=str(answer.before)[:_SHORT],
            commit=str(answer.commit)[:_SHORT],
        )
    )
    if answer.result != DRY_RUN:
        return
    for path in answer.restored:
        click.echo(f"  + {path}  as it was")
    for path in answer.deleted:
        click.echo(f"  - {path}  added since")
    if answer.restored:
        click.echo(f"  {decimal(answer.size_bytes)} by reference; nothing large is uploaded")
    elif not answer.deleted:
        click.echo("  nothing differs")
