"""How jobs stand, in lines that a person reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from agent.history_view import clock, facts, size
from agent.log import redact

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent.status.jobs import Status
    from agent.status.standing import Standing

_MINUTE, _HOUR = 60, 3600


def show(answer: Status) -> None:
    """Print how every job stands; who stopped looking is told nothing more."""
    if answer.stopped or answer.error:
        return
    blocks = [list(lines_of(job)) for job in answer.jobs] or [[nothing_known(answer)]]
    if answer.bug_report:
        blocks.append(
            [f"bug report  {answer.bug_report['path']}, written {clock(answer.bug_report['time'])}"]
        )
    blocks += [[remark] for remark in answer.remarks]
    click.echo("\n\n".join("\n".join(words(line) for line in block) for block in blocks))


def nothing_known(answer: Status) -> str:
    """That there is nothing to show, and where."""
    return f"Nothing is known{f' of job {answer.job}' if answer.job else ''} in {answer.where}."


def words(line: str) -> str:
    """A line without secrets, and without what a terminal would take for a command."""
    return redact(line if line.isprintable() else "".join(a if a.isprintable() else " " for a in line))


def lines_of(job: Standing) -> Iterator[str]:
    """One job: what happens, what was done, what is left."""
    yield f"{job.job}  in {job.folder}"
    yield _line("at work", at_work(job))
    yield from (f"    {event_line(entry)}" for entry in job.steps)
    yield from (_line(name, said) for name, said in [*_known(job), *_left(job)] if said)


def _known(job: Standing) -> list[tuple[str, object]]:
    commits = [("commit", f"{commit['repo_id']} at {commit['commit']}") for commit in job.commits]
    run = job.run or {}
    return [
        *commits,
        ("run", _run(run) if run else None),
        ("log", run.get("log")),
        ("row", _row(job.row) if job.row else None),
        ("ended", job.result),
    ]


def _left(job: Standing) -> list[tuple[str, object]]:
    error = job.last_error or {}
    events = f"{job.untold_events} event{'s'[: job.untold_events > 1]}"
    return [
        ("error", f"{error['code']}: {error['message']}" if error else None),
        ("", error.get("hint")),
        ("to tell", f"the row: {_letter(job.to_tell)}" if job.to_tell else None),
        ("to tell", f"the job database: {events}; the next run does" if job.untold_events else None),
        *(("damaged", remark) for remark in job.remarks),
        ("next", job.next),
    ]


def event_line(entry: Mapping[str, Any]) -> str:
    """One event of a run."""
    return f"{clock(entry.get('time'))}  {entry['event']:16}  {facts(entry)}".rstrip()


def at_work(job: Standing) -> str:
    """What happens at this moment."""
    now = job.now
    if now is None:
        return "nobody"
    told = [str(now["step"] or "beginning")]
    told += [f"since {clock(now['since'])}"] if now["since"] else []
    told += [moved(now)] if now["done_bytes"] is not None else []
    told += [f"asked again {now['retries']} times"] if now["retries"] else []
    told += [f"process {now['pid']}"] if now["pid"] else []
    return ", ".join(told)


def moved(now: Mapping[str, Any]) -> str:
    """How many bytes are done, how fast, and how long the rest takes."""
    told = [f"{size(now['done_bytes'])} of {size(now['total_bytes'])}"]
    told += [f"{size(now['rate_bytes_s'])}/s"] if now["rate_bytes_s"] is not None else []
    told += [f"{duration(now['left_s'])} left"] if now["left_s"] is not None else []
    return ", ".join(told)


def duration(seconds: int) -> str:
    """Seconds as people say them."""
    if seconds < _MINUTE:
        return f"{seconds} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE}:{seconds % _MINUTE:02} min"
    return f"{seconds // _HOUR}:{seconds % _HOUR // _MINUTE:02} h"


def _line(name: str, said: object) -> str:
    return f"  {name:9} {said}"


def _run(run: Mapping[str, Any]) -> str:
    told = [f"{run['phase']} in pod {run['pod']}"]
    told += [f"training began {clock(run['begun'])}"] if run["begun"] else []
    told += [f"ended {clock(run['ended'])}"] if run["ended"] else []
    told += [f"with exit code {run['child_exit']}"] if run["child_exit"] is not None else []
    told += [f"run ended with {run['exit_code']}"] if run["exit_code"] is not None else []
    return ", ".join(told)


def _row(row: Mapping[str, Any]) -> str:
    told = [f"{row.get('status')}, {row.get('progress')} %"]
    told += [str(row[name]) for name in ("model_url", "error_message", "result_note") if row.get(name)]
    return ", ".join(told)


def _letter(letter: Mapping[str, Any]) -> str:
    if letter.get("kind") == "complete":
        return f"completed, {letter.get('model_url') or letter.get('note')}"
    return f"failed: {letter.get('message')}"
