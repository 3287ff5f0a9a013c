"""A small runner of GitHub's workflows and composite actions on this machine.

It does with environments, files and lines of output what actions/runner does (ScriptHandler,
CompositeActionHandler, FileCommandManager, ActionCommand); actions of others are stand-ins.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.docs.expressions import filled_in, holds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT = Path(__file__).parents[2]
OURS = "you/training-completion-agent@"
LONGEST_S = 120
SHELLS = {
    "bash": ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail"],
    "python": [sys.executable],
    None: ["bash", "-e"],
}
COMMAND = re.compile(r"\s*::(error|warning|notice)(?: ([^:]*))?::(.*)")


def load(path: Path) -> dict[str, Any]:
    """A workflow or an action; `on` is a word, not a truth."""
    document: dict[str, Any] = yaml.safe_load(re.sub(r"^on:", '"on":', path.read_text(), flags=re.MULTILINE))
    return document


def read_pairs(text: str) -> dict[str, str]:
    """Names and values of a file such as GITHUB_OUTPUT.

    Raises:
        ValueError: the runner would fail the step.
    """
    pairs, lines = {}, text.split("\n")
    while lines:
        line = lines.pop(0)
        equals, here = line.find("="), line.find("<<")
        if not line:
            continue
        if equals >= 0 and (here < 0 or equals < here):
            pairs[line[:equals]] = line[equals + 1 :]
        elif here > 0 and (end := line[here + 2 :]):
            if end not in lines:
                raise ValueError(f"no end of {line!r}")
            at = lines.index(end)
            pairs[line[:here]] = "\n".join(lines[:at])
            lines = lines[at + 1 :]
        else:
            raise ValueError(f"Invalid format {line!r}")
    return pairs


@dataclass(frozen=True)
class Annotation:
    """What GitHub shows beside the run."""

    level: str
    title: str
    message: str


def read_annotations(log: str) -> list[Annotation]:
    """The annotations among the lines of a step, as the runner reads them."""
    found = []
    for line in log.splitlines():
        if command := COMMAND.fullmatch(line):
            pairs = (pair.split("=", 1) for pair in (command[2] or "").split(",") if "=" in pair)
            properties = {name: _unescaped(value) for name, value in pairs}
            found.append(Annotation(command[1], properties.get("title", ""), _unescaped(command[3])))
    return found


def _unescaped(text: str) -> str:
    for code, char in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, char)
    return text


@dataclass
class Step:
    """One step that was run, or skipped."""

    name: str
    conclusion: str = "skipped"
    outputs: dict[str, str] = field(default_factory=dict)
    log: str = ""
    summary: str = ""

    @property
    def annotations(self) -> list[Annotation]:
        return read_annotations(self.log)


@dataclass
class Job:
    """How a job ended: `success`, `failure` or `skipped`."""

    conclusion: str
    steps: list[Step] = field(default_factory=list)

    def step(self, name: str) -> Step:
        """The one step whose id, name or action begins so."""
        [found] = [step for step in self.steps if step.name.startswith(name)]
        return found

    @property
    def log(self) -> str:
        return "".join(step.log for step in self.steps)


@dataclass
class Machine:
    """A machine that runs jobs, each in a workspace of its own.

    `environ` is the machine's; `actions` are stand-ins of others' actions: they get their inputs and the
    workspace, and raise if the real one would fail.
    """

    home: Path
    environ: Mapping[str, str]
    github: Mapping[str, Any]
    actions: Mapping[str, Callable[[dict[str, str], Path], None]]
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    jobs: int = 0

    def run(self, workflow: Mapping[str, Any], inputs: Mapping[str, Any] | None = None) -> Job:
        """Run the workflow's only job for the event in `github`."""
        [job] = workflow["jobs"].values()
        self.jobs += 1
        self.workspace, self.temp = self.home / f"work-{self.jobs}", self.home / f"temp-{self.jobs}"
        self.workspace.mkdir(parents=True)
        self.temp.mkdir()
        self.path: list[str] = []
        contexts = {
            "github": self.github,
            "inputs": inputs or {},
            "vars": self.variables,
            "secrets": self.secrets,
            "runner": {"temp": str(self.temp)},
        }
        if not holds(job.get("if", "true"), contexts, {"success": lambda: True}):
            return Job("skipped")
        environ = self._env(workflow.get("env"), contexts, {}) | self._env(job.get("env"), contexts, {})
        done = Job("success")
        failed = self._steps(job["steps"], contexts, environ, done.steps)
        return Job("failure" if failed else "success", done.steps)

    def _steps(
        self, steps: list[dict[str, Any]], contexts: dict[str, Any], environ: dict[str, str], told: list[Step]
    ) -> bool:
        failed, known = False, {}
        for number, step in enumerate(steps):
            contexts = contexts | {"steps": known, "env": environ}
            name = step.get("id") or step.get("name") or step.get("uses") or f"step {number}"
            one = Step(name)
            functions = {"success": lambda: not failed, "always": lambda: True, "failure": lambda: failed}  # noqa: B023
            if holds(step.get("if", "true"), contexts, functions):
                inner = environ | self._env(step.get("env"), contexts, environ)
                good = self._run(step, one, contexts | {"env": inner}, inner)
                one.conclusion = "success" if good else "failure"
                failed = failed or not good
            known[name] = {"outputs": one.outputs, "conclusion": one.conclusion}
            told.append(one)
        return failed

    def _run(
        self, step: dict[str, Any], one: Step, contexts: dict[str, Any], environ: dict[str, str]
    ) -> bool:
        if "run" in step:
            return self._script(step, one, contexts, environ)
        given = {name: filled_in(value, contexts) for name, value in step.get("with", {}).items()}
        if step["uses"].startswith(OURS):
            return self._composite(given, one, contexts, environ)
        try:
            self.actions[step["uses"]](given, self.workspace)
        except FileNotFoundError as error:
            one.log = f"::error::{error}\n"
            return False
        return True

    def _composite(
        self, given: dict[str, str], one: Step, contexts: dict[str, Any], environ: dict[str, str]
    ) -> bool:
        action = load(ROOT / "action.yml")
        assert given.keys() <= action["inputs"].keys(), "GitHub warns of unexpected inputs"
        inputs = {name: told["default"] for name, told in action["inputs"].items()} | given
        inside = {name: contexts[name] for name in ("github", "runner")} | {"inputs": inputs}
        steps: list[Step] = []
        failed = self._steps(action["runs"]["steps"], inside, environ, steps)
        outer = inside | {"steps": {step.name: {"outputs": step.outputs} for step in steps}}
        one.outputs = {name: filled_in(told["value"], outer) for name, told in action["outputs"].items()}
        one.log = "".join(step.log for step in steps)
        one.summary = "".join(step.summary for step in steps)
        return not failed

    def _script(
        self, step: dict[str, Any], one: Step, contexts: dict[str, Any], environ: dict[str, str]
    ) -> bool:
        files = {name: self.temp / f"_{name.lower()}" for name in ("OUTPUT", "STEP_SUMMARY", "PATH", "ENV")}
        for path in files.values():
            path.write_text("")
        script = self.temp / "_script"
        script.write_text(filled_in(step["run"], contexts))
        own = {
            **{
                f"GITHUB_{name.upper()}": value
                for name, value in self.github.items()
                if isinstance(value, str)
            },
            **{f"GITHUB_{name}": str(path) for name, path in files.items()},
            "GITHUB_ACTION_PATH": str(ROOT),
            "GITHUB_WORKSPACE": str(self.workspace),
            "RUNNER_TEMP": str(self.temp),
        }
        own.pop("GITHUB_TOKEN", None)  # the one that no step gets unless it asks
        whole = {**self.environ, "CI": "true", "GITHUB_ACTIONS": "true", **environ, **own}
        whole["PATH"] = ":".join([*reversed(self.path), whole["PATH"]])
        done = subprocess.run(
            [*SHELLS[step.get("shell")], str(script)],
            cwd=self.workspace, env=whole, capture_output=True, text=True, timeout=LONGEST_S, check=False,
        )  # fmt: skip
        one.log = done.stdout + done.stderr
        one.outputs = read_pairs(files["OUTPUT"].read_text())
        one.summary = files["STEP_SUMMARY"].read_text()
        self.path += [line for line in files["PATH"].read_text().splitlines() if line]
        return done.returncode == 0

    def _env(
        self, told: Mapping[str, Any] | None, contexts: Mapping[str, Any], environ: Mapping[str, str]
    ) -> dict[str, str]:
        return {name: filled_in(value, {**contexts, "env": environ}) for name, value in (told or {}).items()}


@dataclass
class Artifacts:
    """What runs have uploaded: a folder for each run, in it one for each artifact."""

    folder: Path
    run: str

    @property
    def actions(self) -> dict[str, Callable[[dict[str, str], Path], None]]:
        """Stand-ins of GitHub's own actions."""
        return {"actions/download-artifact@v8": self.download, "actions/upload-artifact@v7": self.upload}

    def download(self, given: dict[str, str], workspace: Path) -> None:
        """A named artifact must be there; of a pattern none may match."""
        assert given.keys() <= {"name", "pattern", "path", "run-id", "github-token"}
        run = self.folder / (given["run-id"] if given.get("github-token") else self.run)
        if "name" in given and not (run / given["name"]).is_dir():
            raise FileNotFoundError(f"Artifact not found for name: {given['name']}")
        found = [run / given["name"]] if "name" in given else sorted(run.glob(given["pattern"]))
        for artifact in found:
            into = workspace / given["path"] / ("" if len(found) == 1 else artifact.name)
            shutil.copytree(artifact, into, dirs_exist_ok=True)

    def upload(self, given: dict[str, str], workspace: Path) -> None:
        """Files below what the first pattern of the path leaves open; a name is taken once."""
        assert given.keys() <= {"name", "path"}
        target, pattern = self.folder / self.run / given["name"], workspace / given["path"]
        fixed = next(parent for parent in pattern.parents if "*" not in str(parent))
        for file in sorted(fixed.glob(str(pattern.relative_to(fixed)))):
            into = target / file.relative_to(fixed)
            into.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, into)
