"""`rollback`: the files of an earlier revision again, byte for byte, as one commit; nobody's work is lost."""

from __future__ import annotations

import io
import json
import random

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, snapshot_download
from structlog.testing import capture_logs

from agent.config import load
from agent.errors import (
    ConfigError,
    HubAuthError,
    HubRefusedError,
    HubUnreachableError,
    Interrupted,
    VerifyMismatchError,
)
from agent.hub import restore
from agent.journal import Journal, Lock
from agent.retry import Patience
from agent.rollback import Rollback, roll_back
from agent.sandbox.loopback import Fault
from tests.conftest import TOKEN, retrain

REPO = "ada/model"


def went_back(pod, to, *, dry_run=False, folder="/nowhere", **environ):
    """Roll back in this process, over real HTTP, without waiting between retries."""
    answer = Rollback(to=to, dry_run=dry_run)
    config = load({name: value for name, value in pod.environ(folder, **environ).items() if value})
    clock = pod.clock
    patience = Patience(config.stall_s, clock=clock, sleep=clock.sleep, jitter=lambda: 0.0)
    roll_back(config, answer, patience)
    return answer


def refused(pod, to, error=HubRefusedError, **environ):
    with pytest.raises(error) as raised:
        went_back(pod, to, **environ)
    return raised.value


@pytest.fixture
def published(pod, hub, trained):
    """`published("sft_full", …)`: one publication after the other by jobs without a name; their oids."""

    die = random.Random(7)

    def publish(*models):
        oids = []
        for model in models:
            folder = trained(model, f"{model}-{die.random()}")
            retrain(folder, die)
            oids.append(pod.finalize(folder).commit)
        return oids

    return publish


def tree(hub, revision="main"):
    return hub.repo(REPO).resolve(revision).tree


def downloaded(hub, revision, folder):
    """What a reader gets: every file's bytes by its path."""
    path = snapshot_download(
        REPO, revision=revision, local_dir=folder / revision, endpoint=hub.endpoint, token=TOKEN
    )
    root = folder / revision
    assert path == str(root)
    files = (file for file in root.rglob("*") if file.is_file() and ".cache" not in file.parts)
    return {str(file.relative_to(root)): file.read_bytes() for file in files}


PATHS = [
    "README.md", "model.safetensors", "model-00001-of-00002.safetensors", "adapter_config.json",
    "tokenizer.json", "assets/plot.png", "assets", "onnx/model.onnx", "onnx/a/b.txt", "notes.txt",
    "data.bin", "a folder/ü.txt",
]  # fmt: skip


def random_history(hub, die, commits=6):
    """Commits of an unruly repo: xet, LFS and regular files that come, change, swap their kind and go."""
    api = HfApi(endpoint=hub.endpoint, token=TOKEN)
    hub.create_repo(REPO)
    oids = [hub.repo(REPO).head()]
    for number in range(commits):
        there = set(tree(hub)) - {".gitattributes"}
        operations = [CommitOperationDelete(path) for path in sorted(there) if die.random() < 0.3]
        left = there - {one.path_in_repo for one in operations}
        for path in die.sample(PATHS, 4):
            taken = {part for file in left for part in (file, *parents(file))}
            if path in taken - left or any(parent in left for parent in parents(path)):
                continue
            operations.append(CommitOperationAdd(path, content(path, die)))
            left.add(path)
        if not operations:
            continue
        info = api.create_commit(REPO, operations, commit_message=f"change {number}")
        oids.append(info.oid)
    return oids


def parents(path):
    parts = path.split("/")[:-1]
    return ["/".join(parts[: index + 1]) for index in range(len(parts))]


def content(path, die):
    if path == "README.md":
        return f"---\nlicense: mit\n---\n# Model {die.random()}\n".encode()
    if path.endswith((".txt", ".json")) or path == "assets":
        return f"{die.random()}\n".encode()
    binary = die.randbytes(die.choice([0, 100, 200_000]))
    return io.BytesIO(binary) if die.random() < 0.5 else binary  # a stream goes up as plain LFS


@pytest.mark.parametrize("seed", range(20))
def test_any_revision_of_any_history_comes_back_byte_for_byte(seed, hub, pod, tmp_path):
    die = random.Random(seed)
    oids = random_history(hub, die)
    target = die.choice(oids[:-1])
    before, commits = downloaded(hub, target, tmp_path), len(hub.repo(REPO).commits())
    answer = went_back(pod, target)
    assert answer.result in {"rolled-back", "already-there"}
    assert downloaded(hub, answer.commit, tmp_path) == before
    assert tree(hub) == tree(hub, target)
    assert len(hub.repo(REPO).commits()) == commits + (answer.result == "rolled-back")
    assert set(answer.restored).isdisjoint(answer.deleted)


def test_the_random_histories_hold_every_kind_of_file(hub):
    kinds = set()
    for seed in range(20):
        hub.repos.pop(REPO, None)
        for oid in random_history(hub, random.Random(seed)):
            for entry in tree(hub, oid).values():
                kinds.add(("xet" if entry.xet_hash else "lfs") if entry.sha256 else "regular")
    assert kinds == {"xet", "lfs", "regular"}


def test_a_large_repo_is_restored_by_reference_without_reading_or_sending_it(hub, pod):
    """100 files of 500 MB that nobody holds: whoever read or sent one would fail."""
    repo = hub.create_repo(REPO)

    def large(name):
        files = {}
        for number in range(100):
            sha256 = f"{name}{number:03d}".encode().hex().rjust(64, "0")
            files[f"model-{number:05d}-of-00100.safetensors"] = hub.content.pretend(sha256, 500_000_000)
        return dict(repo.resolve("main").tree) | files

    first = repo.commit("main", large("a"), title="a", message="", author="ada").oid
    repo.commit("main", large("b"), title="b", message="", author="ada")
    asked = len(hub.requests)
    answer = went_back(pod, first)
    assert (answer.result, len(answer.restored), answer.size_bytes) == ("rolled-back", 100, 50_000_000_000)
    assert tree(hub) == tree(hub, first)
    since = hub.requests[asked:]
    assert len(since) <= 14
    assert {one.kind for one in since} == {"api"}
    assert sum(one.received_bytes for one in since) < 100_000


def test_previous_is_what_the_branch_held_before_its_newest_publication(hub, pod, published):
    first, second = published("sft_full", "orpo_lora")
    answer = went_back(pod, "previous")
    assert (answer.result, answer.target, answer.before) == ("rolled-back", first, second)
    assert tree(hub) == tree(hub, first)
    assert "adapter_model.safetensors" in answer.deleted
    assert "model.safetensors" in answer.restored


def test_previous_keeps_what_people_had_committed_before_it(hub, pod, published):
    published("sft_full")
    edited = hub.commit(REPO, {"notes.txt": b"by hand\n"})
    published("orpo_lora")
    assert went_back(pod, "previous").target == edited
    assert hub.read(REPO, "notes.txt") == b"by hand\n"


def test_asked_again_it_stays_where_it_went(hub, pod, published):
    first, _ = published("sft_full", "sft_lora")
    commit = went_back(pod, "previous").commit
    again = went_back(pod, "previous")
    assert (again.result, again.commit, again.target) == ("already-there", commit, first)
    assert len(hub.repo(REPO).commits()) == 4
    assert (again.restored, again.deleted) == ([], [])


def test_after_a_rollback_previous_does_not_bring_back_what_was_rolled_back(hub, pod, published):
    first, _ = published("sft_full", "sft_lora")
    back = went_back(pod, "previous").commit
    published("orpo_lora")
    assert went_back(pod, "previous").target == back
    assert tree(hub) == tree(hub, first)


def test_a_rollback_can_be_taken_back(hub, pod, published):
    _, second = published("sft_full", "sft_lora")
    went_back(pod, "previous")
    went_back(pod, second[:9])
    assert tree(hub) == tree(hub, second)


@pytest.mark.parametrize(
    "name",
    {
        "an oid": lambda commit, job: commit.oid,
        "its beginning": lambda commit, job: commit.oid[:7],
        "a tag": lambda commit, job: f"job-{job[:8]}",
        "a branch": lambda commit, job: "release/1.0",
    }.items(),
    ids=lambda pair: pair[0],
)
def test_a_revision_is_named_as_people_name_it(name, hub, pod, trained, published):
    job = "11111111-2222-3333-4444-555555555555"
    first = pod.finalize(trained("sft_full"), JOB_ID=job).commit
    commit = hub.repo(REPO).resolve(first)
    hub.repo(REPO).branches["release/1.0"] = first
    published("orpo_lora")
    assert went_back(pod, name[1](commit, job)).target == first


def test_a_job_whose_tag_is_gone_is_found_by_its_commit(hub, pod, trained, published):
    job = "11111111-2222-3333-4444-555555555555"
    first = pod.finalize(trained("sft_full"), JOB_ID=job).commit
    published("orpo_lora")
    hub.commit(REPO, {"notes.txt": b"of that job\n"}, description=f"Job-Id: {job}")
    del hub.repo(REPO).tags["job-11111111"]
    assert went_back(pod, "job-11111111").target == first


@pytest.mark.parametrize("to", ["abcdef1", "v1.0", "job-01234567", "0" * 40, "../../etc", "a b", "-x"])
def test_an_unknown_revision_is_refused_with_its_name(to, hub, pod, published):
    published("sft_full")
    error = refused(pod, to)
    assert f"{REPO} has no revision {to!r}" in error.message
    assert "/commits/main" in error.hint
    assert len(hub.repo(REPO).commits()) == 2


def test_too_short_a_beginning_is_none(hub, pod, published):
    """A word of six letters may be meant for something else."""
    first, _ = published("sft_full", "orpo_lora")
    assert "no revision" in refused(pod, first[:6]).message


def test_content_that_came_by_another_way_since_is_the_same(hub, pod, published):
    """A file that went up as plain LFS has no xet hash in its own revision, and one in the new commit."""
    weights = random.Random(1).randbytes(200_000)
    hub.create_repo(REPO)
    first = hub.commit(REPO, {"model.safetensors": weights})
    api = HfApi(endpoint=hub.endpoint, token=TOKEN)
    api.create_commit(REPO, [CommitOperationAdd("copy.safetensors", weights)], commit_message="by xet")
    hub.commit(REPO, {"model.safetensors": b"another", "copy.safetensors": None})
    assert went_back(pod, first).result == "rolled-back"
    assert tree(hub, first)["model.safetensors"].xet_hash is None
    assert tree(hub)["model.safetensors"].xet_hash
    assert hub.read(REPO, "model.safetensors") == weights


def test_a_beginning_of_two_commits_is_refused(hub, pod, monkeypatch):
    repo = hub.create_repo(REPO)
    for oid in ("abcdef1" + "0" * 33, "abcdef1" + "1" * 33):
        commit = repo.resolve("main")
        repo._commits[oid] = type(commit)(oid, "t", "", "ada", repo.head(), commit.date, commit.tree)
        repo.branches["main"] = oid
    assert "several commits" in refused(pod, "abcdef1").message


def test_without_an_earlier_model_there_is_no_previous_one(hub, pod, published):
    [only] = published("sft_full")
    error = refused(pod, "previous")
    assert only[:12] in error.message
    assert "--to" in error.hint
    hub.repos.pop(REPO)
    hub.create_repo(REPO)
    hub.commit(REPO, {"model.safetensors": b"by hand"})
    assert "no commit on it is a publication" in refused(pod, "previous").message


@pytest.mark.parametrize("missing", ["repo", "branch"])
def test_a_repo_or_branch_that_is_not_there_is_refused(missing, hub, pod, published):
    published("sft_full")
    environ = {"HF_REPO_NAME": "ada/other"} if missing == "repo" else {"HF_REVISION": "dev"}
    assert "no branch" in refused(pod, "previous", **environ).message


def test_another_branch_is_rolled_back_and_main_stays(hub, pod, trained):
    first = pod.finalize(trained("sft_full"), HF_REVISION="dev").commit
    pod.finalize(trained("orpo_lora"), HF_REVISION="dev")
    main = hub.repo(REPO).head()
    answer = went_back(pod, "previous", HF_REVISION="dev")
    assert (answer.target, answer.model_url) == (first, f"{hub.endpoint}/{REPO}/tree/dev")
    assert hub.repo(REPO).head() == main
    assert tree(hub, "dev") == tree(hub, first)


def test_a_commit_that_came_in_between_is_not_rolled_over(hub, pod, published, monkeypatch):
    """First it is refused and named; asked again, somebody has seen it."""
    published("sft_full", "orpo_lora")
    real, came = restore.send, []

    def while_a_stranger_commits(*args):
        if not came:
            came.append(hub.commit(REPO, {"theirs.txt": b"theirs\n"}, title="Theirs"))
        return real(*args)

    monkeypatch.setattr(restore, "send", while_a_stranger_commits)
    error = refused(pod, "previous")
    assert f"{came[0][:12]} (Theirs) came in between" in error.message
    assert [one.status for one in hub.requests if "/commit/" in one.path and one.method == "POST"][-1] == 412
    assert hub.repo(REPO).head() == came[0]
    assert hub.read(REPO, "theirs.txt") == b"theirs\n"
    answer = went_back(pod, "previous")
    assert answer.before == came[0]
    assert "theirs.txt" in answer.deleted


def test_somebody_elses_rollback_is_not_taken_for_ours(hub, pod, published, monkeypatch):
    published("sft_full", "orpo_lora")
    real, came = restore.send, []

    def while_another_goes_back_elsewhere(*args):
        if not came:
            theirs = f"Rollback-To: {'0' * 40}\nRollback-Id: {'1' * 64}"
            came.append(hub.commit(REPO, {"theirs.txt": b"theirs\n"}, description=theirs))
        return real(*args)

    monkeypatch.setattr(restore, "send", while_another_goes_back_elsewhere)
    error = refused(pod, "previous")
    assert came[0][:12] in error.message
    assert hub.repo(REPO).head() == came[0]


def test_a_commit_after_ours_stays_when_nobody_heard_of_ours(hub, pod, published):
    """The answer is lost for good, a stranger commits on top, and the command is run again."""
    first, _ = published("sft_full", "orpo_lora")
    lost = hub.faults.add(Fault("lost", match="POST .*/commit/", times=1))
    gone = hub.faults.add(Fault("status", match="GET .*/commits/", status=404))
    gone.nth = set(range(3, 100))  # it is heard of by nobody in this run
    error = refused(pod, "previous")
    assert (lost.fired, gone.fired > 0) == (1, True)
    assert "404" in error.message
    hub.faults.clear()
    ours = hub.repo(REPO).head()
    theirs = hub.commit(REPO, {"theirs.txt": b"theirs\n"})
    with capture_logs() as said:
        answer = went_back(pod, "previous")
    assert (answer.result, answer.commit, answer.target) == ("rolled-back", ours, first)
    assert hub.repo(REPO).head() == theirs
    assert [one for one in said if one["event"] == "the branch has moved on since"]


def test_a_commit_that_nobody_heard_of_is_not_the_answer_to_another_wish(hub, pod, published):
    first, second, third = published("sft_full", "orpo_lora", "sft_lora")
    hub.faults.add(Fault("lost", match="POST .*/commit/", times=1))
    hub.faults.add(Fault("status", match="GET .*/commits/", status=404, nth=set(range(3, 100))))
    refused(pod, "previous")
    hub.faults.clear()
    assert tree(hub) == tree(hub, second)
    answer = went_back(pod, first)
    assert (answer.target, tree(hub)) == (first, tree(hub, first))
    assert third != first


def test_a_commit_since_an_attempt_that_came_to_nothing_is_seen_first(hub, pod, published):
    published("sft_full", "orpo_lora")
    hub.faults.add(Fault("status", match="POST .*/commit/", status=403))
    refused(pod, "previous", HubAuthError)
    hub.faults.clear()
    theirs = hub.commit(REPO, {"theirs.txt": b"theirs\n"})
    assert theirs[:12] in refused(pod, "previous").message
    assert went_back(pod, "previous").before == theirs


def test_what_was_begun_does_not_stand_in_the_way_of_another_wish(hub, pod, published):
    first, second, _ = published("sft_full", "orpo_lora", "sft_lora")
    hub.faults.add(Fault("status", match="POST .*/commit/", status=403))
    refused(pod, "previous", HubAuthError)
    hub.faults.clear()
    hub.commit(REPO, {"theirs.txt": b"theirs\n"})
    assert went_back(pod, first).target == first
    assert second != first


@pytest.mark.parametrize("kind", ["lost", "reset", "status", "truncated"])
def test_one_commit_is_made_whatever_becomes_of_the_answers(kind, hub, pod, published):
    first, _ = published("sft_full", "orpo_lora")
    fault = hub.faults.add(Fault(kind, nth={0, 1, 5, 9}, match="."))
    of_commit = hub.faults.add(Fault(kind, match="POST .*/commit/", times=2))
    answer = went_back(pod, "previous")
    assert fault.fired
    assert of_commit.fired
    assert answer.result == "rolled-back"
    assert len(hub.repo(REPO).commits()) == 4
    assert tree(hub) == tree(hub, first)


def test_a_hub_that_drops_a_file_is_caught(hub, pod, published):
    published("sft_full", "orpo_lora")
    hub.tamper.commit_drops("model.safetensors")
    error = refused(pod, "previous", VerifyMismatchError)
    assert "model.safetensors: missing" in error.message


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        (
            lambda tamper: tamper.tree_sha256(REPO, "model.safetensors", "0" * 64),
            "model.safetensors: differs",
        ),
        (
            lambda tamper: tamper.tree_xet_hash(REPO, "model.safetensors", "0" * 64),
            "model.safetensors: differs",
        ),
        (lambda tamper: tamper.extra(REPO, "ghost.txt"), "ghost.txt: left"),
    ],
)
def test_a_hub_that_holds_something_else_is_caught(lie, said, hub, pod, published, monkeypatch):
    published("sft_full", "orpo_lora")
    real = restore.restore

    def then_lie(*args, **kwargs):
        oid = real(*args, **kwargs)
        lie(hub.tamper)
        return oid

    monkeypatch.setattr(restore, "restore", then_lie)
    assert said in refused(pod, "previous", VerifyMismatchError).message


def test_bytes_that_are_not_what_the_hub_lists_are_not_committed(hub, pod, published):
    first, second = published("sft_full", "orpo_lora")
    blob = tree(hub, first)["config.json"].oid
    stored = hub.content._blobs / blob
    stored.write_bytes(stored.read_bytes().replace(b"4", b"5"))
    error = refused(pod, "previous", VerifyMismatchError)
    assert "config.json" in error.message
    assert hub.repo(REPO).head() == second


def test_content_that_the_hub_lost_is_told_and_nothing_changes(hub, pod, published):
    first, second = published("sft_full", "orpo_lora")
    hub.content.cas.forget({tree(hub, second)["adapter_model.safetensors"].xet_hash})
    error = refused(pod, first)
    assert "does not exist" in error.message
    assert hub.repo(REPO).head() == second


def test_a_dry_run_shows_the_difference_and_changes_nothing(hub, pod, published):
    first, second = published("sft_full", "orpo_lora")
    answer = went_back(pod, "previous", dry_run=True, HF_TOKEN="hf_ReadOnlyTokenOfAda01234")
    assert (answer.result, answer.target, answer.before, answer.commit) == ("dry-run", first, second, None)
    assert answer.restored == sorted(
        path for path, entry in tree(hub, first).items() if tree(hub, second).get(path) != entry
    )
    assert answer.deleted == sorted(tree(hub, second).keys() - tree(hub, first).keys())
    assert hub.repo(REPO).head() == second
    assert not list(pod.state_dir.glob("repo-*"))


def test_the_difference_in_a_public_repo_is_shown_to_everybody(hub, pod, trained):
    for model in ("sft_full", "orpo_lora"):
        pod.finalize(trained(model), HF_REPO_PRIVATE="false")
    assert went_back(pod, "previous", dry_run=True, HF_TOKEN="").result == "dry-run"


def test_two_on_one_volume_take_turns(hub, pod, published):
    published("sft_full", "orpo_lora")
    went_back(pod, "previous")
    [folder] = pod.state_dir.glob("repo-*")
    with Lock(folder, Patience(1.0)), capture_logs() as said:
        went_back(pod, "previous")
    assert [one for one in said if one["event"].startswith("waiting for another")]


def test_without_a_token_nothing_is_rolled_back(pod, hub, published):
    published("sft_full", "orpo_lora")
    error = refused(pod, "previous", ConfigError, HF_TOKEN="")
    assert "HF_TOKEN" in error.message


def test_a_token_that_may_not_write_is_refused(pod, hub, published):
    published("sft_full", "orpo_lora")
    refused(pod, "previous", HubAuthError, HF_TOKEN="hf_ReadOnlyTokenOfAda01234")


def test_the_trail_of_the_job_tells_of_it_once(hub, app, pod, trained, published):
    published("sft_full")
    job, folder = app.add_job(), trained("orpo_lora")
    environ = app.environ(job) | {"GITHUB_ACTOR": "ada"}
    pod.finalize(folder, **environ)
    row = app.row(job.id)
    for _ in range(2):
        answer = went_back(pod, "previous", **environ)
    [event] = app.sql("select * from model_upload_events where job_id = %s and event = 'rolled_back'", job.id)
    assert (event["commit_sha"], event["repo_id"]) == (answer.commit, REPO)
    assert event["detail"]["rolled_back_to"] == answer.target
    assert event["detail"]["actor"] == "ada"
    assert app.row(job.id) == row
    assert not Journal(next(pod.state_dir.glob("repo-*"))).kept("rollback")


def test_without_a_job_the_trail_on_the_volume_tells_it(hub, pod, trained):
    jobs = ["11111111-2222-3333-4444-555555555555", "22222222-2222-3333-4444-555555555555"]
    pod.finalize(trained("sft_full"), JOB_ID=jobs[0])
    pod.finalize(trained("orpo_lora"), JOB_ID=jobs[1])
    went_back(pod, "previous")
    trail = (pod.state_dir / jobs[1] / "audit.jsonl").read_text()
    assert trail.count('"rolled_back"') == 1
    assert '"rolled_back"' not in (pod.state_dir / jobs[0] / "audit.jsonl").read_text()


def test_a_job_that_is_named_hears_of_it_whoever_published(hub, pod, published):
    job = "11111111-2222-3333-4444-555555555555"
    published("sft_full", "orpo_lora")
    went_back(pod, "previous", JOB_ID=job)
    assert [path.parent.name for path in pod.state_dir.glob("*/audit.jsonl")].count(job) == 1
    assert '"rolled_back"' in (pod.state_dir / job / "audit.jsonl").read_text()


def test_where_nothing_was_rolled_back_nothing_is_told(hub, pod, published):
    [first] = published("sft_full")
    assert went_back(pod, first).result == "already-there"
    assert not [trail for trail in pod.state_dir.glob("*/audit.jsonl") if "rolled_back" in trail.read_text()]


def test_what_a_rerun_mends_is_pending(hub, pod, published):
    answer = Rollback(to="previous")
    for error, result in ((HubUnreachableError, "pending"), (HubRefusedError, "failed")):
        answer.failed(error("m", hint="h"), code="c", message="m", hint="h")
        assert (answer.result, answer.error["code"]) == (result, "c")
    answer.failed(Interrupted(15), code="interrupted", message="m", hint="h")
    assert answer.result == "pending"


def test_a_branch_that_no_job_published_has_a_trail_of_its_own(hub, pod):
    hub.create_repo(REPO)
    first = hub.commit(REPO, {"model.safetensors": b"one"}, description="Finalize-Id: x\nJob-Id: ../../etc")
    hub.commit(REPO, {"model.safetensors": b"two"})
    for _ in range(2):
        went_back(pod, first)
    [folder] = pod.state_dir.glob("repo-*")
    assert (folder / "audit.jsonl").read_text().count('"event": "rolled_back"') == 1


def test_a_database_that_is_silent_keeps_no_rollback_back(hub, app, pod, trained, published):
    published("sft_full")
    environ = app.environ(app.add_job())
    pod.finalize(trained("orpo_lora"), **environ)
    fault = app.rest.faults.add(Fault("status", status=503))
    assert went_back(pod, "previous", **environ).result == "rolled-back"
    assert fault.fired


def test_a_finalize_after_it_says_that_its_model_was_rolled_back(hub, pod, trained, published):
    published("sft_full")
    folder = trained("orpo_lora")
    commit = pod.finalize(folder, JOB_ID="22222222-2222-3333-4444-555555555555").commit
    back = went_back(pod, "previous").commit
    again = pod.finalize(folder, JOB_ID="22222222-2222-3333-4444-555555555555")
    assert (again.commit, hub.repo(REPO).head()) == (commit, back)
    [warning] = [said for said in again.warnings if "rolled back" in said]
    assert commit[:12] in warning
    assert back[:12] in warning
    went_back(pod, commit)
    assert not [
        said
        for said in pod.finalize(folder, JOB_ID="22222222-2222-3333-4444-555555555555").warnings
        if "rolled back" in said
    ]


def test_a_gate_compares_with_the_model_that_was_restored(hub, pod, trained):
    """Worse than what was rolled back, better than what is there."""
    bad, good, middling = (trained("sft_full", f"loss-{loss}") for loss in (3, 1, 2))
    for folder, loss in ((bad, 3.0), (good, 1.0), (middling, 2.0)):
        retrain(folder, random.Random(loss))
        for path in folder.glob("**/trainer_state.json"):
            state = json.loads(path.read_text())
            state["log_history"][-1]["train_loss"] = loss
            path.write_text(json.dumps(state))
    pod.finalize(bad)
    pod.finalize(good)
    better = {"AGENT_PUBLISH_IF": "improves:train_loss"}
    assert pod.finalize(middling, **better).result == "not-published"
    went_back(pod, "previous")
    assert pod.finalize(middling, **better).result == "completed"


def test_a_gate_has_nothing_to_compare_with_after_going_back_to_a_stranger_s_model(hub, pod, trained):
    hub.create_repo(REPO, private=True)
    hub.commit(REPO, {"model.safetensors": b"theirs"})
    pod.finalize(trained("sft_full"))
    went_back(pod, "previous")
    gate = {"AGENT_PUBLISH_IF": "improves:loss"}
    assert pod.finalize(trained("orpo_lora"), **gate).result == "completed"


def test_the_command_shows_what_it_would_do_and_what_it_did(hub, pod, published, tmp_path):
    first, second = published("sft_full", "orpo_lora")

    def said(*args, code=0):
        process = pod.command(tmp_path, "rollback", *args)
        out, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        return out, err

    out, _ = said("--to", "previous", "--dry-run")
    assert f"would roll back {REPO} (main) from {second[:12]} to {first[:12]}\n" in out
    assert "  + model.safetensors  as it was\n" in out
    assert "  - adapter_model.safetensors  added since\n" in out
    out, _ = said("--to", "previous", "--json")
    answer = json.loads(out)
    assert answer["commit"] == hub.repo(REPO).head()
    assert {name: answer[name] for name in ("result", "repo_id", "revision", "to", "from", "error")} == {
        "result": "rolled-back",
        "repo_id": REPO,
        "revision": "main",
        "to": first,
        "from": second,
        "error": None,
    }
    out, _ = said(REPO, "--to", "previous")
    assert out == f"{hub.endpoint}/{REPO}  holds the files of {first[:12]} already\n"
    out, err = said("--to", "nothing", code=13)
    assert out == ""
    assert "hub-refused" in err
