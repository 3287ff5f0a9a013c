"""What finalize did, or would do, as a person reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from agent.outcome import Outcome


def show_outcome(outcome: Outcome) -> None:
    """Print where the model is, or why it is not."""
    if outcome.published:
        click.echo(f"{outcome.model_url}  ({outcome.files} files, proven at {str(outcome.commit)[:8]})")
    elif outcome.note:
        click.echo(f"not published: {' '.join(outcome.note.split())}")


def show_plan(outcome: Outcome) -> None:
    """Print what would be published, made, deleted and left behind."""
    if outcome.plan is None:
        return
    to = outcome.repo_id or "nowhere: HF_TOKEN is not set"
    click.echo(
        f"would publish to {to}" + (" (already there)" if outcome.plan.get("already_published") else "")
    )
    if outcome.note:
        click.echo(f"  but AGENT_PUBLISH_IF says no: {outcome.note}")
    for file in outcome.plan["publish"]:
        click.echo(f"  + {file['path']}  {file['size']:,} bytes")
    for path in outcome.plan["make"]:
        click.echo(f"  * {path}  made or repaired for the reader")
    for path in outcome.plan["delete"]:
        click.echo(f"  - {path}  of the previous model")
    for left in outcome.plan["leave_out"]:
        click.echo(f"    {left['path']}  stays here: {left['reason']}")
