"""`python -m agent card DIR`: the page before it is public, in a real browser."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import FIXTURES, ROOT

PLAIN = ROOT / "tests" / "without_matplotlib"


def card(tmp_path, *arguments, draws=True, **more):
    modules = str(ROOT) if draws else f"{PLAIN}:{ROOT}"
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": modules}
    done = subprocess.run(
        [sys.executable, "-m", "agent", "card", *arguments],
        env=environ | {"AGENT_STATE_DIR": str(tmp_path / "state")} | more,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_a_real_training_is_shown_with_its_plots(scheme, opened_file, tmp_path):
    samples = tmp_path / "samples"
    samples.mkdir()
    Image.new("RGB", (64, 64), "teal").save(samples / "a [1].png")
    (samples / "answer.txt").write_text("The future.")
    (tmp_path / "eval.json").write_text('{"mmlu": {"acc": 0.5}, "arc": {"acc": 0.75}}')
    code, out, err = card(
        tmp_path, str(FIXTURES / "orpo_lora"), "--json", HF_REPO_NAME="ada/chat", BASE_MODEL="org/base",
        SAMPLES_DIR=str(samples), EVALUATION_REPORT=str(tmp_path / "eval.json"),
    )  # fmt: skip
    assert code == 0, err
    answer = json.loads(out)
    assert len(answer["plots"]) == 4
    shown = opened_file(Path(answer["html"]), scheme=scheme)
    widths = shown.tab.evaluate("() => [...document.images].map(image => image.naturalWidth)")
    assert widths == [1200] * 4 + [64]
    assert shown.said == []
    assert shown.asked == [shown.tab.url]
    screenshot = tmp_path / f"{scheme}.png"
    shown.tab.screenshot(path=screenshot, full_page=True)
    with Image.open(screenshot) as picture:
        assert picture.height > 2000
        assert len(picture.convert("RGB").getcolors(picture.width * picture.height)) > 200
    readme = Path(answer["markdown"]).read_text()
    assert all((Path(answer["markdown"]).parent / path).is_file() for path in answer["plots"])
    assert "ada/chat" in readme


def test_the_folder_is_not_changed_and_an_earlier_page_is_replaced(tmp_path):
    before = {path: path.stat() for path in FIXTURES.rglob("*")}
    card(tmp_path, str(FIXTURES / "orpo_lora"))
    code, out, _ = card(tmp_path, str(FIXTURES / "sft_full"), draws=False)
    assert code == 0
    assert {path: path.stat() for path in FIXTURES.rglob("*")} == before
    page, readme = out.splitlines()
    assert Path(page).name == "page.html"
    assert readme.endswith("README.md  (0 plots)")
    assert sorted(path.name for path in Path(page).parent.rglob("*")) == ["README.md", "page.html"]


def test_what_would_not_be_published_is_said(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for file in (FIXTURES / "sft_full").glob("*.*"):
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "notes.txt").write_text("hf_" + "Ab1Cd2" * 6)
    code, out, err = card(tmp_path, str(folder), draws=False)
    assert (code, len(out.splitlines())) == (0, 2)
    assert "finalize would not publish it" in err
    assert "notes.txt holds a credential" in err
    answer = json.loads(card(tmp_path, str(folder), "--json", draws=False)[1])
    assert answer["publishable"] is False
    assert "Ab1Cd2" not in Path(answer["html"]).read_text()


def test_what_is_missing_from_the_page_is_said(tmp_path):
    code, out, err = card(tmp_path, str(FIXTURES / "base"), draws=False, EVALUATION_REPORT="/nowhere.json")
    assert (code, len(out.splitlines())) == (0, 2)
    assert "/nowhere.json, a source in EVALUATION_REPORT, cannot be read" in err


def test_without_a_model_there_is_no_page(tmp_path):
    code, out, err = card(tmp_path, str(tmp_path / "nowhere"), draws=False)
    assert (code, out) == (11, "")
    assert "does not exist" in err


def test_a_page_that_cannot_be_written_says_where(tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = card(
        tmp_path, str(FIXTURES / "base"), draws=False, AGENT_STATE_DIR=str(tmp_path / "file" / "state")
    )
    assert code == 11
    assert "AGENT_STATE_DIR" in err


def test_open_shows_it_in_a_browser(tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    opened = tmp_path / "opened"
    (tools / "xdg-open").write_text(f'#!/bin/sh\necho "$1" >{opened}\n')
    (tools / "xdg-open").chmod(0o755)
    code, out, _ = card(tmp_path, str(FIXTURES / "base"), "--open", draws=False, PATH=f"{tools}:{os.defpath}")
    assert code == 0
    assert opened.read_text().strip() == out.splitlines()[0]


def test_a_machine_without_a_browser_says_so(tmp_path):
    code, out, err = card(tmp_path, str(FIXTURES / "base"), "--open", draws=False, PATH=str(tmp_path))
    assert (code, len(out.splitlines())) == (0, 2)
    assert "no browser could be opened" in err
