from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from agent.artifact import Training, content_id, digest, finalize_id, local_job_id, take_stock
from agent.config import load
from agent.errors import ArtifactError
from agent.hashes import HashMemory, Stamp
from agent.hub.files import Message, Piece
from agent.hub.repo import Commit, Entry, RepoState
from agent.identity import Identity, find, identify, may_be_published, published_by_another, rolled_back
from agent.presentation import public_name
from agent.publication import draft, message

JOB = UUID("6f1c2a54-9d0e-4a57-8c11-0123456789ab")
OTHER_JOB = UUID("0b0b0b0b-9d0e-4a57-8c11-0123456789ab")
FILES = {"a": "x", "b": "y"}
CONTENT = "3afdfeee2d2f59ba3a87761611c0e182cddce3950c3f78415a5d7a7a326bdc8b"


def test_the_content_id_is_the_documented_hash():
    """sha256 of the JSON list [repo, branch, sorted (path, sha256)], without spaces."""
    assert content_id(FILES, repo_id="ada/m", revision="main") == CONTENT


def test_the_order_of_the_files_does_not_matter():
    assert content_id({"b": "y", "a": "x"}, repo_id="ada/m", revision="main") == CONTENT


@pytest.mark.parametrize(
    ("files", "repo_id", "revision"),
    [
        ({"a": "x", "b": "z"}, "ada/m", "main"),
        ({"a": "x", "c": "y"}, "ada/m", "main"),
        ({"a": "y", "b": "x"}, "ada/m", "main"),
        ({"a": "x"}, "ada/m", "main"),
        ({"a": "x", "b": "y", "c": ""}, "ada/m", "main"),
        (FILES, "ada/n", "main"),
        (FILES, "bob/m", "main"),
        (FILES, "ada/m", "dev"),
        (FILES, "ada", "m/main"),
    ],
)
def test_any_other_byte_path_repo_or_branch_is_another_content(files, repo_id, revision):
    assert content_id(files, repo_id=repo_id, revision=revision) != CONTENT


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(
    one=st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=3),
    other=st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=3),
)
def test_two_contents_share_an_id_only_if_they_are_equal(one, other):
    ids = [content_id(files, repo_id="ada/m", revision="main") for files in (one, other)]
    assert (ids[0] == ids[1]) == (one == other)


def test_the_finalize_id_is_the_documented_hash():
    assert finalize_id(JOB, "c0ffee") == "5e45481f193e0447be924c94bbf8e51eb4b731aca220addfe9de9518c183e548"


def test_another_job_or_another_content_is_another_publication():
    ids = {finalize_id(job, content) for job in (JOB, OTHER_JOB) for content in (CONTENT, CONTENT[::-1])}
    assert len(ids) == 4


def test_a_job_nobody_named_is_named_after_its_content():
    assert local_job_id(CONTENT) == UUID("3afdfeee-2d2f-59ba-3a87-761611c0e182")


def test_identify_joins_content_job_and_tag():
    named = identify(load({"JOB_ID": str(JOB)}), "ada/m", FILES)
    assert named == Identity(JOB, CONTENT, finalize_id(JOB, CONTENT))
    assert named.tag == "job-6f1c2a54"
    unnamed = identify(load({}), "ada/m", FILES)
    assert unnamed == identify(load({}), "ada/m", FILES)
    assert (unnamed.job_id, unnamed.tag) == (UUID("3afdfeee-2d2f-59ba-3a87-761611c0e182"), "job-3afdfeee")


def test_identify_depends_on_the_branch():
    dev = identify(load({"JOB_ID": str(JOB), "HF_REVISION": "dev"}), "ada/m", FILES)
    assert dev.content_id == content_id(FILES, repo_id="ada/m", revision="dev") != CONTENT


def test_nothing_but_job_content_repo_and_branch_makes_the_identity():
    plain = identify(load({"JOB_ID": str(JOB)}), "ada/m", FILES)
    decorated = identify(
        load(
            {
                "JOB_ID": str(JOB),
                "AGENT_COMMIT_MESSAGE": "x",
                "BASE_MODEL": "org/x",
                "TRAINING_METHOD": "dpo",
                "GITHUB_SHA": "abc",
                "DATASET": "d",
                "HF_ENDPOINT": "https://other.example",
            }
        ),
        "ada/m",
        FILES,
    )
    assert decorated == plain


@pytest.fixture
def old_memory(tmp_path):
    """A memory so far in the future that every file is old enough to be remembered."""
    return lambda: HashMemory(tmp_path / "hashes.json", now_ns=lambda: 10**20)


def test_digest_is_the_sha256_of_each_file(folder, old_memory):
    stock = take_stock(folder({"model.safetensors": "abc", "empty.txt": ""}))
    assert digest(stock.files, old_memory()) == {
        "empty.txt": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "model.safetensors": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    }


def test_a_remembered_file_is_not_read_again(folder, old_memory):
    root = folder({"model.safetensors": "abc", "other.txt": "x"})
    stock = take_stock(root)
    first = old_memory()
    first.keep(root / "model.safetensors", "sha256", "remembered", Stamp.of(root / "model.safetensors"))
    assert digest(stock.files, first)["model.safetensors"] == "remembered"
    first.save()
    assert digest(stock.files, old_memory())["model.safetensors"] == "remembered"


def test_what_was_read_is_remembered(folder, old_memory):
    root = folder({"model.safetensors": "abc"})
    memory = old_memory()
    digest(take_stock(root).files, memory)
    assert memory.recall(root / "model.safetensors", "sha256").startswith("ba7816bf")


def test_one_flipped_byte_is_another_content(folder, old_memory):
    root = folder({"model.safetensors": b"abc", "config.json": "{}"})
    before = content_id(digest(take_stock(root).files, old_memory()), repo_id="ada/m", revision="main")
    (root / "model.safetensors").write_bytes(b"abd!"[:3])
    after = content_id(digest(take_stock(root).files, old_memory()), repo_id="ada/m", revision="main")
    assert before != after


def test_a_draft_sets_aside_what_a_reader_gets_repaired(folder):
    root = folder(
        {
            "README.md": "# T",
            "adapter_config.json": {"r": 8},
            "adapter_model.safetensors": "w",
            "finalize.json": {"of": "yesterday"},
            "tokenizer.json": "{}",
            "docs/README.md": "kept",
        }
    )
    made = draft(take_stock(root))
    assert [piece.path for piece in made.pieces()] == [
        "adapter_model.safetensors",
        "docs/README.md",
        "tokenizer.json",
    ]
    assert made.later == ["README.md", "adapter_config.json", "finalize.json"]
    assert made.adapter == {"r": 8}
    assert made.repaired == {"README.md": b"# T", "adapter_config.json": b'{"r": 8}'}


def test_the_users_readme_and_adapter_config_count_for_the_identity_as_they_are_on_disk(folder):
    root = folder({"README.md": "abc", "adapter_config.json": "{}", "adapter_model.safetensors": "w"})
    assert draft(take_stock(root)).raw_sha256s == {
        "README.md": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "adapter_config.json": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    }


def test_without_a_readme_one_is_made(folder):
    made = draft(take_stock(folder({"model.safetensors": "w", "config.json": "{}"})))
    assert made.later == ["README.md", "finalize.json"]
    assert made.adapter is None


@pytest.mark.parametrize("damage", ["{", "[]", "null", b"\xff\xfe\xff"])
def test_an_adapter_config_that_peft_could_not_load_is_refused(folder, damage):
    root = folder({"adapter_config.json": damage, "adapter_model.safetensors": "w"})
    with pytest.raises(ArtifactError) as raised:
        draft(take_stock(root))
    assert str(root / "adapter_config.json") in raised.value.message
    assert raised.value.hint == "Save the adapter again."


def test_small_files_are_proven_by_their_bytes_and_large_ones_by_their_hash(folder):
    made = draft(take_stock(folder({"model.safetensors": "abc", "config.json": "{}"})))
    stored = {
        one.path: one
        for one in made.as_on_disk({"model.safetensors": "h1", "config.json": "h2"}, {"config.json"})
    }
    assert (stored["config.json"].blob, stored["config.json"].sha256, stored["config.json"].size_bytes) == (
        b"{}",
        "h2",
        2,
    )
    assert (stored["model.safetensors"].blob, stored["model.safetensors"].size_bytes) == (None, 3)


def test_a_large_file_is_not_read_because_the_hub_lists_a_small_one_in_its_place(folder):
    made = draft(take_stock(folder({"model.safetensors": "abc", "tokenizer.json": "{}", "vocab.txt": "v"})))
    tree = {
        "model.safetensors": Entry("model.safetensors", 2, "b" * 40, None, None),
        "tokenizer.json": Entry("tokenizer.json", 2, "b" * 40, None, None),
        "vocab.txt": Entry("vocab.txt", 1, "b" * 40, "1" * 64, None),
        "theirs.txt": Entry("theirs.txt", 2, "b" * 40, None, None),
    }
    assert made.in_git(tree) == {"tokenizer.json"}


def commit(oid, *, job=JOB, finalize=None, day=1):
    lines = [f"Job-Id: {job}"] if job else []
    lines += [f"Finalize-Id: {finalize}"] if finalize else []
    return Commit(oid, "title", "\n".join(lines), datetime(2025, 1, day, tzinfo=UTC) if day else None)


def back(oid, to):
    return Commit(oid, "title", f"Rollback-To: {to}\nRollback-Id: r-{oid}", None)


@pytest.mark.parametrize(
    ("newer", "by"),
    [
        ([], None),
        ([commit("c2", job=OTHER_JOB, finalize="f2")], None),
        ([back("r1", "c0")], "r1"),
        ([commit("c3", job=None), back("r1", "c0")], "r1"),
        ([back("r1", "c1")], None),
        ([back("r1", "c2"), commit("c3", job=None), commit("c2", job=None)], None),
        ([back("r2", "c1"), back("r1", "c0")], None),
        ([back("r2", "c0"), back("r1", "c1")], "r2"),
        ([back("r3", "r1"), back("r2", "c1"), back("r1", "c0")], "r1"),
        ([commit("c9", finalize="f9"), back("r1", "beyond")], "r1"),
    ],
)
def test_a_commit_was_rolled_back_if_the_branch_went_back_to_before_it(newer, by):
    ours = commit("c1", finalize="f1")
    said = rolled_back(branch(*newer, ours, commit("c0", job=None)), ours)
    assert (said is None) == (by is None)
    assert by is None or f"rolled back since by {by};" in said


def branch(*commits):
    return RepoState(private=True, commits=commits)


def test_our_commit_is_found_by_its_finalize_id():
    ours = commit("c1", finalize="f1")
    assert find(branch(ours), JOB, "f1") is ours
    assert find(branch(ours), None, "f1") is ours


def test_an_empty_or_foreign_branch_holds_nothing_of_ours():
    assert find(RepoState(private=None), JOB, "f1") is None
    assert find(branch(commit("c1", job=None)), JOB, "f1") is None
    assert find(branch(commit("c1", finalize="f2")), JOB, "f1") is None


def test_a_named_job_stays_published_after_another_jobs_model_came():
    ours = commit("c1", finalize="f1")
    assert find(branch(commit("c3", job=OTHER_JOB, finalize="f2"), ours), JOB, "f1") is ours


def test_an_unnamed_job_is_wanted_again_when_something_else_was_published_since():
    ours = commit("c1", finalize="f1")
    assert find(branch(commit("c3", job=OTHER_JOB, finalize="f2"), ours), None, "f1") is None


def test_commits_of_people_do_not_unpublish_an_unnamed_job():
    ours = commit("c1", finalize="f1")
    assert find(branch(commit("c3", job=None), commit("c2", job=None), ours), None, "f1") is ours


def test_a_finalize_id_that_only_begins_the_same_is_another():
    assert find(branch(commit("c1", finalize="f12")), JOB, "f1") is None


AT_NOON = int(datetime(2025, 1, 1, 12, tzinfo=UTC).timestamp()) * 10**9


@pytest.mark.parametrize(
    ("state", "worth"),
    [
        (branch(), False),
        (RepoState(private=None), False),
        (branch(commit("c", job=None)), False),
        (branch(commit("c", job=JOB, day=2)), True),
        (branch(commit("c", job=JOB, day=1)), False),
        (branch(commit("c", job=JOB, day=None)), True),
        (branch(commit("c", job=OTHER_JOB, day=2)), True),
        (branch(commit("c", job=OTHER_JOB, day=1)), False),
        (branch(commit("d", job=OTHER_JOB, day=3), commit("c", job=JOB, day=1)), True),
        (branch(commit("d", job=None, day=3), commit("c", job=JOB, day=2)), True),
        (branch(commit("d", job=None, day=3), commit("c", job=JOB, day=1)), False),
        (branch(commit("d", job=JOB, day=1), commit("c", job=JOB, day=2)), False),
    ],
)
def test_files_are_worth_hashing_only_if_the_newest_publication_is_no_older_than_they_are(state, worth):
    assert may_be_published(state, AT_NOON) is worth


def content(oid, job, content_id="c" * 64):
    trailers = f"Job-Id: {job}\nFinalize-Id: f-{job}\nContent-Id: {content_id}"
    return Commit(oid, "t", trailers, datetime(2025, 1, 1, 12, tzinfo=UTC))


@pytest.mark.parametrize(
    ("state", "other"),
    [
        (branch(), None),
        (branch(content("c", OTHER_JOB)), str(OTHER_JOB)),
        (branch(commit("d", job=None), content("c", OTHER_JOB)), str(OTHER_JOB)),
        (branch(content("c", OTHER_JOB, "d" * 64)), None),
        (branch(content("c", JOB)), None),
        (branch(content("d", JOB), content("c", OTHER_JOB)), None),
        (branch(content("d", OTHER_JOB), content("c", JOB)), str(OTHER_JOB)),
        (branch(content("c", local_job_id("c" * 64))), None),
    ],
    ids=[
        "nothing",
        "by another",
        "by another, then a person",
        "something else by another",
        "by this job",
        "again by this job",
        "again by another",
        "by nobody's job",
    ],
)
def test_the_same_content_under_the_name_of_another_job_is_seen(state, other):
    assert published_by_another(state, Identity(JOB, "c" * 64, "f")) == other


def test_a_commit_of_the_very_moment_the_files_were_written_counts():
    state = branch(Commit("c", "t", f"Job-Id: {JOB}", datetime(2025, 1, 1, 12, tzinfo=UTC)))
    assert may_be_published(state, AT_NOON) is True
    assert may_be_published(state, AT_NOON + 1000) is False


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Finalize-Id: abc", "abc"),
        ("some words\n\nJob-Id: x\nFinalize-Id: abc\nMore: y", "abc"),
        ("Finalize-Id: abc def", None),
        ("Finalize-Id:abc", None),
        (" Finalize-Id: abc", None),
        ("Not-Finalize-Id: abc", None),
        ("", None),
    ],
)
def test_a_trailer_is_a_line_of_its_own(text, value):
    assert Commit("c", "t", text, None).finalize_id == value


IDENTITY = Identity(JOB, "c0", "f1")


@pytest.mark.parametrize(
    ("environ", "method", "title"),
    [
        ({}, "dpo", f"Publish DPO model of job {JOB}"),
        ({}, None, f"Publish model of job {JOB}"),
        ({"AGENT_COMMIT_MESSAGE": "Version two"}, "dpo", "Version two"),
    ],
)
def test_the_first_line_says_what_was_published(environ, method, title):
    assert message(load(environ), Training(method=method), IDENTITY).title == title


def test_the_trailers_are_those_of_the_contract_and_read_back_from_the_commit():
    made = message(load({"GITHUB_SHA": "abc123"}), Training(), IDENTITY)
    assert made.description == f"Job-Id: {JOB}\nFinalize-Id: f1\nContent-Id: c0\nGit-Revision: abc123"
    assert made.finalize_id == "f1"
    read = Commit("c", made.title, made.description, None)
    names = ("Job-Id", "Finalize-Id", "Content-Id", "Git-Revision")
    assert [read.trailer(name) for name in names] == [str(JOB), "f1", "c0", "abc123"]


def test_an_unknown_git_revision_is_not_named():
    assert "Git-Revision" not in message(load({}), Training(), IDENTITY).description


@pytest.mark.parametrize(
    ("dataset", "public"),
    [
        (None, None),
        ("org/data", "org/data"),
        ("/home/ada/private/train.jsonl", "train.jsonl"),
        ("~/train.jsonl", "train.jsonl"),
        ("./data/train.jsonl", "train.jsonl"),
        ("../data/train", "train"),
    ],
)
def test_a_dataset_is_named_without_the_folders_of_the_machine(dataset, public):
    assert public_name(dataset) == public


def test_a_piece_in_memory_and_one_on_disk_are_read_alike(tmp_path):
    content = bytes(range(256)) * 3
    (tmp_path / "x").write_bytes(content)
    for piece in (Piece.made("x", content), Piece("x", tmp_path / "x", 768)):
        assert (piece.size_bytes, piece.sample(), piece.read()) == (768, content[:512], content)


def test_a_message_finds_its_identity():
    assert Message("t", {"A": "1", "Finalize-Id": "f"}).finalize_id == "f"


def test_a_rerun_need_not_hash_what_the_upload_hashed(folder, old_memory):
    root = folder({"model.safetensors": "abc"})
    made = draft(take_stock(root))
    memory = old_memory()
    sent = SimpleNamespace(path="model.safetensors", sha256="s", xet_hash="x")
    with capture_logs():
        made.remember([sent], memory)
    assert memory.recall(root / "model.safetensors", "sha256") == "s"
    assert made.xet_hash("model.safetensors", memory) == "x"
