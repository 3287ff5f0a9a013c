"""What every job store promises: one suite for the local row and for Supabase in both shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from agent.database_config import JobDatabase
from agent.durable import write_durably
from agent.errors import JobRefusedError
from agent.jobs import LocalStore
from agent.jobs.supabase import NOT_PUBLISHED, SupabaseStore
from agent.parse import parse_json
from agent.retry import Patience
from tests.conftest import Clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.jobs import JobStore

JOB = "6f1c2a54-9d0e-4a57-8c11-0123456789ab"
URL, OTHER_URL = "https://huggingface.co/ada/m", "https://huggingface.co/ada/other"
BEFORE = "2026-01-02T03:04:05+00:00"
OPEN = ["pending", "queued", "running", "paused", "uploading"]


@dataclass
class Place:
    """A row that a test may set past all rules, and look at whole."""

    open: Callable[[], JobStore]
    put: Callable[..., None]
    look: Callable[[], dict[str, Any]]
    legacy: bool = False

    @property
    def lost(self) -> bool:
        """Whether a job can be marked as lost here."""
        return "heartbeat_at" in self.look()


@pytest.fixture(params=["local", "hardened", "legacy", "service key"])
def place(request, tmp_path):
    if request.param == "local":
        path = tmp_path / "job" / "row.json"

        def put(**columns):
            path.parent.mkdir(exist_ok=True)
            write_durably(
                path, {"id": JOB, "status": "running", "progress": 0.0, "updated_at": BEFORE} | columns
            )

        put()
        yield Place(lambda: LocalStore(path.parent, JOB), put, lambda: dict(parse_json(path.read_bytes())))
        return
    app = request.getfixturevalue("legacy_app" if request.param == "legacy" else "app")
    job = app.add_job()
    app.change(job.id, updated_at=BEFORE)
    for rule in ("status", "progress"):  # rows from before the rules may hold anything
        app.sql(f"alter table local_training_jobs drop constraint if exists ltj_{rule}_chk")
    key = app.rest.secret_key if request.param == "service key" else app.key
    database = JobDatabase(app.url, key, job.token, "local_training_jobs")
    opened = []

    def open_store():
        clock = Clock()
        opened.append(
            SupabaseStore(database, job.id, Patience(60, clock=clock, sleep=clock.sleep, jitter=lambda: 0.0))
        )
        return opened[-1]

    def put_row(**columns):
        if request.param == "legacy":
            stage = columns.pop("failure_stage", None)
            if stage == "publish":
                columns["error_message"] = NOT_PUBLISHED + columns["error_message"]
        app.change(job.id, **columns)

    yield Place(open_store, put_row, lambda: app.row(job.id), legacy=request.param == "legacy")
    for store in opened:
        store.close()


@pytest.fixture
def store(place):
    return place.open()


def test_a_row_is_read_as_it_is(place, store):
    place.put(status="paused", progress=42.5)
    row = store.read()
    assert (row.status, row.progress, row.model_url, row.error_message) == ("paused", 42.5, None, None)


@pytest.mark.parametrize("status", OPEN)
def test_starting_sets_running_and_the_time_once(status, place, store):
    place.put(status=status, progress=40.0)
    begun = store.start()
    assert (begun.status, begun.progress) == ("running", 40.0)
    assert begun.started_at
    assert place.open().start().started_at == begun.started_at
    assert place.look()["status"] == "running"


def test_starting_mends_a_failed_publication(place, store):
    place.put(status="failed", error_message="the Hub said no", failure_stage="publish")
    row = store.start()
    assert (row.status, row.error_message, row.failure_stage) == ("running", None, None)
    assert place.look()["error_message"] is None


FINAL = [
    {"status": "cancelled", "progress": 40.0},
    {"status": "failed", "error_message": "CUDA out of memory", "failure_stage": "training"},
    {"status": "failed", "error_message": "somebody said so"},
    {"status": "completed", "progress": 100.0, "model_url": OTHER_URL, "completed_at": BEFORE},
]


@pytest.mark.parametrize("final", FINAL, ids=["cancelled", "training", "unknown stage", "completed"])
def test_what_is_final_stays_as_it_is(final, place, store):
    place.put(**final)
    before = place.look()
    assert store.start().status == final["status"]
    assert place.open().start().status == final["status"]
    assert place.open().beat().status == final["status"]
    assert place.open().fail(message="late", stage="publish").status == final["status"]
    with pytest.raises(JobRefusedError):
        place.open().complete(model_url=URL, note=None)
    assert place.look() == before


@pytest.mark.parametrize("status", OPEN)
def test_completing_sets_100_and_the_address(status, place, store):
    place.put(status=status, progress=12.0)
    row = store.complete(model_url=URL, note=None)
    assert (row.status, row.progress, row.model_url) == ("completed", 100.0, URL)
    seen = place.look()
    assert (seen["status"], seen["progress"], seen["model_url"]) == ("completed", 100, URL)
    assert seen["completed_at"]


def test_completing_mends_a_failed_publication(place, store):
    place.put(status="failed", error_message="the Hub said no", failure_stage="publish")
    row = store.complete(model_url=URL, note=None)
    assert (row.status, row.error_message, row.failure_stage, row.model_url) == ("completed", None, None, URL)


def test_completing_again_changes_nothing(place, store):
    store.start()
    store.complete(model_url=URL, note=None)
    before = place.look()
    assert store.complete(model_url=URL, note=None).model_url == URL
    assert place.open().complete(model_url=URL, note="another note").model_url == URL
    assert place.open().complete(model_url=None, note=None).model_url == URL
    assert place.look() == before


def test_a_row_completed_by_somebody_else_receives_the_address_once(place, store):
    place.put(status="completed", progress=100.0, completed_at=BEFORE)
    before = place.look()
    assert store.complete(model_url=URL, note=None).model_url == URL
    seen = place.look()
    assert seen["model_url"] == URL
    changed = {name for name in seen if seen[name] != before.get(name)}
    assert changed - {"updated_at", "heartbeat_at", "metadata"} == {"model_url"}
    with pytest.raises(JobRefusedError, match="already completed with"):
        place.open().complete(model_url=OTHER_URL, note=None)
    assert place.look()["model_url"] == URL


def test_a_row_completed_by_somebody_else_meanwhile_still_receives_the_address(place, store):
    store.read()
    place.put(status="completed", progress=100.0, completed_at=BEFORE)
    assert store.complete(model_url=URL, note=None).model_url == URL
    assert place.look()["model_url"] == URL


def test_a_note_tells_why_nothing_was_published(place, store):
    row = store.complete(model_url=None, note="HF_TOKEN was not set")
    assert (row.status, row.progress, row.model_url) == ("completed", 100.0, None)
    if not place.legacy:
        assert (row.result_note, place.look()["result_note"]) == ("HF_TOKEN was not set",) * 2


@pytest.mark.parametrize("call", ["start", "complete", "fail"])
def test_a_cancel_after_the_row_was_read_is_never_overwritten(call, place, store):
    store.read()
    place.put(status="cancelled")
    before = place.look()
    if call == "complete":
        with pytest.raises(JobRefusedError, match="was cancelled"):
            store.complete(model_url=URL, note=None)
    else:
        row = store.start() if call == "start" else store.fail(message="x", stage="publish")
        assert row.status == "cancelled"
    assert place.look() == before


def test_a_row_that_was_completed_when_it_was_read_is_read_again_at_the_end(place, store):
    """Legacy apps cancel without looking: what was completed a while ago may be cancelled now."""
    place.put(status="completed", progress=100.0, model_url=URL, completed_at=BEFORE)
    assert store.start().status == "completed"
    place.put(status="cancelled")
    with pytest.raises(JobRefusedError, match="was cancelled"):
        store.complete(model_url=URL, note=None)


def test_failing_tells_what_and_where_and_can_be_mended(place, store):
    place.put(progress=42.5)
    store.start()
    row = store.fail(message="the Hub said no", stage="publish")
    assert (row.status, row.failure_stage, row.progress) == ("failed", "publish", 42.5)
    assert place.look()["error_message"].removeprefix(NOT_PUBLISHED) == "the Hub said no"
    assert place.open().fail(message="again", stage="publish").status == "failed"
    assert place.look()["error_message"].removeprefix(NOT_PUBLISHED) == "again"
    assert place.open().start().status == "running"


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        ("x" * 20_000, "x" * 8000),
        ("☃" * 20_000, "☃" * 8000),
        ("a\0b\0", "ab"),
        ("undecodable \udc80 name", "undecodable ? name"),
        ('quotes " and \\ and ,(){}', 'quotes " and \\ and ,(){}'),
        ("loss: nan, grad_norm: inf", "loss: nan, grad_norm: inf"),
    ],
    ids=["20 kB", "60 kB", "NUL", "surrogate", "quotes", "NaN"],
)
def test_no_message_is_too_strange_to_be_reported(message, kept, place, store):
    store.fail(message=message, stage="publish")
    seen = place.look()["error_message"]
    assert seen == (NOT_PUBLISHED + kept)[:8000] if place.legacy else kept


def test_a_beat_moves_the_time_of_a_running_row_and_nothing_else(place, store):
    before = place.look()
    assert store.beat().status == "running"
    seen = place.look()
    changed = {name for name in seen if seen[name] != before.get(name)}
    assert "updated_at" in changed
    assert changed <= {"updated_at", "heartbeat_at"} | {n for n in seen if seen[n] is None}


@pytest.mark.parametrize("status", [status for status in OPEN if status != "running"])
def test_a_beat_makes_an_open_job_run(status, place, store):
    place.put(status=status)
    assert store.beat().status == "running"
    assert place.look()["status"] == "running"


def test_a_beat_of_a_job_that_was_taken_for_lost_revives_it(place, store):
    if not place.lost:
        return  # nobody marks jobs as lost there
    store.read()
    place.put(status="failed", failure_stage="lost", error_message="The pod was last heard of at noon.")
    assert store.beat().status == "running"
    row = place.look()
    assert (row["status"], row["error_message"], row["failure_stage"]) == ("running", None, None)


def test_a_late_beat_does_not_revive_a_failed_publication(place, store):
    store.read()
    place.put(status="failed", failure_stage="publish", error_message="the Hub said no")
    before = place.look()
    assert store.beat().status == "failed"
    assert place.look() == before


def test_a_status_nobody_knows_is_left_alone(place, store):
    place.put(status="archived")
    assert store.start().status == "archived"
    with pytest.raises(JobRefusedError, match="archived"):
        store.complete(model_url=URL, note=None)
    assert place.look()["status"] == "archived"


def test_progress_that_is_no_number_does_not_disturb(place, store):
    place.put(progress=float("nan") if not isinstance(store, LocalStore) else "NaN")
    assert store.read().progress == 0.0
