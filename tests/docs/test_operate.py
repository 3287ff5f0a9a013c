"""docs/operate.md and ARCHITECTURE.md name what there is, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from agent.cli import cli
from agent.run import RunOutcome
from agent.telemetry import metrics_file

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
HOUSE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").split("```text\n")[1].split("```")[0]
DOCS = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))]


def options_of(command):
    return {name for option in cli.commands[command].params for name in option.opts}


def test_every_flag_of_the_page_is_one_of_its_command():
    of = {"Verify": "verify", "Roll back": "rollback", "Status": "status", "Metrics": "finalize"}
    for heading, command in of.items():
        section = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", section))
        assert named, heading
        assert named <= options_of(command), heading


def test_every_command_that_the_page_shows_exists():
    shown = re.findall(r"training-agent (\w+)", PAGE)
    assert shown
    assert set(shown) <= cli.commands.keys()


def test_the_metrics_of_the_page_are_those_that_are_written(tmp_path):
    path = tmp_path / "agent.prom"
    outcome = RunOutcome(job_id="j", steps={"content": 1.0}, child_exit=0)
    outcome.retries["read", "http_503"] = 2
    metrics_file.write(path, outcome, 0)
    written = set(re.findall(r"^(training_agent_\w+)", path.read_text(), re.MULTILINE))
    assert set(re.findall(r"\btraining_agent_\w+", PAGE)) == written


def test_the_answer_of_status_has_the_keys_that_the_page_lists(pod, trained):
    folder = trained("sft_lora")
    for command in ("finalize", "status"):
        process = pod.command(folder, command, "--json")
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    answer = json.loads(out)
    sentence = re.search(r"`--json` is one object: (.*?)\n\n", PAGE, re.DOTALL)[1]
    top, each = (re.findall(r"`(\w+)`", part) for part in sentence.split(";"))
    assert list(answer) == top
    assert sorted(answer["jobs"][0]) == sorted(each)


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_every_link_to_a_file_or_a_heading_leads_somewhere(page):
    def anchors(text):
        headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
        return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}

    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), target
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file.read_text(encoding="utf-8")), target


def test_the_house_names_every_module_and_room_and_no_other():
    """A name in the first column of the drawing is a module, or a room that ends with a slash."""
    agent = HOUSE.split("agent/\n", 1)[1].split("\nDockerfile", 1)[0].split("\naction.yml", 1)[0]
    named = {
        name
        for line in agent.splitlines()
        for name in re.split(r" {2,}", re.sub(r"(?<=\S) {3,}.*", "", line).strip())
        if re.match(r"  \S", line) and name
    }
    modules = {path.stem for path in (ROOT / "agent").glob("*.py")} - {"__init__"}
    rooms = {f"{path.parent.name}/" for path in (ROOT / "agent").glob("*/__init__.py")}
    assert {name for name in named if not name.endswith("/")} == modules
    assert {name for name in named if name.endswith("/")} == rooms
