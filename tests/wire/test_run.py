"""`run`: the real story with a stand-in for the training, against the embedded Hub and job database."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import sys
import threading
import time

import pytest

from agent.boundary import _interrupt
from agent.config import load
from agent.errors import (
    ArtifactError,
    HubAuthError,
    HubUnreachableError,
    Interrupted,
    JobRefusedError,
    JobUnreachableError,
    TrainingFailedError,
)
from agent.pod.marker import process_mark
from agent.run import Run, RunOutcome
from agent.sandbox.loopback import Fault
from tests.conftest import FIXTURES, ROOT, TOKEN

TRAINER = ROOT / "tests" / "trainer.py"
MODEL = f"save={FIXTURES / 'sft_lora'}"


class Trained:
    """One run in this process: what it answered and what its training did."""

    def __init__(self, pod, tmp_path, environ):
        self.pod, self.folder = pod, tmp_path / "out"
        self.diary_path, self.printed = tmp_path / "diary", tmp_path / "printed"
        self.environ = environ
        self.outcome = RunOutcome()

    def command(self, *deeds):
        return [sys.executable, str(TRAINER), str(self.diary_path), *deeds]

    def run(self, *deeds, command=None, **more):
        environ = self.pod.environ(self.folder, **self.environ, **more)
        config = load({name: value for name, value in environ.items() if value})
        self.outcome = RunOutcome()
        with self.printed.open("ab") as out:
            story = Run(
                config,
                self.outcome,
                command or self.command(*deeds),
                environ={"PATH": os.environ["PATH"]} | environ,
                stdout=out.fileno(),
            )
            story.tell()
        return self.outcome

    @property
    def diary(self):
        return self.diary_path.read_text().splitlines() if self.diary_path.exists() else []

    @property
    def printed_text(self):
        return self.printed.read_text() if self.printed.exists() else ""

    def log(self):
        [found] = self.pod.state_dir.rglob("training.log")
        return found.read_text()


@pytest.fixture
def job(app):
    return app.add_job(status="pending")


@pytest.fixture
def trained(pod, app, job, tmp_path, monkeypatch):
    """A run of the job; pauses and beats are short, everything else is as in a pod."""
    monkeypatch.setattr("agent.jobs.heartbeat.INTERVAL_S", 0.05)
    monkeypatch.setattr("agent.pod.child._LOOK_EVERY_S", 0.02)
    monkeypatch.setattr("agent.run.FIRST_PAUSE_S", 0.1)
    monkeypatch.setattr("agent.run.LONGEST_PAUSE_S", 0.2)
    return Trained(pod, tmp_path, app.environ(job))


def test_a_training_is_run_published_and_recorded(trained, hub, app, job):
    outcome = trained.run("say=step 1", MODEL)
    assert trained.diary == ["start", "end"]
    assert trained.printed.read_text() == trained.log() == "step 1\n"
    row = app.row(job.id)
    assert (row["status"], row["progress"]) == ("completed", 100)
    assert row["model_url"] == f"{hub.endpoint}/ada/model" == outcome.model_url
    assert (outcome.result, outcome.published, outcome.child_exit) == ("completed", True, 0)
    assert outcome.as_json()["child_exit"] == 0
    assert (
        hub.read("ada/model", "adapter_model.safetensors")
        == (FIXTURES / "sft_lora" / "adapter_model.safetensors").read_bytes()
    )


def test_the_row_is_running_with_progress_while_it_trains(trained, app, job, tmp_path):
    rows, released = [], tmp_path / "go on"
    told = json.dumps({"step": 30, "max_steps": 120, "epoch": 0.5, "metrics": {"loss": 0.25}})

    def look():
        while not (rows and rows[-1]["current_step"] == 30):
            rows.append(app.row(job.id))
        released.touch()

    watcher = threading.Thread(target=look)
    watcher.start()
    trained.run(f"report={told}", f"wait={released}", MODEL)
    watcher.join()
    row = rows[-1]
    assert (row["status"], row["progress"], row["total_steps"], row["loss"]) == ("running", 25, 120, 0.25)
    assert row["started_at"]
    assert app.row(job.id)["progress"] == 100


def test_the_last_progress_of_a_short_training_is_told(trained, app, job, monkeypatch):
    monkeypatch.setattr("agent.jobs.heartbeat.INTERVAL_S", 3600.0)
    told = json.dumps({"step": 120, "max_steps": 120, "metrics": {"loss": 0.5}, "ended": True})
    trained.run(f"report={told}", MODEL)
    assert (app.row(job.id)["current_step"], app.row(job.id)["loss"]) == (120, 0.5)


def test_a_complete_checkpoint_is_noted_once(trained, job):
    trained.run("saved=/o/checkpoint-1", "saved=/o/checkpoint-2", "saved=/o/checkpoint-2", MODEL)
    trail = trained.pod.state_dir / job.id / "training" / "audit.jsonl"
    told = [json.loads(line) for line in trail.read_text().splitlines()]
    assert [one["path"] for one in told if one["event"] == "checkpoint_saved"] == [
        "/o/checkpoint-1", "/o/checkpoint-2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("deeds", "code", "said"),
    [
        (["say=boom", "exit=3"], 3, "exit code 3"),
        ([f"kill={signal.SIGKILL.value}"], 137, "probably because the machine ran out of memory"),
        (["say=torch.OutOfMemoryError: CUDA out of memory.", "exit=1"], 1, "the GPU ran out of memory"),
        (["say=OSError: [Errno 28] No space left on device", "exit=1"], 1, "the disk is full"),
    ],
)
def test_a_training_that_fails_is_told_and_nothing_is_published(trained, hub, app, job, deeds, code, said):
    with pytest.raises(TrainingFailedError) as caught:
        trained.run(MODEL, *deeds)
    row = app.row(job.id)
    assert (row["status"], row["failure_stage"]) == ("failed", "training")
    assert said in caught.value.message
    assert said in row["error_message"]
    assert "boom" in row["error_message"] or deeds[0] != "say=boom"
    assert trained.outcome.child_exit == code
    assert not hub.requests


def test_the_command_to_run_next_can_be_pasted_into_a_shell(pod, tmp_path):
    command = ["run", "--", "bash", "-c", f"echo 'a b' {TOKEN}; exit 3"]
    process = pod.command(tmp_path / "out", *command, AGENT_LOG_FORMAT="console")
    _, err = process.communicate(timeout=60)
    [line] = [line for line in err.splitlines() if line.startswith(" next: ")]
    said = [word.replace(TOKEN, "[hidden]") for word in command]
    assert shlex.split(line.removeprefix(" next: ")) == ["training-agent", *said]


def test_a_command_that_is_not_there_is_a_failed_training(trained, app, job):
    with pytest.raises(TrainingFailedError) as caught:
        trained.run(command=["no-such-trainer", "--lr", "1"])
    assert "the command cannot be run" in caught.value.message
    assert trained.outcome.child_exit == 127
    assert "no-such-trainer: No such file or directory" in app.row(job.id)["error_message"]


def test_the_message_of_a_failure_holds_the_last_fifty_lines_without_secrets(trained, app, job):
    says = [f"say=line {number}" for number in range(60)]
    with pytest.raises(TrainingFailedError):
        trained.run(*says, f"say=logged in with {TOKEN} and {job.token}", "exit=1")
    message = app.row(job.id)["error_message"]
    assert "line 11\n" in message
    assert "line 10\n" not in message
    assert "logged in with [hidden] and [hidden]" in message
    assert "logged in with [hidden] and [hidden]" in trained.log()
    assert TOKEN in trained.printed.read_text()  # passed through untouched


def test_a_failure_is_recorded_by_the_next_run_if_nobody_listened(trained, app, job, pod):
    app.rest.faults.add(down := Fault("status", match="PATCH .*", status=503, nth=set(range(1, 100_000))))
    with pytest.raises(TrainingFailedError):
        trained.run("exit=1", AGENT_STALL_S="0.5")
    assert down.fired
    assert app.row(job.id)["status"] == "running"
    app.rest.faults.clear()
    with pytest.raises(ArtifactError):
        pod.finalize(trained.folder, **app.environ(job))
    assert (app.row(job.id)["status"], app.row(job.id)["failure_stage"]) == ("failed", "training")


def test_what_a_failed_training_left_is_published_if_asked_for_and_its_job_failed(
    trained, hub, app, job, tmp_path
):
    (tmp_path / "left").mkdir()  # at step 2 of 4
    shutil.copytree(FIXTURES / "dpo_lora" / "checkpoint-2", tmp_path / "left" / "checkpoint-2")
    with pytest.raises(TrainingFailedError):
        trained.run(f"save={tmp_path / 'left'}", "exit=1", AGENT_PUBLISH_ON_FAILURE="checkpoint")
    row = app.row(job.id)
    assert (row["status"], row["failure_stage"], row["model_url"]) == ("failed", "training", None)
    assert f"{hub.endpoint}/ada/model" in row["error_message"]
    assert trained.outcome.published
    assert hub.read("ada/model", "adapter_model.safetensors")


def test_a_failed_training_with_nothing_to_publish_says_why_it_failed(trained, hub, app, job):
    with pytest.raises(TrainingFailedError):
        trained.run("say=boom", "exit=1", AGENT_PUBLISH_ON_FAILURE="checkpoint")
    assert "boom" in app.row(job.id)["error_message"]
    assert not trained.outcome.published
    assert not hub.requests


@pytest.mark.parametrize("manner", ["gentle", "deaf"])
def test_a_cancel_stops_the_training_and_nothing_is_published(
    trained, hub, app, job, manner, tmp_path, monkeypatch
):
    if manner == "deaf":
        monkeypatch.setattr("agent.pod.child.GRACE_S", 0.2)

    def cancel():
        while not any("daemon" in line for line in trained.diary):
            pass
        app.cancel(job.id)

    watcher = threading.Thread(target=cancel)
    watcher.start()
    with pytest.raises(JobRefusedError):
        trained.run(MODEL, manner, f"daemon={tmp_path / 'never'}", f"wait={tmp_path / 'never'}")
    watcher.join()
    assert ("gentle" in trained.diary) == (manner == "gentle")
    assert app.row(job.id)["status"] == "cancelled"
    assert not hub.requests
    [daemon] = re.findall(r"daemon (\d+)", "\n".join(trained.diary))
    assert not process_mark(int(daemon))


@pytest.mark.parametrize("status", ["cancelled", "failed"])
def test_a_job_that_is_over_is_not_trained(trained, app, job, status):
    app.change(job.id, status=status)
    with pytest.raises(JobRefusedError):
        trained.run(MODEL)
    assert trained.diary == []
    assert app.row(job.id)["status"] == status


def test_a_completed_job_is_not_trained_again(trained, app, job):
    trained.run(MODEL)
    outcome = trained.run(MODEL)
    assert trained.diary == ["start", "end"]
    assert (outcome.result, outcome.note) == (
        "completed",
        "the job was completed already; nothing was trained",
    )


def test_what_could_not_be_published_is_published_by_the_next_run_without_training(trained, hub, app, job):
    """The token was revoked meanwhile; somebody set another."""
    refused = hub.faults.add(Fault("status", status=401))
    with pytest.raises(HubAuthError):
        trained.run(MODEL)
    assert refused.fired
    assert (app.row(job.id)["status"], app.row(job.id)["failure_stage"]) == ("failed", "publish")
    hub.faults.clear()
    outcome = trained.run(MODEL)
    assert (outcome.result, outcome.published) == ("completed", True)
    assert trained.diary == ["start", "end"]
    assert app.row(job.id)["status"] == "completed"


def test_after_a_training_that_left_no_model_somebody_trains_again(pod, tmp_path):
    """Nobody restarts anything here: whoever runs it again has mended the script."""
    trained = Trained(pod, tmp_path, {})
    with pytest.raises(ArtifactError):
        trained.run("say=saved nowhere")
    outcome = trained.run(MODEL)
    assert outcome.result == "completed"
    assert trained.diary == ["start", "end"] * 2


def test_a_repo_that_was_made_ahead_stands_in_the_trail_once(trained, hub, app, job, monkeypatch):
    """However often a run goes on with what the training left."""
    monkeypatch.setattr("agent.run.made_repo", lambda _config: "ada/model")
    refused = hub.faults.add(Fault("status", status=401))
    with pytest.raises(HubAuthError):
        trained.run(MODEL)
    assert refused.fired
    hub.faults.clear()
    hub.create_repo("ada/model", private=True)
    assert trained.run(MODEL).published
    [trail] = [path for path in trained.pod.state_dir.rglob("audit.jsonl") if path.parent.name == str(job.id)]
    events = [json.loads(line)["event"] for line in trail.read_text().splitlines() if line]
    assert events.count("repo_created") == 1


def test_another_command_is_another_training_even_if_the_last_one_was_not_published(pod, hub, tmp_path):
    trained = Trained(pod, tmp_path, {})
    refused = hub.faults.add(Fault("status", status=401))
    with pytest.raises(HubAuthError):
        trained.run(MODEL)
    assert refused.fired
    hub.faults.clear()
    assert trained.run("say=with another learning rate", MODEL).result == "completed"
    assert trained.diary == ["start", "end"] * 2


def test_a_lost_job_is_trained_by_its_next_pod(trained, app, job):
    app.change(job.id, status="failed", failure_stage="lost")
    trained.run(MODEL)
    assert app.row(job.id)["status"] == "completed"


def test_a_row_that_cannot_be_seen_costs_no_training(trained, app, hub):
    trained.environ["JOB_TOKEN"] = "the-token-of-somebody-else-is-32-characters-long"
    with pytest.raises(JobRefusedError):
        trained.run(MODEL)
    assert trained.diary == ["start", "end"]
    assert trained.outcome.published


def test_the_hub_is_tried_until_it_answers_while_the_row_stays_warm(trained, hub, app, job):
    down = hub.faults.add(Fault("status", match="GET /api/models", status=503, times=12))
    outcome = trained.run(MODEL, AGENT_STALL_S="1")
    assert down.fired == 12
    assert outcome.result == "completed"
    assert trained.diary == ["start", "end"]
    assert app.row(job.id)["status"] == "completed"


def test_a_hub_that_never_answers_ends_with_75_and_the_row_says_where_the_model_is(
    trained, hub, app, job, pod
):
    hub.faults.add(down := Fault("status", status=503))
    with pytest.raises(HubUnreachableError):
        trained.run(MODEL, AGENT_STALL_S="0.5", AGENT_GIVE_UP_S="1.5")
    assert down.fired
    row = app.row(job.id)
    assert (row["status"], row["failure_stage"]) == ("failed", "publish")
    assert str(trained.folder) in row["error_message"]
    hub.faults.clear()
    pod.finalize(trained.folder, **app.environ(job))
    assert app.row(job.id)["status"] == "completed"


def test_a_database_that_comes_back_is_told(trained, hub, app, job):
    lost = app.rest.faults.add(Fault("status", match="PATCH", status=503, nth=set(range(2, 12))))
    outcome = trained.run(MODEL, AGENT_STALL_S="1")
    assert lost.fired
    assert outcome.result == "completed"
    assert app.row(job.id)["status"] == "completed"
    assert len([one for one in hub.requests if "/commit/" in one.path]) == 1


def test_a_database_that_never_comes_back_ends_with_76_and_the_model_is_published(trained, app):
    app.rest.faults.add(down := Fault("status", status=503))
    with pytest.raises(JobUnreachableError):
        trained.run(MODEL, AGENT_STALL_S="0.5", AGENT_GIVE_UP_S="1")
    assert down.fired
    assert trained.outcome.published
    [journal] = trained.pod.state_dir.glob("*/journal.json")
    assert json.loads(journal.read_text())["outbox"]["letter"]["kind"] == "complete"


def test_a_cancel_while_the_hub_is_down_is_heard(trained, hub, app, job):
    def cancel(_=None):
        while not hub.requests:
            pass
        app.cancel(job.id)

    hub.faults.add(down := Fault("status", status=503))
    watcher = threading.Thread(target=cancel)
    watcher.start()
    with pytest.raises(JobRefusedError):
        trained.run(MODEL, AGENT_STALL_S="0.3")
    watcher.join()
    assert down.fired
    assert app.row(job.id)["status"] == "cancelled"


def test_the_training_gets_the_tokens_of_its_user_and_none_of_the_keys_of_the_platform(trained):
    withheld = {
        "SUPABASE_SERVICE_ROLE_KEY": "service-key-1234567", "GITHUB_TOKEN": "github-token-1234567",
        "ALERT_API_URL": "https://app.example/alerts", "INTERNAL_API_KEY": "internal-key-1234567",
        "RUNPOD_API_KEY": "runpod-key-1234567", "RUNPOD_TERMINATE_API_KEY": "runpod-key-7654321",
    }  # fmt: skip
    asked = [f"env={name}" for name in (*withheld, "HF_TOKEN", "JOB_TOKEN")]
    trained.run(*asked, MODEL, **withheld)
    told = dict(line.split("=", 1) for line in trained.diary if "=" in line)
    assert {told.pop(name) for name in withheld} == {"None"}
    assert told == {"HF_TOKEN": TOKEN, "JOB_TOKEN": trained.environ["JOB_TOKEN"]}


def test_what_the_training_gets_can_be_chosen(trained):
    trained.run(
        "env=GITHUB_TOKEN", "env=HF_TOKEN", MODEL,
        GITHUB_TOKEN="github-token-1234567", AGENT_CHILD_ENV="HF_TOKEN, WANDB_API_KEY",
    )  # fmt: skip
    assert trained.diary[1:3] == ["GITHUB_TOKEN=github-token-1234567", "HF_TOKEN=None"]


@pytest.mark.parametrize("variable", ["RANK", "NODE_RANK"])
def test_another_node_trains_and_nothing_else(trained, hub, app, job, variable):
    outcome = trained.run(MODEL, **{variable: "1"})
    assert trained.diary == ["start", "end"]
    assert (outcome.result, outcome.published) == ("skipped", False)
    assert f"{variable} is 1" in outcome.note
    assert not hub.requests
    assert not app.rest.requests


def test_another_node_that_fails_says_so_and_leaves_the_row_alone(trained, app, job):
    with pytest.raises(TrainingFailedError):
        trained.run("exit=4", NODE_RANK="1")
    assert trained.outcome.child_exit == 4
    assert not app.rest.requests


def test_finalize_in_another_rank_publishes_nothing(pod, hub, tmp_path):
    outcome = pod.finalize(tmp_path / "nothing", RANK="3")
    assert (outcome.result, outcome.note) == (
        "skipped", "RANK is 3: only the main process of the main node publishes",
    )  # fmt: skip
    assert not hub.requests


def test_without_a_row_the_run_itself_knows_when_the_training_began(pod, tmp_path):
    trained = Trained(pod, tmp_path, {})
    put_old_weights(trained.folder)
    with pytest.raises(ArtifactError, match="before the training began"):
        trained.run()


def put_old_weights(folder):
    folder.mkdir()
    for path in (FIXTURES / "sft_lora").iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
            os.utime(folder / path.name, (1.7e9, 1.7e9))


def test_weights_from_before_the_training_are_not_its_result(trained, app, job):
    put_old_weights(trained.folder)
    with pytest.raises(ArtifactError) as caught:
        trained.run()
    assert "before the training began" in caught.value.message
    assert (app.row(job.id)["status"], app.row(job.id)["failure_stage"]) == ("failed", "publish")


def test_what_the_training_wrote_of_itself_is_known_afterwards(trained, tmp_path, monkeypatch, hub):
    """The script that a platform starts brings the training's configuration along."""
    path = tmp_path / "config.json"
    monkeypatch.setattr("agent.config.DEFAULT_PATH", path)
    wanted = {"training": {"method": "dpo"}, "model": {"name": "lab/base"}, "output_dir": str(tmp_path / "o")}
    (tmp_path / "wanted.json").write_text(json.dumps(wanted))
    script = tmp_path / "train.sh"
    deeds = " ".join(trained.command(MODEL))
    script.write_text(f"cp {tmp_path}/wanted.json {path}; OUTPUT_DIR={tmp_path}/o {deeds}\n")
    hub.add_model("lab/base")
    trained.run(command=["bash", str(script)], OUTPUT_DIR="")
    assert json.loads(hub.read("ada/model", "finalize.json"))["method"] == "dpo"
    assert "lab/base" in hub.read("ada/model", "README.md").decode()


def test_a_configuration_that_the_training_broke_costs_no_model(trained, tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    monkeypatch.setattr("agent.config.DEFAULT_PATH", path)
    script = tmp_path / "train.sh"
    script.write_text(f"echo '{{' > {path}; {' '.join(trained.command(MODEL))}\n")
    assert trained.run(command=["bash", str(script)]).result == "completed"


def test_a_stop_between_two_attempts_is_noted(trained, hub, app, job, monkeypatch):
    monkeypatch.setattr("agent.run.FIRST_PAUSE_S", 60.0)
    monkeypatch.setattr("agent.run.time", Clock(lambda: signal.raise_signal(signal.SIGTERM)))
    before = signal.signal(signal.SIGTERM, _interrupt)
    hub.faults.add(down := Fault("status", status=503))
    try:
        with pytest.raises(Interrupted):
            trained.run(MODEL, AGENT_STALL_S="0.3")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert down.fired
    row = app.row(job.id)
    assert (row["status"], "finalize again" in row["result_note"]) == ("running", True)


class Clock:
    """The time of a run that is stopped as soon as it waits."""

    def __init__(self, stop):
        self._stop = stop

    def sleep(self, _):
        self._stop()

    monotonic = staticmethod(time.monotonic)


@pytest.mark.parametrize("deed", ["daemon={never}", "mute"])
def test_a_training_that_keeps_or_closes_its_output_does_not_hold_the_run(trained, deed, tmp_path):
    outcome = trained.run(deed.format(never=tmp_path / "done"), MODEL)
    assert outcome.result == "completed"
    (tmp_path / "done").touch()


def test_a_finalize_at_the_end_of_the_training_itself_is_no_second_one(trained, hub, app, job, tmp_path):
    script = tmp_path / "train.sh"
    script.write_text(
        f'{" ".join(trained.command(MODEL))} && cd "{ROOT}" && {sys.executable} -m agent finalize --json\n'
    )
    outcome = trained.run(command=["bash", str(script)])
    assert outcome.result == "completed"
    assert outcome.uploaded_bytes == 0
    assert len([one for one in hub.requests if "/commit/" in one.path]) == 1
    assert app.row(job.id)["status"] == "completed"


def test_a_stop_is_noted_and_the_next_run_trains_again(trained, app, job, tmp_path):
    def stop():
        while "ready" not in trained.printed_text:
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    watcher = threading.Thread(target=stop)
    watcher.start()
    with pytest.raises(Interrupted):
        trained.run("gentle", "say=ready", f"wait={tmp_path / 'never'}")
    watcher.join()
    row = app.row(job.id)
    assert row["status"] == "running"
    assert "SIGTERM" in row["result_note"]
    assert trained.diary == ["start", "gentle"]
    trained.run(MODEL)
    assert trained.diary == ["start", "gentle", "start", "end"]
    assert app.row(job.id)["status"] == "completed"


@pytest.mark.parametrize("end", [MODEL, "exit=1"])
def test_no_secret_of_the_pod_is_left_anywhere(end, pod, hub, app, tmp_path):
    """A training that prints all it knows; the platform's keys it does not even know."""
    job = app.add_job()
    keys = {
        "RUNPOD_API_KEY": "rpa_PlantedKeyOfThePod", "RUNPOD_TERMINATE_API_KEY": "rpa_PlantedOwnKey",
        "GITHUB_TOKEN": "PlantedGithubToken77", "INTERNAL_API_KEY": "PlantedInternalKey88",
        "WANDB_API_KEY": "PlantedKeyOfWandb99",
    }  # fmt: skip
    script = tmp_path / "train.sh"
    deeds = " ".join([sys.executable, str(TRAINER), str(tmp_path / "diary"), end])
    script.write_text(f"env; env >&2; exec {deeds}\n")
    answer = tmp_path / "answer.json"
    process = pod.command(
        tmp_path / "out", "run", "--json-file", str(answer), "--", "bash", str(script),
        **app.environ(job), **keys, AGENT_LOG_LEVEL="debug",
    )  # fmt: skip
    printed, logged = process.communicate(timeout=120)
    assert process.returncode == (17 if end == "exit=1" else 0)
    assert keys["WANDB_API_KEY"] in printed  # the user's own, passed through untouched
    ours = [line for line in logged.splitlines() if line.startswith("{")]
    kept = [
        path.read_bytes().decode("utf-8", "replace") for path in pod.state_dir.rglob("*") if path.is_file()
    ]
    row, trail = app.row(job.id), app.sql("select * from model_upload_events where job_id = %s", job.id)
    del row["job_token"]
    repo = hub.repos.get("ada/model")
    published = (
        [hub.read("ada/model", path).decode("latin-1") for path in repo.resolve("main").tree] if repo else []
    )
    everything = "\n".join([*ours, *kept, answer.read_text(), str(row), str(trail), *published])
    assert len(kept) > 3
    for secret in (TOKEN, job.token, *keys.values()):
        assert secret not in everything
    assert not [name for name in keys if name != "WANDB_API_KEY" and keys[name] in printed + logged]
