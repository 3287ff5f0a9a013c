"""Two who write the same row at once: one of them wins, each is told which, and the row is the winner's."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from agent.database_config import JobDatabase
from agent.errors import JobRefusedError
from agent.jobs.supabase import SupabaseStore
from agent.retry import Patience
from agent.sandbox.jobs_app import ACTIVE, JobsApp
from tests.conftest import Clock

if TYPE_CHECKING:
    from collections.abc import Callable

TABLE = "/rest/v1/local_training_jobs"
HUB = "https://huggingface.co/"
BEFORE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
RUNNING = {
    "status": "running",
    "progress": 40.0,
    "model_url": None,
    "error_message": "a warning",
    "failure_stage": None,
    "metadata": '{"kept": true}',
    "completed_at": None,
    "updated_at": BEFORE,
    "heartbeat_at": BEFORE,
}
WAITING = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
CHANGES = """
    select from_status, to_status, actor_role from model_upload_events
    where job_id = %s and event = 'status_changed' order by id
"""


@dataclass
class Contestant:
    """Somebody who wants the row for themselves; `write` returns whether they were told that they have it."""

    write: Callable[[], bool]
    wins: dict[str, Any]
    times: set[str]
    role: str


@pytest.fixture(scope="module")
def app(cluster):
    with JobsApp(cluster) as running:
        yield running


@pytest.fixture(scope="module")
def client():
    with httpx.Client(timeout=30) as opened:
        yield opened


@pytest.fixture
def database(app):
    """A session that looks on."""
    with app.connect() as session:
        session.autocommit = True
        yield session


@pytest.fixture
def stores():
    opened = []
    yield opened
    for store in opened:
        store.close()


def agent(app, job, stores, *, last_word="complete", repo="ada/m"):
    """The pod's own client."""
    clock = Clock()
    patience = Patience(60, clock=clock, sleep=clock.sleep, jitter=lambda: 0.0)
    store = SupabaseStore(JobDatabase(app.url, app.key, job.token, "local_training_jobs"), job.id, patience)
    stores.append(store)

    def complete():
        try:
            return store.complete(model_url=HUB + repo, note=None).status == "completed"
        except JobRefusedError:
            return False

    def fail():
        return store.fail(message="the Hub said no", stage="publish").status == "failed"

    completed = {"status": "completed", "progress": 100, "model_url": HUB + repo, "error_message": None}
    completed["metadata"] = {"kept": True, "hf_repo": repo}
    failed = {"status": "failed", "failure_stage": "publish", "error_message": "the Hub said no"}
    write, wins = {"complete": (complete, completed), "fail": (fail, failed)}[last_word]
    return Contestant(write, wins, {"completed_at", "updated_at", "heartbeat_at"}, "anon")


def canceller(app, job, client, *, by):
    """The owner, whose app asks for active jobs only; or the platform's server, which does not look."""
    query, headers = {"id": f"eq.{job.id}", "select": "id"}, {"Prefer": "return=representation"}
    if by == "owner":
        query |= {"status": f"in.({','.join(ACTIVE)})"}
        jwt = app.rest.jwt("authenticated", sub=app.owner)
        headers |= {"apikey": app.key, "Authorization": f"Bearer {jwt}"}
    else:
        headers |= {"apikey": app.rest.secret_key}
    too_late, role = {"owner": (200, "authenticated"), "server": (409, "service_role")}[by]

    def cancel():
        answer = client.patch(app.url + TABLE, params=query, json={"status": "cancelled"}, headers=headers)
        won = answer.json() == [{"id": job.id}]
        assert answer.status_code == (200 if won else too_late), answer.text
        return won

    return Contestant(cancel, {"status": "cancelled"}, {"completed_at", "updated_at"}, role)


def told(app, job, database, *in_line):
    """What each was told, after all of them waited for the row, one behind the other."""
    with ThreadPoolExecutor(len(in_line)) as threads, app.connect() as holder:
        holder.execute("select from local_training_jobs where id = %s for update", [job.id])
        answers = []
        for contestant in in_line:
            answers.append(threads.submit(contestant.write))
            while database.execute(WAITING).rowcount < len(answers):
                assert not answers[-1].done(), answers[-1].result()
        holder.rollback()
        return [answer.result() for answer in answers]


ROUNDS = {
    ("complete", "owner"): 60,
    ("complete", "server"): 60,
    ("fail", "owner"): 40,
    ("complete", "another agent"): 40,
}


@pytest.mark.parametrize(("last_word", "rival"), list(ROUNDS))
def test_of_two_who_write_at_once_one_wins_and_the_row_is_the_winners(
    last_word, rival, app, client, database, stores
):
    job = app.add_job(**RUNNING)
    before, die, won = app.row(job.id), random.Random(f"{last_word}, {rival}"), set()
    ours = agent(app, job, stores, last_word=last_word)
    if rival == "another agent":
        theirs = agent(app, job, stores, repo="ada/other")
    else:
        theirs = canceller(app, job, client, by=rival)
    for number in range(1, ROUNDS[last_word, rival] + 1):
        app.change(job.id, **RUNNING)
        assert {store.read().status for store in stores} == {"running"}
        in_line = die.sample([ours, theirs], 2)
        answers = told(app, job, database, *in_line)
        assert sorted(answers) == [False, True]
        winner, row = in_line[answers.index(True)], app.row(job.id)
        assert row["updated_at"] > BEFORE
        assert row == before | winner.wins | dict.fromkeys(winner.times, row["updated_at"])
        *_, change = changes = database.execute(CHANGES, [job.id]).fetchall()
        assert len(changes) == number
        ended = {"from_status": "running", "to_status": row["status"], "actor_role": winner.role}
        assert change == ended
        won.add("ours" if winner is ours else "theirs")
    assert won == {"ours", "theirs"}
