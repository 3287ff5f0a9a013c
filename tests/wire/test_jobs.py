"""What every job store promises: one suite for the local row and for Supabase in both shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from agent.database_config import JobDatabase
from agent.durable import write_durably
from agent.errors import JobRefusedError, JobUnreachableError
from agent.jobs import LocalStore
from agent.jobs.shape import NOT_PUBLISHED
from agent.jobs.supabase import SupabaseStore
from agent.parse import parse_json
from agent.retry import Patience
from agent.sandbox.jobs_app import JobSecret
from agent.sandbox.loopback import Fault
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


HALFWAY = {
    "progress": 57.25,
    "current_step": 229,
    "current_epoch": 1.72,
    "total_steps": 400,
    "total_epochs": 3,
    "loss": 0.6931471805599453,
    "eval_loss": 0.71,
    "learning_rate": 8.6e-05,
    "grad_norm": 1.25,
    "samples_per_second": 12.5,
    "gpu_memory_allocated_gb": 17.75,
    "gpu_memory_reserved_gb": 21.5,
    "elapsed_seconds": 733,
    "remaining_seconds": 547,
}


def test_a_beat_tells_how_far_the_training_is(place, store):
    place.put(progress=12.5)
    row = store.beat(training=HALFWAY)
    assert (row.status, row.progress) == ("running", 57.25)
    kept = {name: value for name, value in place.look().items() if name in HALFWAY}
    assert kept == ({name: HALFWAY[name] for name in kept})
    assert set(kept) == ({"progress"} if isinstance(store, LocalStore) else set(HALFWAY))


@pytest.mark.parametrize(
    ("shown", "told", "after"),
    [
        (None, 0.25, 0.25),
        (60.0, 57.25, 60.0),
        (60.0, 60.0, 60.0),
        (60.0, 100.0, 99.0),
        (99.0, 250.0, 99.0),
        (60.0, -5.0, 60.0),
        (60.0, float("nan"), 60.0),
        (60.0, float("inf"), 60.0),
    ],
)
def test_progress_goes_forward_to_99_and_never_back(shown, told, after, place, store):
    place.put(progress=shown)
    assert store.beat(training={"progress": told}).progress == after
    assert place.look()["progress"] == after


def test_progress_that_somebody_else_wrote_meanwhile_is_not_taken_back(place, store):
    store.read()
    place.put(progress=80.0)
    row = store.beat(training=HALFWAY)
    assert (row.status, row.progress, place.look()["progress"]) == ("running", 80.0, 80.0)
    assert place.look()["updated_at"] != BEFORE
    if not isinstance(store, LocalStore):
        assert place.look()["loss"] == HALFWAY["loss"]


def test_metrics_that_are_no_numbers_stay_out_of_the_row(place, store):
    store.beat(training=HALFWAY)
    store.beat(training=HALFWAY | {"loss": float("nan"), "grad_norm": float("-inf"), "eval_loss": 0.5})
    if not isinstance(store, LocalStore):
        row = place.look()
        assert (row["loss"], row["grad_norm"], row["eval_loss"]) == (
            HALFWAY["loss"],
            HALFWAY["grad_norm"],
            0.5,
        )


def test_a_training_has_no_say_in_anything_but_its_metrics(place, store):
    before = place.look()
    store.beat(training={"model_url": 1.0, "status": 2.0, "job_token": 3.0, "id": 4.0})
    after = place.look()
    changed = {name for name in after if after[name] != before.get(name) and after[name] is not None}
    assert changed <= {"updated_at", "heartbeat_at"}


@pytest.mark.parametrize("final", FINAL, ids=["cancelled", "training", "unknown stage", "completed"])
def test_the_numbers_of_a_training_do_not_reach_a_final_row(final, place, store):
    store.read()
    place.put(**final)
    before = place.look()
    assert store.beat(training=HALFWAY).status == final["status"]
    assert place.look() == before


@pytest.mark.parametrize("status", [status for status in OPEN if status != "running"])
def test_an_open_job_whose_training_tells_of_itself_runs(status, place, store):
    place.put(status=status, progress=None)
    assert store.beat(training=HALFWAY).status == "running"
    assert store.beat(training=HALFWAY).progress == 57.25
    assert place.look()["progress"] == 57.25


def test_a_status_nobody_knows_is_left_alone(place, store):
    place.put(status="archived")
    assert store.start().status == "archived"
    with pytest.raises(JobRefusedError, match="archived"):
        store.complete(model_url=URL, note=None)
    assert place.look()["status"] == "archived"


def test_progress_that_is_no_number_does_not_disturb(place, store):
    place.put(progress=float("nan") if not isinstance(store, LocalStore) else "NaN")
    assert store.read().progress == 0.0


REMARK = "Nothing could stop this pod, and it goes on costing money. Stop it by hand."
OVER = [*FINAL, {"status": "failed", "error_message": "the Hub said no", "failure_stage": "publish"}]


@pytest.mark.parametrize("held", [None, "No HF_TOKEN."])
def test_a_remark_is_added_once_in_every_status_and_nothing_else_changes(held, place, store):
    if place.legacy:
        return
    said = f"{held}\n{REMARK}" if held else REMARK
    for columns in [*({"status": status} for status in OPEN), *OVER]:
        place.put(**{"failure_stage": None} | columns, result_note=held)
        before = place.look()
        assert [store.remark(REMARK), store.remark(REMARK), place.open().remark(REMARK)] == [True] * 3
        seen = place.look()
        assert {name: seen[name] for name in seen if seen[name] != before.get(name)} == {"result_note": said}
        assert store.remark("And again.")
        assert store.read().result_note == f"{said}\nAnd again."


def test_a_table_without_a_place_for_a_remark_says_so(place, store):
    if not place.legacy:
        return
    place.put(status="completed", progress=100.0)
    before = place.look()
    for _ in range(2):
        assert not store.remark(REMARK)
        assert place.look() == before
        store.read()


def test_a_remark_that_does_not_fit_takes_nothing_away(place, store):
    if place.legacy:
        return
    place.put(status="completed", progress=100.0, result_note="x" * 7990)
    before = place.look()
    assert not store.remark("y" * 10)
    assert place.look() == before
    assert store.remark("y" * 9)
    assert place.look()["result_note"] == "x" * 7990 + "\n" + "y" * 9


@pytest.mark.parametrize(
    ("remark", "kept"),
    [
        ("x" * 20_000, "x" * 8000),
        ("a\0b", "ab"),
        ("undecodable \udc80 name", "undecodable ? name"),
        ("'; drop table local_training_jobs; --", "'; drop table local_training_jobs; --"),
        ("None", "None"),
    ],
    ids=["20 kB", "NUL", "surrogate", "SQL", "None"],
)
def test_no_remark_is_too_strange_to_be_made(remark, kept, place, store):
    if place.legacy:
        return
    assert store.remark(remark)
    assert place.look()["result_note"] == kept


def test_a_remark_leaves_a_failed_publication_to_be_mended(place, store):
    place.put(status="failed", error_message="the Hub said no", failure_stage="publish")
    assert store.remark(REMARK) is not place.legacy
    assert place.open().start().status == "running"
    assert place.open().complete(model_url=URL, note=None).status == "completed"


def test_a_completed_job_with_a_remark_is_completed_again_without_a_word(place, store):
    store.complete(model_url=URL, note=None)
    store.remark(REMARK)
    before = place.look()
    assert place.open().complete(model_url=URL, note=None).model_url == URL
    assert place.look() == before


@dataclass
class Table:
    """A Supabase table that a test may spoil, with one row and what asks for it."""

    app: Any
    job: Any
    store: SupabaseStore

    def beats(self, count: int) -> list[str]:
        """Beat with a little more progress each time, and return the methods of the requests it took."""
        since = len(self.app.rest.requests)
        for step in range(count):
            row = self.store.beat(training=HALFWAY | {"progress": 10.0 + step})
            assert (row.status, row.progress) == ("running", 10.0 + step)
        return [request.method for request in self.app.rest.requests[since:]]


@pytest.fixture(params=["hardened", "legacy"])
def table(request):
    app = request.getfixturevalue("legacy_app" if request.param == "legacy" else "app")
    job, clock = app.add_job(), Clock()
    database = JobDatabase(app.url, app.key, job.token, "local_training_jobs")
    store = SupabaseStore(database, job.id, Patience(60, clock=clock, sleep=clock.sleep))
    store.read()
    yield Table(app, job, store)
    store.close()


def test_a_beat_that_tells_of_a_training_is_one_request(table):
    assert table.beats(3) == ["PATCH"] * 3


def spoil_missing(table):
    for column in ("loss", "gpu_memory_allocated_gb"):
        table.app.sql(f"alter table local_training_jobs drop column {column}")
    table.app.sql("notify pgrst, 'reload schema'")


def spoil_right(table):
    table.app.sql("revoke update on local_training_jobs from anon")
    table.app.sql("revoke update (loss) on local_training_jobs from anon")
    table.app.sql("grant update (status, progress, updated_at, current_step) on local_training_jobs to anon")


def spoil_rule(table):
    table.app.sql("alter table local_training_jobs add check (loss < 0.1)")


@pytest.mark.parametrize("spoil", [spoil_missing, spoil_right, spoil_rule])
def test_a_table_that_does_not_take_the_metrics_is_asked_once_and_gets_the_progress(spoil, table):
    spoil(table)
    with capture_logs() as logs:
        first = table.beats(1)
    assert first[0] == first[-1] == "PATCH"
    assert len(first) in {2, 3}  # with a look at the shape of the table
    assert [log["event"] for log in logs] == [
        "the job table does not take the metrics of a training, only its progress"
    ]
    assert table.beats(2) == ["PATCH"] * 2
    assert table.app.row(table.job.id)["progress"] == 11.0


def test_a_rule_against_the_progress_does_not_silence_the_beat(table):
    table.app.sql(
        """create function stubborn() returns trigger language plpgsql as $$ begin
             raise sqlstate 'PT409' using message = 'progress must not decrease'; end $$"""
    )
    table.app.sql(
        """create trigger stubborn before update on local_training_jobs for each row
             when (new.progress is distinct from old.progress) execute function stubborn()"""
    )
    before = table.app.row(table.job.id)
    row = table.store.beat(training=HALFWAY)
    after = table.app.row(table.job.id)
    assert (row.status, after["progress"]) == ("running", before["progress"])
    assert (after["loss"], after["updated_at"] > before["updated_at"]) == (HALFWAY["loss"], True)


RPC = "/rest/v1/rpc/note_on_job"


def of_job(app, job, request, key=None):
    """A store of one job and its clock, closed in the end."""
    clock = Clock()
    database = JobDatabase(app.url, key or app.key, job.token, "local_training_jobs")
    store = SupabaseStore(database, job.id, Patience(60, clock=clock, sleep=clock.sleep, jitter=lambda: 0.0))
    request.addfinalizer(store.close)
    return store


@pytest.mark.parametrize("kind", ["lost", "reset", "status", "truncated"])
def test_a_remark_whose_answer_was_lost_is_made_once(kind, app, request):
    job = app.add_job(status="completed", progress=100)
    fault = app.rest.faults.add(Fault(kind, match=f"POST {RPC}", nth=0))
    assert of_job(app, job, request).remark(REMARK)
    assert fault.fired == 1
    assert app.row(job.id)["result_note"] == REMARK


def test_a_remark_to_a_database_that_stays_silent_is_told_to_be_unknown(app, request):
    job = app.add_job(status="completed", progress=100)
    fault = app.rest.faults.add(Fault("lost", match=f"POST {RPC}", times=1000))
    with pytest.raises(JobUnreachableError):
        of_job(app, job, request).remark(REMARK)
    assert fault.fired > 4


@pytest.mark.parametrize("body", ["<html>Welcome</html>", "{}", "1", '"true"', "null"])
def test_an_answer_that_is_neither_yes_nor_no_is_none(body, app, request):
    job = app.add_job(status="completed", progress=100)
    fault = app.rest.faults.add(Fault("status", match=f"POST {RPC}", nth=0, status=200, body=body))
    assert of_job(app, job, request).remark(REMARK)
    assert fault.fired == 1


def test_a_wrong_id_and_a_wrong_token_are_a_no(app, request):
    job = app.add_job(status="completed", progress=100)
    for wrong in (JobSecret(JOB, job.token), JobSecret(job.id, "w" * 43)):
        assert not of_job(app, wrong, request).remark(REMARK)
    assert app.row(job.id)["result_note"] is None


def test_a_service_key_needs_no_token_for_a_remark(app, request):
    job = app.add_job(status="completed", progress=100)
    assert of_job(app, JobSecret(job.id, ""), request, app.rest.secret_key).remark(REMARK)
    assert not of_job(app, JobSecret(JOB, ""), request, app.rest.secret_key).remark(REMARK)
    assert app.row(job.id)["result_note"] == REMARK


@pytest.mark.parametrize("known", [True, False], ids=["as the API knows", "before the API noticed"])
def test_a_database_without_the_function_says_no(known, app, request):
    job = app.add_job(status="completed", progress=100)
    app.sql("drop function note_on_job(uuid, text)")
    if known:
        app.rest.refresh()
    assert not of_job(app, job, request).remark(REMARK)
