"""The command line as a pod sees it: exit codes, sentences, JSON, signals, and no secret anywhere."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from agent.sandbox.hub import Fault
from tests.conftest import TOKEN

JOB = "7d9f5f5c-1111-4a3b-9c5e-0123456789ab"


def run(pod, folder, *args, **more):
    process = pod.command(folder, *args, **more)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def answer(out):
    assert out.count("\n") == 1, "one JSON object and nothing else"
    return json.loads(out)


def test_a_publication_ends_with_exit_0_and_one_json_object(pod, hub, trained):
    code, out, err = run(pod, trained("sft_full"), JOB_ID=JOB)
    found = answer(out)
    assert code == 0, err
    assert list(found)[:11] == [
        "result", "published", "model_url", "repo_id", "commit", "files", "bytes", "uploaded_bytes",
        "duration_s", "job", "error",
    ]  # fmt: skip
    assert (found["result"], found["published"], found["error"]) == ("completed", True, None)
    assert found["job"] == {"id": JOB, "status": "completed"}
    assert found["commit"] == hub.repo("ada/model").head("main")
    assert (found["files"], found["uploaded_bytes"] > 100_000) == (8, True)
    for line in err.splitlines():
        assert json.loads(line)["event"]


BAD = {
    "missing folder": (11, "OUTPUT_DIR", {"OUTPUT_DIR": "/nowhere/at/all"}),
    "read-only token": (12, "read-only", {"HF_TOKEN": "hf_ReadOnlyTokenOfAda01234"}),
    "unknown token": (12, "HF_TOKEN", {"HF_TOKEN": "hf_NobodyKnowsThisToken12"}),
    "foreign namespace": (12, "ada, lab", {"HF_REPO_NAME": "grace/model"}),
    "invalid repo name": (10, "HF_REPO_NAME", {"HF_REPO_NAME": "ada/bad--name"}),
    "no name at all": (10, "HF_REPO_NAME", {"HF_REPO_NAME": ""}),
    "public, private asked": (13, "HF_REPO_PRIVATE", {"HF_REPO_PRIVATE": "true", "HF_REPO_NAME": "ada/open"}),
    "job id no uuid": (10, "JOB_ID", {"JOB_ID": "42"}),
    "a gate that is no condition": (10, "AGENT_PUBLISH_IF", {"AGENT_PUBLISH_IF": "eval_loss < good"}),
    "training config missing": (10, "TRAINING_CONFIG", {"TRAINING_CONFIG": "/nowhere/config.json"}),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_ends_in_one_sentence_with_a_cure_and_nothing_half_done(name, pod, hub, trained):
    exit_code, cure, more = BAD[name]
    hub.create_repo("ada/open", private=False)
    code, out, err = run(pod, trained("sft_full"), **more)
    found = answer(out)
    assert code == exit_code, err
    assert found["published"] is False
    assert found["error"]["code"] in {"config", "artifact", "hub-auth", "hub-refused"}
    assert cure in found["error"]["message"] + found["error"]["hint"]
    assert found["error"]["message"].startswith("Could not") or "\n" not in found["error"]["message"]
    assert "Traceback" not in out + err
    assert not [r for r in hub.requests if r.kind in {"cas", "lfs"} or "/commit/" in r.path]
    assert [repo for repo in hub.repos if repo != "ada/open"] == []


def test_an_error_in_the_configuration_is_told_in_the_format_that_was_asked_for(pod, tmp_path):
    _, _, err = run(pod, tmp_path, "finalize", JOB_ID="42", AGENT_LOG_FORMAT="console")
    assert err.startswith("error: JOB_ID: ")
    _, _, err = run(pod, tmp_path, "finalize", JOB_ID="42", AGENT_LOG_FORMAT="json")
    assert json.loads(err)["code"] == "config"


def test_an_empty_folder_and_a_folder_of_checkpoints_say_where_to_look(pod, hub, trained, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert run(pod, empty)[0] == 11
    only_checkpoints = trained("sft_full")
    (only_checkpoints / "model.safetensors").unlink()
    for state in only_checkpoints.glob("checkpoint-*/trainer_state.json"):
        state.unlink()
    code, out, _ = run(pod, only_checkpoints)
    assert code == 11
    assert (
        "checkpoint-4/ is not complete: it has no readable trainer_state.json"
        in answer(out)["error"]["message"]
    )
    assert "checkpoint-2, checkpoint-4" in answer(out)["error"]["hint"]
    assert hub.requests == []


def test_offline_variables_are_cleared_with_a_warning(pod, hub, trained):
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_ENABLE_HF_TRANSFER": "1"}
    code, _, err = run(pod, trained("sft_full"), **offline)
    assert code == 0
    for name in offline:
        assert f"{name} is set; cleared it" in err


def test_an_unknown_agent_variable_is_named_with_its_nearest_match(pod, hub, trained):
    code, _, err = run(pod, trained("sft_full"), AGENT_STAL_S="5")
    assert code == 0
    assert "AGENT_STAL_S is not a variable of this agent; did you mean AGENT_STALL_S?" in err


def test_disabled_xet_is_respected(pod, hub, trained):
    assert run(pod, trained("sft_full"), HF_HUB_DISABLE_XET="1")[0] == 0
    assert not [r for r in hub.requests if r.kind == "cas"]


def test_a_dry_run_shows_everything_and_changes_nothing(pod, hub, trained):
    folder = trained("sft_lora")
    code, out, _ = run(pod, folder, "finalize", "--dry-run")
    assert code == 0
    assert "+ adapter_model.safetensors  5,120 bytes" in out
    assert "training_args.bin  stays here: training state" in out
    assert hub.repos == {}
    assert {request.method for request in hub.requests} == {"GET"}
    pod.finalize(trained("sft_full"))
    code, out, _ = run(pod, folder, "finalize", "--dry-run", "--json")
    assert answer(out)["plan"]["delete"] == ["config.json", "generation_config.json", "model.safetensors"]


def test_flags_beat_variables(pod, hub, trained):
    code, out, _ = run(pod, trained("base"), "finalize", "--json", "--repo", "lab/other", "--revision", "dev")
    assert code == 0
    assert answer(out)["model_url"] == f"{hub.endpoint}/lab/other/tree/dev"


def test_a_person_reads_the_address_on_stdout_and_the_rest_on_stderr(pod, hub, trained):
    code, out, err = run(pod, trained("sft_full"), "finalize", AGENT_LOG_FORMAT="console")
    assert code == 0
    assert out.startswith(f"{hub.endpoint}/ada/model  (8 files, proven at ")
    assert "completed" in err
    assert "{" not in err


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_in_the_middle_of_an_upload_ends_in_time_and_the_next_run_continues(
    signum, code, pod, hub, trained
):
    arrived = hub.faults.add(Fault("hang", match="POST /v1/xorbs"))
    folder = trained("sft_full")
    process = pod.command(folder, JOB_ID=JOB)
    while not arrived.fired:
        assert process.poll() is None
    process.send_signal(signum)
    out, err = process.communicate(timeout=20)
    assert process.returncode == code, err
    assert (answer(out)["result"], answer(out)["published"]) == ("pending", False)
    hub.faults.clear()
    assert run(pod, folder, JOB_ID=JOB)[0] == 0


@pytest.mark.parametrize("level", ["info", "debug"])
@pytest.mark.parametrize("style", ["json", "console"])
def test_the_token_is_nowhere_but_in_the_authorization_header(style, level, pod, hub, trained):
    hub.faults.add(Fault("status", match="POST /api/models", nth=0, body=f'{{"error": "bad token {TOKEN}"}}'))
    more = {"AGENT_LOG_LEVEL": level, "AGENT_LOG_FORMAT": style, "JOB_ID": JOB}
    process = pod.command(trained("sft_lora"), **more)
    command_line = Path(f"/proc/{process.pid}/cmdline").read_text()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    kept = "".join(p.read_text(errors="replace") for p in pod.state_dir.rglob("*") if p.is_file())
    published = b"".join(
        hub.read("ada/model", path) for path in hub.repo("ada/model").commits("main")[0].tree
    )
    for where in (out, err, command_line, kept, published.decode(errors="replace")):
        assert TOKEN not in where
    assert "hf_THISISASECRET" not in published.decode(errors="replace")
    for request in hub.requests:
        assert TOKEN not in request.path + request.query
        if request.kind == "cas":
            assert TOKEN not in str(request.headers)


def test_help_names_every_command_and_the_exit_codes(pod, tmp_path):
    code, out, _ = run(pod, tmp_path, "--help")
    assert code == 0
    assert "finalize" in out
    assert "demo" in out
    assert "75 hub-unreachable" in run(pod, tmp_path, "finalize", "--help")[1]
    assert run(pod, tmp_path, "finalise")[0] == 2


@pytest.mark.parametrize("cache", ["", "/proc/nope/xet"])
def test_a_state_folder_that_cannot_be_written_is_said_and_the_model_is_published(cache, pod, hub, trained):
    """Whatever libraries print then, stdout holds one JSON object."""
    code, out, _ = run(pod, trained("sft_full"), AGENT_STATE_DIR="/proc/nope", HF_XET_CACHE=cache)
    assert code == 15
    assert answer(out)["published"] is True
    assert "AGENT_STATE_DIR" in answer(out)["error"]["hint"]


def test_a_bug_is_reported_as_one(pod, hub, trained, tmp_path):
    """Nothing a user does leads here; the report keeps the trace, the terminal keeps its calm."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(
        "import sys, agent.artifact\n"
        "def broken(*a): raise ZeroDivisionError('planted " + TOKEN + "')\n"
        "sys.modules['agent.artifact.inventory'].choose = broken\n"
    )
    from tests.conftest import ROOT

    code, out, err = run(pod, trained("base"), PYTHONPATH=f"{broken}:{ROOT}")
    assert code == 70
    assert answer(out)["error"]["code"] == "bug"
    assert "Traceback" not in err
    report = (pod.state_dir / "bug-report.txt").read_text()
    assert "ZeroDivisionError" in report
    assert TOKEN not in report + out + err


def test_a_servers_words_are_no_command_to_whoever_reads_our_lines(hub, pod, trained):
    """GitHub's runner obeys a line that begins with two colons, however far it is indented."""
    said = '{"error": "no\\n  ::stop-commands::token\\r::set-env name=PATH::/"}'
    fault = hub.faults.add(Fault("status", match="GET /api/models", status=400, body=said))
    process = pod.command(trained("sft_lora"), "finalize", AGENT_LOG_FORMAT="console")
    _, err = process.communicate(timeout=60)
    assert (process.returncode, fault.fired > 0, "stop-commands" in err) == (13, True, True)
    assert not [line for line in err.splitlines() if line.strip().startswith("::")]
