"""Whole finalize commands, one after the other, and who heard of them; no secret in anything they heard."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT, TOKEN
from tests.notified import GITHUB_TOKEN, JOB, REPO

pytest_plugins = ("tests.receiving",)
FAILS, WORKS = {"HF_TOKEN": "hf_ReadOnlyTokenOfAda01234"}, {}
UNKNOWN = {"HF_TOKEN": "hf_TokenOfNobodyAtAll0123456"}
# Ten runs of one job, and what each lets people hear: chat messages, mails, comments, the issue's state.
STORY = [
    (FAILS, 12, 1, 1, 0, "open"),
    (FAILS, 12, 1, 1, 1, "open"),
    ({"OUTPUT_DIR": "/nonexistent"}, 11, 2, 2, 2, "open"),
    (FAILS, 12, 2, 2, 3, "open"),
    (WORKS, 0, 3, 3, 4, "closed"),
    (WORKS, 0, 3, 3, 4, "closed"),
    (UNKNOWN, 12, 4, 4, 5, "open"),
    ({"HF_REPO_PRIVATE": "soon"}, 10, 5, 5, 6, "open"),
    (WORKS, 0, 5, 5, 7, "closed"),
    (WORKS, 0, 5, 5, 7, "closed"),
]


@pytest.fixture
def environ(github, hooks, mailbox):
    return {
        "JOB_ID": JOB, "AGENT_NOTIFY_URLS": f"{hooks.mattermost},{mailbox.address}",
        "GITHUB_TOKEN": GITHUB_TOKEN, "GITHUB_REPOSITORY": REPO, "GITHUB_API_URL": github.endpoint,
    }  # fmt: skip


def ran(process):
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def test_ten_runs_are_told_as_they_ended(pod, trained, environ, github, hooks, mailbox):
    repo, folder = github.repositories[REPO], trained("sft_lora")
    for number, (more, exit_code, chats, mails, comments, state) in enumerate(STORY):
        code, _, err = ran(pod.command(folder, **environ | more))
        assert code == exit_code, err
        told = (len(hooks.messages), len(mailbox.mails), len(repo.comments[1]), repo.issues[0]["state"])
        assert told == (chats, mails, comments, state), f"run {number}:\n{err}"
    assert len(repo.issues) == 1
    subjects = [mail["Subject"].partition(":")[0] for mail in mailbox.mails]
    assert subjects == ["Not published", "Not published", "Published", "Not published", "Not published"]


def test_a_dry_run_and_another_rank_tell_nobody(pod, trained, environ, github, hooks, mailbox):
    folder = trained("sft_lora")
    assert ran(pod.command(folder, "finalize", "--dry-run", "--json", **environ))[0] == 0
    assert ran(pod.command(folder, **environ, RANK="1"))[0] == 0
    assert ran(pod.command(folder, **environ, TRAINING_AGENT_REPORTS="/nonexistent"))[0] == 0
    assert (hooks.messages, mailbox.mails, github.requests) == ([], [], [])


def test_a_run_whose_training_fails_is_told_with_its_log(pod, tmp_path, environ, hooks, mailbox, github):
    command = ["run", "--json-file", str(tmp_path / "answer"), "--", "sh", "-c", "echo out of luck; exit 3"]
    code, _, err = ran(pod.command(tmp_path / "out", *command, **environ))
    assert code == 17, err
    [(_, document)] = hooks.messages
    assert document["text"].startswith(f"Training failed: job {JOB}")
    assert f"On its disk: {pod.state_dir}/{JOB}/training.log" in document["text"]
    [issue] = github.repositories[REPO].issues
    assert issue["title"] == f"Training job {JOB}: training failed"
    assert len(mailbox.mails) == 1


def test_a_wrong_receiver_changes_neither_answer_nor_exit_code(pod, trained, environ, hooks, mailbox, github):
    hooks.tokens.clear()
    github.tokens.clear()
    mailbox.refuse = ["554 5.7.1 No"]
    code, out, err = ran(pod.command(trained("sft_lora"), **environ, AGENT_LOG_LEVEL="debug"))
    assert (code, json.loads(out)["result"]) == (0, "completed")
    assert err.count("not notified") == 3
    assert "Payload" not in err  # apprise's own log names it, and addresses
    assert "/hooks/" not in err
    assert "404" in err
    assert "401" in err
    assert "554" in err


PROBE = """
import sys
from agent import notify
from agent.config import load
from agent.outcome import Outcome
notify.tell(load(), Outcome("completed", published=True, model_url="https://huggingface.co/ada/model"), 0)
print([name for name in ("apprise", "httpx2", "huggingface_hub", "supabase") if name in sys.modules])
"""


def test_who_was_told_costs_no_library(environ, hooks, github, tmp_path):
    """The first run loads what it needs to tell; the second one knows that everybody was told."""
    loaded = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", PROBE],
            env={"PYTHONPATH": str(ROOT), "AGENT_STATE_DIR": str(tmp_path / "state"), **environ},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        loaded.append(done.stdout.splitlines()[-1])
    assert loaded == ["['apprise', 'httpx2']", "[]"]
    assert len(hooks.messages) == 1


def test_nobody_to_tell_costs_nothing(pod, trained):
    code, _, err = ran(pod.command(trained("sft_lora"), "finalize", "--json"))
    assert code == 0, err
    assert not list(pod.state_dir.rglob("notified"))


SECRETS = {
    "HF_TOKEN": "hf_AnotherPlantedTokenOfAda0001",
    "JOB_TOKEN": "planted-job-token-8f7e6d",
    "SUPABASE_SERVICE_ROLE_KEY": "sb_secret_planted_service_key_1",
    "INTERNAL_API_KEY": "planted internal key".replace(" ", "-"),
    "RUNPOD_API_KEY": "rpa_planted_pod_key_4711",
    "WANDB_API_KEY": "planted0wandb1key2of3ada",
    "SOME_PASSWORD": "p@ss*w0rd<with>`every`|sign",
}


def test_planted_secrets_are_nowhere(pod, trained, environ, github, hooks, mailbox):
    """Neither those of the environment, nor those that stand in the words of an error."""
    said = " ".join([*SECRETS.values(), GITHUB_TOKEN, environ["AGENT_NOTIFY_URLS"]])
    folder = trained("sft_lora") / said.replace("/", "_")[:200]
    secrets = SECRETS | {"SUPABASE_URL": ""}
    process = pod.command(folder, **environ | secrets)
    listed = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    code, out, err = ran(process)
    assert code in {11, 12}, err
    repo = github.repositories[REPO]
    heard = json.dumps(
        [hooks.messages, repo.issues, repo.comments, [mail.as_string() for mail in mailbox.mails]]
    )
    heard += "".join(str(mail.get_body(("plain", "html")).get_content()) for mail in mailbox.mails)
    assert "Not published" in heard
    written = "".join(path.read_text() for path in pod.state_dir.rglob("*") if path.is_file())
    for name, secret in [
        *SECRETS.items(),
        ("GITHUB_TOKEN", GITHUB_TOKEN),
        ("webhook", "mmhook1234567890abcdefghij"),
    ]:
        for place in (heard, out, err, written, listed):
            assert secret not in place, name
            assert json.dumps(secret)[1:-1] not in place, name
    assert TOKEN not in heard
