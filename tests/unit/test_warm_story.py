"""What the warm upload decides: when to look, what to send, when to leave it, when to come again."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from types import SimpleNamespace
from uuid import UUID

import pytest

from agent.errors import HubAuthError, HubUnreachableError
from agent.warm import carrier, story
from agent.warm.carrier import NotNowError
from agent.warm.story import FIRST_PAUSE_S, LONGEST_PAUSE_S, LOOK_EVERY_S, Story

JOB = UUID(int=7)
DOWN = HubUnreachableError("The Hub is down.", hint="")
REFUSED = HubAuthError("The token may not write.", hint="")


class OverError(Exception):
    """Ends what goes on for ever."""


class Beside:
    """A story beside a training, with a carrier that only notes what it was given."""

    def __init__(self, home):
        self.home, self.out = home, home / "out"
        self.environ = {
            "HF_TOKEN": "hf_token_of_this_test_123", "OUTPUT_DIR": str(self.out), "JOB_ID": str(JOB),
            "AGENT_STATE_DIR": str(home / "state"),
        }  # fmt: skip
        self.story = Story(self.environ, time.time() - 60)
        self.story._restraint = None
        self.carried, self.ends_with, self.meanwhile, self.makes = [], None, None, None

    def carry(self, config, begun, restraint, *, go_on, made):
        this = SimpleNamespace(files=1, size_bytes=10, sent_bytes=4)

        def carry(found):
            self.carried.append(found.folder.name)
            if self.makes:
                made(self.makes)
            if self.meanwhile:
                self.meanwhile()
                self.story._asked = 0.0
                go_on()
            if self.ends_with:
                raise self.ends_with

        this.carry = carry
        return this

    def save(self, path="out/model.safetensors", content="weights"):
        target = self.home / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
        return target

    def save_checkpoint(self, step, **state):
        self.save(f"out/checkpoint-{step}/model.safetensors")
        self.save(f"out/checkpoint-{step}/trainer_state.json", json.dumps({"global_step": step, **state}))

    def look(self, times=1):
        """What was carried by so many looks."""
        self.carried.clear()
        for _ in range(times):
            self.story.look()
        return self.carried

    @property
    def told(self):
        path = self.home / "state" / str(JOB) / "warm.json"
        return json.loads(path.read_text()) if path.exists() else None


@pytest.fixture
def beside(tmp_path, monkeypatch):
    one = Beside(tmp_path)
    monkeypatch.setattr(carrier, "Carrier", one.carry)
    monkeypatch.setattr("agent.warm.settled.SETTLED_NS", 1)
    return one


def test_what_was_saved_is_sent_once(beside):
    assert beside.look() == []
    beside.save()
    assert beside.look(3) == ["out"]
    folder = {"version": 1, "folder": str(beside.out), "files": 1, "bytes": 10, "sent_bytes": 4}
    assert beside.told == {**folder, "done": True, "repo_created": None}


def test_a_repo_that_was_made_is_known_whatever_comes_of_it(beside):
    beside.save()
    beside.makes, beside.ends_with = "ada/model", NotNowError("killed, perhaps")
    beside.look()
    assert (beside.told["repo_created"], beside.told["done"]) == ("ada/model", False)
    beside.makes, beside.ends_with = None, None
    beside.look()
    assert (beside.told["repo_created"], beside.told["done"]) == ("ada/model", True)


def test_what_is_saved_after_it_is_sent_too(beside):
    beside.save_checkpoint(10)
    assert beside.look(2) == ["checkpoint-10"]
    beside.save_checkpoint(20)
    assert beside.look(2) == ["checkpoint-20"]
    beside.save()
    assert beside.look(2) == ["out"]


def test_while_the_final_model_is_written_the_last_checkpoint_is_sent(beside):
    beside.save_checkpoint(10)
    with beside.save().open("ab"):
        assert beside.look(3) == ["checkpoint-10"]
    assert beside.look(3) == ["out"]


def test_when_the_final_model_is_there_its_checkpoints_are_past(beside):
    beside.save_checkpoint(10)
    beside.save()
    assert beside.look(3) == ["out"]
    beside.save_checkpoint(20)
    assert beside.look(3) == []


@pytest.mark.parametrize("end", [None, REFUSED])
def test_after_the_last_checkpoint_comes_the_best_one(beside, end):
    """It may be what the trainer loads in the end."""
    beside.save_checkpoint(10)
    beside.look()
    beside.save_checkpoint(20)
    beside.save_checkpoint(30, best_model_checkpoint="/o/checkpoint-20")
    beside.ends_with = end
    assert beside.look(4) == ["checkpoint-30", "checkpoint-20"]


def test_the_best_checkpoint_waits_for_a_new_last_one(beside):
    beside.save_checkpoint(20)
    beside.save_checkpoint(30, best_model_checkpoint="/o/checkpoint-20")
    assert beside.look() == ["checkpoint-30"]
    beside.meanwhile = lambda: beside.save_checkpoint(40, best_model_checkpoint="/o/checkpoint-20")
    assert beside.look() == ["checkpoint-20"]
    assert beside.told["folder"].endswith("checkpoint-30")
    beside.meanwhile = None
    assert beside.look(3) == ["checkpoint-40", "checkpoint-20"]


@pytest.mark.parametrize("how", ["another file", "written again", "replaced"])
def test_a_folder_that_changed_is_sent_again(beside, how):
    path = beside.save()
    beside.look()
    if how == "another file":
        beside.save("out/tokenizer.json")
    elif how == "written again":
        path.write_text("another")
    else:
        before = path.stat()
        shutil.copyfile(path, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert beside.look(2) == ["out"]


def test_what_is_never_published_is_no_change(beside):
    beside.save()
    beside.look()
    beside.save("out/training_args.bin")
    beside.save("out/optimizer.pt")
    beside.save("out/train.log")
    assert beside.look(2) == []


def test_what_is_excluded_is_no_change(beside):
    beside.environ["AGENT_EXCLUDE"] = "notes.txt"
    beside.save()
    beside.look()
    beside.save("out/notes.txt")
    assert beside.look(2) == []


def test_a_young_file_is_left_alone(beside, monkeypatch):
    monkeypatch.setattr("agent.warm.settled.SETTLED_NS", 10**12)
    beside.save()
    assert beside.look(3) == []


def test_a_file_that_is_being_written_is_left_alone(beside):
    with beside.save().open("ab"):
        assert beside.look(3) == []
    assert beside.look() == ["out"]


def test_a_file_of_another_folder_that_is_being_written_is_waited_for(beside):
    other = beside.save("elsewhere/model.onnx")
    beside.environ["AGENT_FILES"] = f"{other}:onnx/model.onnx"
    beside.save()
    with other.open("ab"):
        assert beside.look(3) == []
    assert beside.look(2) == ["out"]
    other.write_text("another")
    assert beside.look(2) == ["out"]


def test_a_file_of_another_folder_that_is_not_there_yet_is_waited_for(beside):
    beside.environ["AGENT_FILES"] = f"{beside.home / 'model.onnx'}:onnx/model.onnx"
    beside.save()
    assert beside.look(2) == []
    beside.save("model.onnx")
    assert beside.look() == ["out"]


def test_a_checkpoint_does_not_wait_for_what_is_added_in_the_end(beside):
    beside.environ["AGENT_FILES"] = f"{beside.home / 'model.onnx'}:onnx/model.onnx"
    beside.save_checkpoint(10)
    assert beside.look() == ["checkpoint-10"]


@pytest.mark.parametrize("reason", [NotNowError("it changed"), FileNotFoundError(2, "it is gone")])
def test_what_was_not_carried_to_its_end_is_tried_again(beside, reason):
    beside.save()
    beside.ends_with = reason
    assert beside.look(3) == ["out"] * 3
    assert beside.told is None
    beside.ends_with = None
    assert beside.look(2) == ["out"]


def test_what_is_refused_is_not_tried_again_until_it_changes(beside):
    beside.save()
    beside.ends_with = REFUSED
    assert beside.look(3) == ["out"]
    assert beside.told is None
    beside.save("out/tokenizer.json")
    assert beside.look(3) == ["out"]


@pytest.mark.parametrize("error", [DOWN, PermissionError(13, "denied")])
def test_what_may_succeed_later_is_whoever_looks_to_repeat(beside, error):
    beside.save()
    beside.ends_with = error
    for _ in range(2):
        with pytest.raises(type(error)):
            beside.look()
        assert beside.carried == ["out"]


def test_a_folder_of_state_that_takes_nothing_stops_nothing(beside, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(story, "write_durably", full)
    beside.save()
    assert beside.look(2) == ["out"]


def hold(beside, *, job=JOB):
    folder = beside.home / "state" / str(job)
    folder.mkdir(parents=True, exist_ok=True)
    handle = (folder / "lock").open("w")
    fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


def test_while_somebody_finalizes_nothing_is_begun(beside):
    beside.save()
    with hold(beside):
        assert beside.look(3) == []
    assert beside.look() == ["out"]


def test_the_finalize_of_another_job_is_nothing_to_us(beside):
    beside.save()
    with hold(beside, job=UUID(int=8)):
        assert beside.look() == ["out"]


def test_a_finalize_that_begins_meanwhile_has_the_network_for_itself(beside):
    beside.save()
    held = []
    beside.meanwhile = lambda: held.append(hold(beside))
    assert beside.look() == ["out"]
    assert beside.told is None
    held[0].close()
    beside.meanwhile = None
    assert beside.look(2) == ["out"]


def test_a_newer_checkpoint_is_sent_instead_of_the_rest_of_an_older_one(beside):
    beside.save_checkpoint(10)
    beside.meanwhile = lambda: beside.save_checkpoint(20)
    assert beside.look() == ["checkpoint-10"]
    assert beside.told is None
    assert beside.look() == ["checkpoint-20"]
    assert beside.told["folder"].endswith("checkpoint-20")


def save_last(beside, step, best):
    told = {"global_step": step, "max_steps": step, "best_model_checkpoint": f"out/checkpoint-{best}"}
    beside.save(f"out/checkpoint-{step}/model.safetensors")
    beside.save(f"out/checkpoint-{step}/trainer_state.json", json.dumps(told))


def test_after_the_last_checkpoint_comes_the_best(beside):
    beside.save_checkpoint(10)
    save_last(beside, 20, best=10)
    assert beside.look(3) == ["checkpoint-20", "checkpoint-10"]


def test_while_the_model_is_being_written_its_checkpoint_is_sent(beside):
    save_last(beside, 20, best=20)
    with beside.save().open("ab"):
        assert beside.look(2) == ["checkpoint-20"]
    assert beside.look(2) == ["out"]


def test_a_model_that_is_being_written_ends_no_sending_and_one_that_is_there_does(beside):
    save_last(beside, 20, best=20)
    opened = []
    beside.meanwhile = lambda: opened.append(beside.save().open("ab"))
    assert beside.look() == ["checkpoint-20"]
    assert beside.told["folder"].endswith("checkpoint-20")
    opened[0].close()
    save_last(beside, 30, best=30)
    (beside.out / "model.safetensors").unlink()
    beside.meanwhile = beside.save
    assert beside.look() == ["checkpoint-30"]
    assert beside.told["folder"].endswith("checkpoint-20")


def test_when_the_model_itself_is_sent_its_checkpoints_are_past(beside):
    save_last(beside, 20, best=20)
    beside.save()
    assert beside.look(3) == ["out"]


def test_a_checkpoint_that_is_being_written_ends_nothing(beside):
    beside.save_checkpoint(10)
    beside.meanwhile = lambda: beside.save("out/checkpoint-20/model.safetensors")
    assert beside.look() == ["checkpoint-10"]
    assert beside.told["folder"].endswith("checkpoint-10")


def test_a_checkpoint_that_was_removed_meanwhile_ends_it(beside):
    beside.save_checkpoint(10)
    beside.meanwhile = lambda: shutil.rmtree(beside.out / "checkpoint-10")
    assert beside.look(2) == ["checkpoint-10"]
    assert beside.told is None


def test_between_blocks_the_folder_is_looked_at_only_now_and_then(beside, monkeypatch):
    now, looks = [1000.0], []
    monkeypatch.setattr(story, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(story, "candidates", lambda *_: looks.append(now[0]) or [None])
    config = beside.story._config()
    for _ in range(100):
        now[0] += 0.1
        beside.story._go_on(config, None)
    assert 9 <= len(looks) <= 11


def test_a_configuration_that_the_training_is_writing_is_waited_for(beside):
    beside.save()
    path = beside.save("config.json", "{")
    beside.environ["TRAINING_CONFIG"] = str(path)
    assert beside.look() == []
    path.write_text("{}")
    assert beside.look() == ["out"]


def test_the_folder_that_the_training_names_is_the_one(beside):
    del beside.environ["OUTPUT_DIR"]
    beside.environ["TRAINING_CONFIG"] = str(beside.save("config.json", "{}"))
    beside.save("named/model.safetensors")
    assert beside.look() == []
    beside.save("config.json", json.dumps({"output_dir": str(beside.home / "named")}))
    assert beside.look() == ["named"]


# The loop around it.


@pytest.fixture
def told(beside, monkeypatch):
    """`told(end, end, …)`: the waits of a story whose looks end so; what it needs first is as it is."""
    monkeypatch.setattr("agent.log.configure", lambda **_: None)
    monkeypatch.setattr(story, "prepare", lambda *_: [])
    slept, ends = [], []

    def look():
        if not ends:
            raise OverError
        if end := ends.pop(0):
            raise end

    def tell(*those):
        ends[:] = those
        slept.clear()
        with pytest.raises(OverError):
            beside.story.tell()
        return slept

    monkeypatch.setattr(story, "time", SimpleNamespace(sleep=slept.append))
    monkeypatch.setattr(beside.story, "look", look)
    return tell


def test_it_looks_again_and_again(told):
    assert told(None, None, None) == [LOOK_EVERY_S] * 3


def test_what_goes_wrong_is_tried_again_with_growing_pauses(told):
    waits = told(*[DOWN] * 8)
    assert [wait for wait in waits if wait != LOOK_EVERY_S] == [30, 60, 120, 240, 480, 900, 900, 900]
    assert (FIRST_PAUSE_S, LONGEST_PAUSE_S) == (30, 900)


def test_after_a_success_pauses_are_short_again(told):
    waits = told(DOWN, DOWN, None, DOWN)
    assert [wait for wait in waits if wait != LOOK_EVERY_S] == [30, 60, 30]


def test_a_disk_that_fails_once_does_not_end_it(told):
    assert told(OSError(5, "Input/output error"), None) == [FIRST_PAUSE_S, LOOK_EVERY_S, LOOK_EVERY_S]


def test_a_bug_ends_it(beside, told):
    with pytest.raises(ValueError, match="a bug"):
        told(ValueError("a bug"))


def test_it_begins_when_the_configuration_is_whole(beside, told, monkeypatch):
    path = beside.save("config.json", "{")
    beside.environ["TRAINING_CONFIG"] = str(path)
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        if len(waited) == 3:
            path.write_text("{}")

    monkeypatch.setattr(story, "time", SimpleNamespace(sleep=sleep))
    told()
    assert waited == [LOOK_EVERY_S] * 3


def test_the_bandwidth_that_was_asked_for_is_kept(beside, told):
    beside.environ["AGENT_WARM_MBPS"] = "2.5"
    told()
    assert beside.story._restraint._bytes_s == 2_500_000
