"""README, help and code say the same: tables are compared both ways, commands are run."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent import config, errors

ROOT = Path(__file__).parents[2]
# A training whose model is there already.
TRAIN = (
    "import os, pathlib\nfor path in pathlib.Path(os.environ['OUTPUT_DIR']).iterdir():\n    path.touch()\n"
)
README = (ROOT / "README.md").read_text(encoding="utf-8")


def rows(heading):
    section = README.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_environment_table_lists_what_the_agent_reads_and_nothing_else():
    listed = {tuple(re.findall(r"`(\w+)`", row[0])) for row in rows("Environment")}
    assert listed == set(config.variables().values()) | {("TRAINING_CONFIG",)}


def test_the_exit_codes_are_those_of_the_error_tree():
    listed = {(int(row[0]), row[1], row[3] == "yes") for row in rows("Exit codes")}
    tree = {(e.exit_code, e.code, e.retryable) for e in errors.AgentError.__subclasses__()}
    others = {(0, "done", False), (errors.EXIT_USAGE, "usage", False), (errors.EXIT_BUG, "bug", False)}
    interrupted = {(errors.Interrupted(signum).exit_code, "interrupted", True) for signum in (2, 15)}
    assert listed == tree | others | interrupted


def test_help_names_every_exit_code_of_the_table():
    shown = subprocess.run(
        [sys.executable, "-m", "agent", "finalize", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for code, name, *_ in rows("Exit codes"):
        assert code in shown
        assert name in shown or name in {"usage", "done", "bug", "interrupted"}


def test_every_flag_names_its_variable_and_the_variable_is_read():
    shown = subprocess.run(
        [sys.executable, "-m", "agent", "finalize", "--help"], capture_output=True, text=True, check=True
    ).stdout
    named = set(re.findall(r"\[([A-Z_]+)", shown)) - {"OPTIONS"}
    assert named
    assert named <= {name for names in config.variables().values() for name in names}


def test_the_two_commands_are_the_ones_that_guard_main():
    first = re.search(r"```sh\n(.*?)```", README, re.DOTALL)[1]
    assert [line.split("#")[0].strip() for line in first.splitlines()] == ["./dev demo", "./dev test"]
    assert "\n./dev test\n" in (ROOT / ".ci" / "run").read_text()


def commands():
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL):
        for line in block.splitlines():
            if "python -m agent" in line:
                yield line


@pytest.mark.parametrize("line", list(commands()))
def test_every_command_of_the_readme_works(line, hub, app, pod, trained, monkeypatch, tmp_path):
    before, after = line.split("python -m agent ")
    trained("sft_lora", "run-7")
    (tmp_path / "outputs" / "onnx").mkdir()
    (tmp_path / "outputs" / "onnx" / "model.onnx").write_bytes(b"an export")
    (tmp_path / "eval.json").write_text('{"accuracy": 0.5}')
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "answer.txt").write_text("The future.")
    (tmp_path / "train.py").write_text(TRAIN)
    monkeypatch.chdir(tmp_path)
    hub.add_model("meta-llama/Llama-3.1-8B")
    if after.startswith(("verify", "rollback")):  # what is published is the newer of two models
        pod.finalize(trained("orpo_lora"))
        pod.finalize(tmp_path / "outputs" / "run-7")
    more = app.environ(app.add_job()) | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    more |= dict(pair.split("=") for pair in shlex.split(before))
    process = pod.command(tmp_path / "outputs" / "run-7", *shlex.split(after, comments=True), **more)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err


def test_history_prints_what_the_readme_shows(hub, app, pod, trained):
    def told(text):
        return [line.split()[2:4] for line in text.strip().splitlines()]

    [shown] = re.findall(r"```text\n([^`]*pod  started [^`]*)```", README)
    folder, environ = trained("sft_lora"), app.environ(app.add_job())
    for command in ("finalize", "history"):
        process = pod.command(folder, command, **environ)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    assert told(out) == told(shown)


def test_preflight_looks_at_what_the_readme_shows(hub, app, pod, tmp_path):
    """Of a pod without RunPod's key, so that nobody else is asked; the name of each check."""

    def names(text):
        cells = [line.split("│") for line in text.splitlines() if line.startswith("│")]
        return [cell[2].strip() for cell in cells if cell[1].strip()]

    hub.create_repo("ada/model", private=False)
    environ = app.environ(app.add_job(status="pending"))
    environ |= {"HF_REPO_PRIVATE": "true", "RUNPOD_POD_ID": "k3x9w2"}
    process = pod.command(tmp_path / "fine_tuned_model", "preflight", **environ)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 13, err
    assert names(out) == names(re.search(r"```text\n([^`]*│ token rights .*?)```", README, re.DOTALL)[1])


def test_check_prints_what_the_readme_shows(trained, tmp_path):
    folder = trained("sharded", "run-8")
    os.truncate(folder / "model-00003-of-00004.safetensors", 20_000)
    key = "3f7a9c1e5b2d8f604a1c" + "9e7b3d5f8a2c6e0b4d91"
    (folder / "train.py").write_text(f'import os\nos.environ["WANDB_API_KEY"] = "{key}"\n')
    checked = subprocess.run(
        [sys.executable, "-m", "agent", "check", "outputs/run-8"],
        cwd=tmp_path, env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 11, checked.stderr
    shown = re.search(r"```text\n(outputs/run-8.*?)```", README, re.DOTALL)[1]
    assert [line.rstrip() for line in checked.stdout.splitlines()] == shown.splitlines()


def test_the_demo_prints_what_the_readme_shows():
    demo = subprocess.run(
        [sys.executable, "-m", "agent", "demo"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True,
    )  # fmt: skip

    def shape(text):
        """The lines without what differs from run to run: times, ports, hashes, ids, folders."""
        text = re.sub(r"/tmp/\S+", "/tmp/", text)
        text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "0", text)
        text = re.sub(r"\b[0-9a-f]{12}\b|\b[0-9a-f]{40}\b|[0-9]+", "0", text)
        return {re.sub(r"[ ━─]+", " ", line).strip() for line in text.splitlines() if line.strip()}

    shown = re.search(r"```text\n(An embedded.*?)```", README, re.DOTALL)[1]
    assert shape(shown) <= shape(demo.stdout)


def test_a_demo_of_a_broken_folder_does_not_claim_success(tmp_path):
    demo = subprocess.run(
        [sys.executable, "-m", "agent", "demo", "--json", "--output-dir", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert demo.returncode == 11
    assert "it says completed" in demo.stdout


def _descendants(pid):
    """The process ids below `pid`, each with its command line."""
    found = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(OSError):
            found |= {int(child): Path(f"/proc/{child}/cmdline").read_text()} | _descendants(child)
    return found


@pytest.mark.parametrize("moment", ["postgres", "finalize"])
def test_a_demo_that_is_stopped_leaves_nothing_running(moment, tmp_path):
    """Stopped by Ctrl-C as soon as PostgreSQL is being started, or in the middle of finalize."""
    demo = subprocess.Popen(
        [sys.executable, "-m", "agent", "demo"], cwd=ROOT, env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    below = {}
    while not any(moment in command for command in below.values()):
        assert demo.poll() is None
        below |= _descendants(demo.pid)
    demo.send_signal(signal.SIGINT)
    assert demo.wait(30) == 130
    deadline = time.monotonic() + 10  # a server hit while it was being started is ended by its watcher
    while running := [pid for pid in below if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, running
    assert list(tmp_path.iterdir()) == []


SWEEPS = re.findall(r"^\./dev test (-m sweep \S+)", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("arguments", SWEEPS)
def test_a_documented_sweep_selects_what_the_default_run_leaves_out(arguments):
    def collected(*chosen):
        command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:xdist", *chosen]
        out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
        return set(re.findall(r"^tests/\S+::.*$", out, re.MULTILINE))

    room = arguments.split()[-1]
    sweep = collected(*arguments.split())
    assert sweep
    assert not sweep & collected(room)


def test_documents_name_no_file_that_is_not_there():
    for name in ("README.md", "ARCHITECTURE.md"):
        for path in re.findall(r"`((?:tests|bench|hub|requirements)/[\w/.]+)", (ROOT / name).read_text()):
            relative = path.rstrip(".")
            assert (ROOT / relative).exists() or (ROOT / "agent" / relative).exists(), path


def test_verify_prints_what_the_readme_shows(hub, pod, trained):
    """Somebody removed a shard and left an old file beside the model; commits have other names here."""

    def shape(text):
        return [re.sub(r"[0-9a-f]{12,40}", "0", line).rstrip() for line in text.strip().splitlines()]

    [shown] = re.findall(r"```text\n(ada/model  main at [^`]*`training-agent.*?)```", README, re.DOTALL)
    pod.finalize(trained("sharded"))
    hub.commit("ada/model", {"model-00003-of-00004.safetensors": None, "pytorch_model.bin": b"PK\3\4old"})
    process = pod.command(pod.state_dir, "verify")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 14, err
    assert shape(out) == shape(shown)


def test_status_shows_the_lines_that_the_readme_shows(hub, app, pod, trained):
    """Of a finalize that is over, without what only a running one has."""
    [shown] = re.findall(r"```text\n(3f2b8c1e[^`]*at work [^`]*)```", README)
    labels = [line.split()[0] for line in shown.splitlines() if re.match(r"  \w", line)]
    events = re.findall(r"^    \S+ \S+  (\w+)", shown, re.MULTILINE)
    folder, environ = trained("sft_lora"), app.environ(app.add_job())
    for command in ("finalize", "status"):
        process = pod.command(folder, command, **environ)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    found = [line.split()[0] for line in out.splitlines() if re.match(r"  \w", line)]
    assert set(labels) <= {*found, "row"}
    assert re.findall(r"^    \S+ \S+  (\w+)", out, re.MULTILINE)[: len(events)] == events
