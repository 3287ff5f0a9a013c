"""The warm upload, look by look, against the embedded Hub; then the finalize that makes use of it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path

import httpx2
import pytest
from structlog.testing import capture_logs

from agent.errors import HubUnreachableError
from agent.sandbox.loopback import Fault
from agent.warm.story import Story
from tests.warmed import (
    PRIVATE,
    WEIGHTS,
    content_bytes,
    has,
    publications,
    save_checkpoint,
    save_model,
    weights,
)

MB = 1_000_000
JOB = "11111111-2222-4333-8444-555555555555"
SIZE = 3 * MB


class Ahead:
    """A warm upload in this process: `look()` is one look of it, at files that settled at once.

    `between` is called after each block of bytes that it sends.
    """

    def __init__(self, pod, hub, out, monkeypatch):
        self.pod, self.hub, self.out = pod, hub, out
        self._monkeypatch = monkeypatch
        self.more = {"JOB_ID": JOB}
        self.between = None
        self._story = None
        self.begun_s = time.time() - 1
        self.said, self.read_bytes = [], 0

    def after(self, _):
        if self.between:
            self.between()

    def look(self, **more):
        """One look; the bytes of files that travelled for it."""
        if self._story is None or more:
            self._story = Story(self.pod.environ(self.out, **self.more, **more), self.begun_s)
            self._story._restraint = self
        first = len(self.hub.requests)
        with self._monkeypatch.context() as patch, capture_logs() as self.said:
            patch.setattr("agent.warm.settled.SETTLED_NS", 1)
            patch.setattr("agent.hashes.RACY_NS", 1)
            patch.setattr("agent.warm.story.GO_ON_EVERY_S", 0.0)
            self._story.look()
        return content_bytes(self.hub.requests[first:])

    @property
    def because(self):
        return " ".join(str(line.get("because", "")) for line in self.said)

    def finalize(self, *, by_lfs=False, **more):
        """Finalize, by xet unless there is none, and return the bytes of files that travelled for it."""
        first, before = len(self.hub.requests), bytes_read()
        outcome = self.pod.finalize(self.out, **self.more, **more)
        self.read_bytes = bytes_read() - before
        assert outcome.published
        assert len(publications(self.hub)) == 1
        for path in self.out.glob("*"):
            if path.name in {WEIGHTS, "config.json", "tokenizer.json"}:
                assert self.hub.read("ada/model", path.name) == path.read_bytes()
        asked = self.hub.requests[first:]
        assert any(one.kind == "lfs" for one in asked) == by_lfs
        return content_bytes(asked)


@pytest.fixture
def ahead(pod, hub, tmp_path, monkeypatch):
    return Ahead(pod, hub, tmp_path / "out", monkeypatch)


@pytest.fixture
def hashed(monkeypatch):
    """The names of files that were read from begin to end to be hashed, by whatever hashes files."""
    from agent.hub import xet

    read = []
    module = sys.modules["agent.artifact.digest"]
    sha256_of, hash_file = module.sha256_of, xet.hash_file
    monkeypatch.setattr(module, "sha256_of", lambda file: read.append(file.path) or sha256_of(file))
    monkeypatch.setattr(xet, "hash_file", lambda path: read.append(path.name) or hash_file(path))
    return read


def bytes_read():
    """What this process has read from files by now, in whatever thread and language."""
    return int(Path("/proc/self/io").read_text().split()[1])


# What finalize has left to do.


def test_a_stable_model_is_neither_sent_again_nor_read(ahead, hashed):
    """Sixteen megabytes: whatever read them would be seen, beside the modules that are imported."""
    content = weights(16 * MB, "stable")
    save_model(ahead.out, content)
    assert ahead.look() >= 16 * MB
    assert has(ahead.hub, content)
    first = len(ahead.hub.requests)
    assert ahead.finalize() == 0
    assert ahead.read_bytes < 8 * MB
    assert not [one for one in ahead.hub.requests[first:] if "xet-write-token" in one.path]
    assert hashed == []


def test_what_was_sent_once_is_not_looked_at_again(ahead):
    save_model(ahead.out, weights(SIZE, 1))
    assert ahead.look() >= SIZE
    asked = len(ahead.hub.requests)
    assert ahead.look() == 0
    assert len(ahead.hub.requests) == asked


def test_a_final_model_that_equals_the_last_checkpoint_is_recognized_while_it_trains(ahead, hub, hashed):
    """The training script goes on after it has saved: an evaluation, an export."""
    content = weights(SIZE, 1)
    save_checkpoint(ahead.out, 100, content)
    ahead.look()
    save_model(ahead.out, content)
    first = len(hub.requests)
    assert ahead.look() == 0
    assert not [one for one in hub.requests[first:] if "xet-write-token" in one.path]
    (ahead.out / "config.json").write_text((ahead.out / "config.json").read_text() + "\n")
    assert ahead.look() == 0
    assert ahead.finalize() == 0
    assert hashed == []


@pytest.mark.parametrize("how", ["copied", "linked", "moved"])
def test_a_final_model_that_equals_the_last_checkpoint_costs_one_read_at_most(ahead, hashed, how):
    """TRL saves it as a new file when the training has ended."""
    content = weights(16 * MB, "last")
    last = save_checkpoint(ahead.out, 100, content)
    assert ahead.look() >= 16 * MB
    save_model(ahead.out, b"")
    (ahead.out / WEIGHTS).unlink()
    if how == "copied":
        (ahead.out / WEIGHTS).write_bytes(content)
    elif how == "linked":
        (ahead.out / WEIGHTS).hardlink_to(last / WEIGHTS)
    else:
        (last / WEIGHTS).rename(ahead.out / WEIGHTS)
    assert ahead.finalize() == 0
    assert ahead.read_bytes < (16 + 8) * MB
    assert hashed == [WEIGHTS]


def test_a_model_in_shards_costs_what_is_new_of_it(ahead, hashed):
    names = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    shards = {name: weights(SIZE, name) for name in names}
    last = save_checkpoint(ahead.out, 100, weights(100, "none"))
    for folder in (last, ahead.out):
        save_model(folder, b"")
        (folder / WEIGHTS).unlink()
        for name, content in shards.items():
            (folder / name).write_bytes(_renamed(content, name))
        index = {"metadata": {}, "weight_map": {f"noise {name}": name for name in shards}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        if folder == last:
            (folder / "trainer_state.json").touch()
            assert ahead.look() >= 3 * SIZE
    changed = ahead.out / names[1]
    changed.write_bytes(_renamed(weights(SIZE, "other"), changed.name))
    sent = ahead.finalize()
    assert SIZE <= sent < 1.2 * SIZE
    assert sorted(hashed) == [names[0], names[2]]


def _renamed(content, name):
    """The same weights under a name of their own: no two shards may hold one tensor."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header[f"noise {name}"] = header.pop("noise")
    raw = json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + content[8 + size :]


@pytest.mark.parametrize(("where", "is_hashed"), [("beside the sketch", True), ("in the sketch", False)])
def test_of_a_file_that_differs_in_one_place_that_place_is_sent(ahead, hashed, where, is_hashed):
    content = weights(8 * MB, "partly")
    save_checkpoint(ahead.out, 100, content)
    ahead.look()
    at = (len(content) - 4096) * 7 // 15 + (0 if where == "in the sketch" else 100_000)
    final = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    save_model(ahead.out, final)
    assert 0 < ahead.finalize() < 0.5 * MB
    assert (hashed == [WEIGHTS]) == is_hashed
    assert has(ahead.hub, final)


def test_another_model_of_the_same_size_is_told_apart_before_it_is_read(ahead, hashed):
    save_checkpoint(ahead.out, 100, weights(16 * MB, "one"))
    ahead.look()
    save_model(ahead.out, weights(16 * MB, "another"))
    assert ahead.finalize() >= 16 * MB
    assert hashed == []
    assert (
        ahead.read_bytes < (2 * 16 + 8) * MB
    )  # the Hub, which lives in this process, reads it for its proof


def test_what_was_read_to_look_whether_it_is_published_is_not_read_again(ahead, pod, hashed, tmp_path):
    """A gate that compares has all files hashed before anything is sent; these are young."""
    history, earlier = [{"step": 9, "eval_loss": 0.4}], [{"step": 9, "eval_loss": 0.5}]
    pod.finalize(save_checkpoint(tmp_path / "older", 100, weights(SIZE, "older"), log_history=earlier))
    last = save_checkpoint(ahead.out, 100, weights(SIZE, 1), log_history=history)
    assert ahead.look() >= SIZE
    save_model(ahead.out, weights(SIZE, 1))
    shutil.copyfile(last / "trainer_state.json", ahead.out / "trainer_state.json")
    hashed.clear()
    first = len(ahead.hub.requests)
    assert pod.finalize(ahead.out, **ahead.more, AGENT_PUBLISH_IF="improves:eval_loss").published
    assert content_bytes(ahead.hub.requests[first:]) == 0
    assert hashed.count(WEIGHTS) == 1


def test_what_the_last_checkpoint_left_unsent_is_sent_by_finalize(ahead):
    """Killed, out of time, or never begun: it is all the same."""
    save_model(ahead.out, weights(SIZE, 1))
    assert ahead.finalize() >= SIZE


def test_a_failed_training_s_checkpoint_was_sent_while_it_trained(ahead, hashed):
    last = save_checkpoint(ahead.out, 50, weights(SIZE, 1), max_steps=100, save_steps=10)
    assert ahead.look() == 0
    asked_for = {"AGENT_PUBLISH_ON_FAILURE": "checkpoint"}
    assert ahead.look(**asked_for) >= SIZE
    assert ahead.finalize(**asked_for, AGENT_ALLOW_PARTIAL="true") == 0
    assert ahead.hub.read("ada/model", WEIGHTS) == (last / WEIGHTS).read_bytes()
    assert hashed == []


def test_a_next_checkpoint_is_sent_as_far_as_it_is_new(ahead):
    """Embeddings that were frozen, experts that saw nothing."""
    content = weights(8 * MB, "frozen")
    save_checkpoint(ahead.out, 100, content)
    ahead.look()
    save_checkpoint(ahead.out, 200, content[: 7 * MB] + weights(MB, "new")[-MB:] + content[8 * MB :])
    assert MB * 0.9 <= ahead.look() < 1.5 * MB


# What readers see of it.


def readers_see(hub):
    """What anybody finds who looks at the Hub with a token of the owner's, and what strangers do."""
    api = f"{hub.endpoint}/api/models/ada/model"
    signed = {"Authorization": "Bearer hf_ReadOnlyTokenOfAda01234"}
    told = httpx2.get(api, headers=signed)
    if told.status_code == 404:
        return None
    commits = [one["id"] for one in httpx2.get(f"{api}/commits/main", headers=signed).json()]
    tree = httpx2.get(f"{api}/tree/main?recursive=true", headers=signed).json()
    file = httpx2.get(f"{hub.endpoint}/ada/model/resolve/main/{WEIGHTS}", headers=signed)
    stranger = httpx2.get(api).status_code
    private = told.json()["private"]
    return private, commits, [one["path"] for one in tree], (file.status_code, file.content[:20]), stranger


def test_while_it_is_sent_a_new_repo_is_private_and_empty(ahead, hub):
    seen = []
    save_model(ahead.out, weights(SIZE, 1))
    ahead.between = lambda: seen.append(readers_see(hub))
    assert readers_see(hub) is None
    assert ahead.look() >= SIZE
    seen.append(readers_see(hub))
    assert len(seen) >= 4
    first = [hub.repo("ada/model").commits()[-1].oid]
    for private, commits, tree, (status, _), stranger in seen:
        assert (private, commits, tree, status) == (True, first, [".gitattributes"], 404)
        assert stranger in {401, 404}


def test_while_it_is_sent_readers_of_an_older_model_see_that_one(ahead, hub, pod, tmp_path):
    save_model(tmp_path / "older", weights(SIZE, "older"))
    pod.finalize(tmp_path / "older")
    before, seen = readers_see(hub), []
    (tmp_path / "state" / "delivered.json").unlink()
    ahead.begun_s = time.time()
    save_model(ahead.out, weights(SIZE, 1))
    ahead.between = lambda: seen.append(readers_see(hub))
    assert ahead.look() >= SIZE
    seen.append(readers_see(hub))
    assert len(seen) >= 4
    assert all(one == before for one in seen)
    assert before[3] == (200, weights(SIZE, "older")[:20])


def test_a_repo_that_was_to_be_public_is_made_so_and_empty(ahead, hub):
    save_model(ahead.out, weights(SIZE, 1))
    ahead.look(HF_REPO_PRIVATE="false")
    private, _, tree, _, _ = readers_see(hub)
    assert (private, tree) == (False, [".gitattributes"])


# What is never sent.


def test_what_is_not_published_is_not_sent(ahead, hub):
    last = save_checkpoint(ahead.out, 100, weights(SIZE, 1))
    hidden = {
        "excluded.safetensors": weights(SIZE, "excluded"), ".env": b"SECRET=" + bytes(10), "sub/.netrc": b"x",
        "optimizer_0/state.bin": os.urandom(SIZE), "global_step100/zero.pt": os.urandom(SIZE),
        "train.log": b"what it printed",
    }  # fmt: skip
    for path, content in hidden.items():
        (last / path).parent.mkdir(exist_ok=True)
        (last / path).write_bytes(content)
    outside = ahead.out.parent / "outside.safetensors"
    outside.write_bytes(weights(SIZE, "outside"))
    (last / "link.safetensors").symlink_to(outside)
    sent = ahead.look(AGENT_EXCLUDE="excluded.*")
    assert SIZE <= sent < SIZE + MB / 2
    kept = [path for path in last.rglob("*") if path.is_file() and path.name != WEIGHTS]
    assert {path.name for path in kept} >= {*PRIVATE, "trainer_state.json", "excluded.safetensors"}
    assert has(hub, (last / WEIGHTS).read_bytes())
    assert not [path for path in kept if has(hub, path.read_bytes())]  # what git keeps is sent in the commit


REFUSED = {
    "a credential in a file": (lambda out: (out / "notes.md").write_text("hf_" + "Ab3" * 12), {}),
    "a secret of this pod in a file": (
        lambda out: (out / "notes.md").write_text("planted-secret-of-this-pod"),
        {"WANDB_API_KEY": "planted-secret-of-this-pod"},
    ),
    "weights that are cut off": (lambda out: os.truncate(out / WEIGHTS, SIZE // 2), {}),
    "a header that lies": (lambda out: (out / WEIGHTS).write_bytes(b"\xff" * SIZE), {}),
    "a pickle that runs code": (
        lambda out: (out / "pytorch_model.bin").write_bytes(b"cposix\nsystem\n(S'true'\ntR."),
        {},
    ),
    "a metric that is not good enough": (lambda _: None, {"AGENT_PUBLISH_IF": "eval_loss<=0.5"}),
    "a metric that nobody logged": (lambda _: None, {"AGENT_PUBLISH_IF": "rouge>=1"}),
    "a branch that is not the one": (lambda _: None, {"AGENT_PUBLISH_IF": "branch:release"}),
}


@pytest.mark.parametrize("kind", ["checkpoint", "final"])
@pytest.mark.parametrize("case", REFUSED)
def test_what_finalize_would_refuse_is_not_sent_and_makes_no_repo(ahead, hub, case, kind):
    spoil, more = REFUSED[case]
    history = [{"step": 100, "eval_loss": 0.75}]
    out = save_checkpoint(ahead.out, 100, weights(SIZE, 1), log_history=history)
    if kind == "final":
        shutil.move(out, ahead.out / "moved")
        (ahead.out / "moved").rename(out := ahead.out.with_name("final"))
        ahead.out = out
    spoil(out)
    assert ahead.look(**more) == 0
    assert ahead.said[-1]["event"] == "not sent ahead"
    assert "planted-secret" not in str(ahead.said)
    assert not hub.repos
    asked = len(hub.requests)
    assert ahead.look() == 0
    assert len(hub.requests) == asked  # nothing changed, nothing is asked again


def test_what_passes_the_gate_is_sent(ahead):
    history = [{"step": 100, "eval_loss": 0.75}]
    save_checkpoint(ahead.out, 100, weights(SIZE, 1), log_history=history)
    assert ahead.look(AGENT_PUBLISH_IF="eval_loss<=0.8") >= SIZE


def test_a_model_that_is_no_better_than_the_published_one_is_not_sent(ahead, hub, pod, tmp_path):
    def losing(out, step, seed, loss):
        history = [{"step": step, "eval_loss": loss}]
        return save_checkpoint(out, step, weights(SIZE, seed), log_history=history)

    pod.finalize(losing(tmp_path / "older", 100, "older", 0.5))
    losing(ahead.out, 100, 1, 0.6)
    assert ahead.look(AGENT_PUBLISH_IF="improves:eval_loss") == 0
    assert not has(hub, weights(SIZE, 1))
    losing(ahead.out, 200, 2, 0.4)
    assert ahead.look() >= SIZE


@pytest.mark.parametrize("how", ["all of it", "its weights"])
def test_weights_from_before_the_training_are_not_sent(ahead, hub, how):
    last = save_checkpoint(ahead.out, 100, weights(SIZE, 1))
    then = ahead.begun_s - 3600
    for path in last.iterdir():
        if how == "all of it" or path.name == WEIGHTS:
            os.utime(path, (then, then))
    assert ahead.look() == 0
    assert not hub.repos
    assert ("before the training began" in ahead.because) == (how == "its weights")


def test_without_xet_nothing_is_sent_and_nobody_is_asked(ahead, hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    save_model(ahead.out, weights(SIZE, 1))
    assert ahead.look() == 0
    assert not hub.requests
    assert ahead.finalize(by_lfs=True) >= SIZE


# A Hub that does not want it, or is not there.


def refused_once(ahead):
    assert ahead.look() == 0
    assert ahead.said[-1]["event"] == "not sent ahead"
    asked = len(ahead.hub.requests)
    ahead.look()
    assert len(ahead.hub.requests) == asked


def test_a_repo_that_is_not_as_private_as_asked_gets_nothing(ahead, hub):
    hub.create_repo("ada/model", private=False)
    ahead.more["HF_REPO_PRIVATE"] = "true"
    save_model(ahead.out, weights(SIZE, 1))
    refused_once(ahead)


def test_a_token_that_may_only_read_sends_nothing_and_makes_no_repo(ahead, hub):
    ahead.more["HF_TOKEN"] = "hf_ReadOnlyTokenOfAda01234"
    save_model(ahead.out, weights(SIZE, 1))
    refused_once(ahead)
    assert not hub.repos


def test_a_gitignore_that_would_drop_a_file_is_found_before_anything_is_sent(ahead, hub):
    hub.create_repo("ada/model")
    hub.commit("ada/model", {".gitignore": b"*.safetensors\n"})
    save_model(ahead.out, weights(SIZE, 1))
    refused_once(ahead)


def test_a_hub_without_xet_storage_gets_all_of_it_in_the_end(ahead, hub):
    hub.xet_enabled = False
    save_model(ahead.out, weights(SIZE, 1))
    refused_once(ahead)
    assert ahead.finalize(by_lfs=True) >= SIZE


def test_a_hub_that_does_not_answer_is_asked_again_later(ahead, hub):
    ahead.more["AGENT_STALL_S"] = "0.3"
    save_model(ahead.out, weights(SIZE, 1))
    down = hub.faults.add(Fault("status", match="GET /api/models", status=503))
    for _ in range(2):
        fired = down.fired
        with pytest.raises(HubUnreachableError):
            ahead.look()
        assert down.fired > fired
    hub.faults.clear()
    assert ahead.look() >= SIZE
    assert ahead.finalize() == 0


def test_storage_that_cannot_be_reached_is_tried_again_later(ahead, hub):
    hub.cas_reachable = False
    save_model(ahead.out, weights(SIZE, 1))
    with pytest.raises(HubUnreachableError):
        ahead.look()
    hub.cas_reachable = True
    assert ahead.look() >= SIZE
    assert ahead.finalize() == 0


def test_storage_that_refuses_for_good_is_left_to_finalize(ahead, hub):
    save_model(ahead.out, weights(SIZE, 1))
    refused = hub.faults.add(Fault("status", match="POST /v1/xorbs", status=403))
    ahead.look()
    assert refused.fired
    assert ahead.said[-1]["event"] == "not sent ahead"
    asked = len(hub.requests)
    ahead.look()
    assert len(hub.requests) == asked
    hub.faults.clear()
    assert ahead.finalize() >= SIZE


# What happens while it is sent.


def interrupted(ahead, what):
    """Look while after the first block something happens; nothing more of the file is sent after it."""
    blocks = []

    def between():
        blocks.append(1)
        if len(blocks) == 1:
            what()

    ahead.between = between
    ahead.look()
    ahead.between = None
    assert ahead.said[-1]["event"] == "not sent ahead now"
    return len(blocks)


LONG = 12 * MB


def test_a_newer_checkpoint_is_sent_and_the_older_one_is_dropped(ahead, hub):
    save_checkpoint(ahead.out, 100, weights(LONG, 1))
    assert interrupted(ahead, lambda: save_checkpoint(ahead.out, 200, weights(SIZE, 2))) == 1
    assert not has(hub, weights(LONG, 1))
    assert SIZE <= ahead.look() < 1.2 * SIZE
    assert has(hub, weights(SIZE, 2))
    save_model(ahead.out, weights(SIZE, 2))
    assert ahead.finalize() == 0


@pytest.mark.parametrize("how", ["written again", "grown", "replaced"])
def test_a_file_that_changes_while_it_is_sent_is_sent_as_it_is_afterwards(ahead, hub, how):
    path = save_model(ahead.out, weights(LONG, 1)) / WEIGHTS

    def change():
        if how == "written again":
            path.write_bytes(weights(SIZE, 2))
        elif how == "grown":
            with path.open("ab") as stream:
                stream.write(b"more")
        else:
            path.with_suffix(".new").write_bytes(weights(SIZE, 2))
            path.with_suffix(".new").replace(path)

    interrupted(ahead, change)
    assert not has(hub, weights(LONG, 1)[: LONG // 2])
    assert not [one for one in hub.requests if one.path == "/v1/shards"]
    path.write_bytes(weights(SIZE, 2))
    ahead.look()
    assert ahead.finalize() == 0


def test_a_checkpoint_that_its_trainer_removes_while_it_is_sent_ends_nothing(ahead, hub):
    last = save_checkpoint(ahead.out, 100, weights(LONG, 1))
    (last / "second.safetensors").write_bytes(_renamed(weights(SIZE, "second"), "second"))

    def rotate():
        save_checkpoint(ahead.out, 200, weights(SIZE, 2))
        shutil.rmtree(last)

    interrupted(ahead, rotate)
    assert ahead.look() >= SIZE
    save_model(ahead.out, weights(SIZE, 2))
    assert ahead.finalize() == 0


def test_a_checkpoint_that_vanishes_between_two_files_ends_nothing(ahead, hub, monkeypatch):
    """Removed when nobody was looking: the next file is not there to be opened."""
    last = save_checkpoint(ahead.out, 100, weights(SIZE, 1))
    (last / "second.safetensors").write_bytes(_renamed(weights(SIZE, "second"), "second"))
    monkeypatch.setattr("agent.warm.story.Story._go_on", lambda *_: None)
    ahead.between = lambda: shutil.rmtree(last, ignore_errors=True)
    ahead.look()
    assert ahead.said[-1]["event"] == "not sent ahead now"
    ahead.between = None
    save_model(ahead.out, weights(SIZE, 2))
    assert ahead.look() >= SIZE
    assert ahead.finalize() == 0


def test_a_finalize_of_the_training_s_own_has_the_network_for_itself(ahead, hub, pod):
    save_model(ahead.out, weights(LONG, 1))
    lock = pod.state_dir / JOB / "lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as held:
        blocks = interrupted(ahead, lambda: fcntl.flock(held, fcntl.LOCK_EX))
        assert blocks == 1
        assert ahead.look() == 0
    assert ahead.finalize() >= LONG
    assert ahead.look() == 0  # what finalize sent is known


def test_the_bandwidth_counts_the_bytes_that_are_read(ahead):
    counted = []
    save_model(ahead.out, weights(SIZE, 1))
    ahead.after = counted.append
    ahead.look()
    assert sum(counted) == (ahead.out / WEIGHTS).stat().st_size
    assert max(counted) <= 1 << 20


# A server that forgets what nobody has committed.


@pytest.mark.parametrize("order", ["stable", "trl"])
def test_what_the_server_forgot_before_the_commit_is_sent_again_in_the_same_run(ahead, hub, order):
    content = weights(SIZE, 1)
    if order == "stable":
        save_model(ahead.out, content)
    else:
        save_checkpoint(ahead.out, 100, content)
    assert ahead.look() >= SIZE
    save_model(ahead.out, content)
    hub.forget()
    assert not has(hub, content)
    assert ahead.finalize() >= SIZE


@pytest.mark.parametrize(
    "match", ["/commit/", "/api/validate-yaml", "preupload", "GET /api/models/ada/model$"]
)
def test_what_it_forgets_during_the_finalize_is_sent_again_in_the_same_run(ahead, hub, match):
    save_model(ahead.out, weights(SIZE, 1))
    ahead.look()
    forgetful = hub.faults.add(Fault("forget", match=match, nth=0))
    assert ahead.finalize() >= SIZE
    assert forgetful.fired == 1


@pytest.mark.parametrize("match", ["/xet-write-token/", "POST /v1/xorbs", "POST /v1/shards", "/commit/"])
@pytest.mark.parametrize("second", ["another", "akin"])
def test_what_it_forgets_while_another_file_is_sent_is_sent_again_in_the_same_run(ahead, hub, match, second):
    """The other file may share chunks with what is gone: then storage refuses it at first."""
    content = weights(SIZE, 1)
    save_checkpoint(ahead.out, 100, content)
    ahead.look()
    forgetful = hub.faults.add(Fault("forget", match=match, nth=0))
    save_model(ahead.out, content)
    other = weights(SIZE, "second") if second == "another" else content[:-MB] + os.urandom(MB)
    (ahead.out / "second.safetensors").write_bytes(_renamed(other, "second"))
    assert ahead.finalize() >= SIZE
    assert forgetful.fired == 1
    assert (
        hashlib.sha256(ahead.hub.read("ada/model", "second.safetensors")).digest()
        == hashlib.sha256((ahead.out / "second.safetensors").read_bytes()).digest()
    )


def test_what_it_forgets_between_two_checkpoints_is_sent_again_later(ahead, hub):
    """Only our cache remembers the chunks that both have, and storage refuses what names them."""
    content = weights(8 * MB, 1)
    save_checkpoint(ahead.out, 100, content)
    ahead.look()
    hub.forget()
    akin = content[: 7 * MB] + weights(MB, "new")[-MB:] + content[8 * MB :]
    save_checkpoint(ahead.out, 200, akin)
    with pytest.raises(HubUnreachableError, match="lost what was sent"):
        ahead.look()
    assert ahead.look() >= 8 * MB
    save_model(ahead.out, akin)
    assert ahead.finalize() == 0


# What is remembered.


DAMAGE = {
    "cut": lambda whole: whole[: len(whole) // 2],
    "empty": lambda _: b"",
    "another shape": lambda _: b'{"a": [1, {"b": null}]}',
    "a list": lambda _: b"[]",
    "noise": lambda whole: os.urandom(len(whole)),
    "a deep nest": lambda _: b"[" * 100_000,
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["delivered.json", "hashes.json"])
def test_a_damaged_memory_costs_time_and_no_more(ahead, pod, name, damage):
    save_model(ahead.out, weights(SIZE, 1))
    ahead.look()
    path = pod.state_dir / name
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    assert ahead.finalize() == 0  # it is chunked anew, and storage is known to have it


@pytest.mark.parametrize("digit", [0, 1, 31, 63])
def test_a_hash_that_was_bent_in_the_memory_proves_nothing_wrong(ahead, pod, digit):
    save_model(ahead.out, weights(SIZE, 1))
    ahead.look()
    path = pod.state_dir / "delivered.json"
    [repo] = json.loads(path.read_text()).values()
    [[xet_hash, *_]] = repo.values()
    bent = xet_hash[:digit] + ("0" if xet_hash[digit] != "0" else "1") + xet_hash[digit + 1 :]
    path.write_text(path.read_text().replace(xet_hash, bent))
    assert ahead.finalize() == 0


def test_two_trainings_of_one_volume_remember_what_each_has_sent(ahead, hub, pod, monkeypatch):
    other = Ahead(pod, hub, ahead.out.with_name("other"), monkeypatch)
    other.more = {"JOB_ID": JOB.replace("1", "2"), "HF_REPO_NAME": "ada/other"}
    save_model(ahead.out, weights(SIZE, 1))
    save_model(other.out, weights(SIZE, 2))

    def beside():
        ahead.between = None
        other.look()

    ahead.between = beside
    assert ahead.look() >= 2 * SIZE
    assert ahead.finalize() == 0
    first = len(hub.requests)
    assert pod.finalize(other.out, **other.more).published
    assert content_bytes(hub.requests[first:]) == 0


def test_what_one_repo_was_brought_is_not_taken_for_what_another_has(ahead, hub, pod):
    """Storage may have it all the same: that is for storage to say."""
    save_model(ahead.out, weights(SIZE, 1))
    ahead.look()
    assert pod.finalize(ahead.out, JOB_ID=JOB, HF_REPO_NAME="ada/another").published
    sent_shards = [one for one in hub.requests if one.path == "/v1/shards"]
    assert len(sent_shards) == 2


def test_a_finalize_that_died_before_its_commit_has_brought_all_of_it(ahead, hub, hashed, monkeypatch):
    """Without any warm upload: what was delivered is known to the next run by its stamp, or by one read."""
    monkeypatch.setattr("agent.hashes.RACY_NS", 1)
    save_model(ahead.out, weights(SIZE, 1))
    refused = hub.faults.add(Fault("status", match="/commit/", status=403))
    with contextlib.suppress(Exception):
        ahead.finalize()
    assert refused.fired
    assert publications(hub) == []
    hub.faults.clear()
    assert ahead.finalize() == 0
    assert hashed == []
    hub.faults.clear()


def test_a_finalize_that_died_before_its_commit_reads_a_young_file_once(ahead, hub, hashed):
    save_model(ahead.out, weights(SIZE, 1))
    refused = hub.faults.add(Fault("status", match="/commit/", status=403))
    with contextlib.suppress(Exception):
        ahead.finalize()
    assert refused.fired
    hub.faults.clear()
    assert ahead.finalize() == 0
    assert hashed == [WEIGHTS]


def test_what_was_sent_is_not_believed_where_the_repo_is_gone_since(ahead, hub):
    save_model(ahead.out, weights(SIZE, 1))
    ahead.look()
    del hub.repos["ada/model"]
    hub.forget()
    assert ahead.finalize() >= SIZE


@pytest.mark.parametrize("kind", ["sha256", "xet"])
def test_a_hash_of_a_file_that_was_bent_in_the_memory_proves_nothing_wrong(ahead, pod, kind):
    save_model(ahead.out, weights(SIZE, 1))
    ahead.look()
    path = pod.state_dir / "hashes.json"
    document = json.loads(path.read_text())
    entry = document[str(ahead.out / WEIGHTS)]
    entry[kind] = "0123456789abcdef" * 4
    path.write_text(json.dumps(document))
    ahead.finalize()
    tree = ahead.hub.repo("ada/model").resolve("main").tree
    assert tree[WEIGHTS].sha256 == hashlib.sha256(weights(SIZE, 1)).hexdigest()
