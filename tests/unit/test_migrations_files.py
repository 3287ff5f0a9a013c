"""The migrations as files: what Supabase's tools, the wheel and a reader rely on."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from agent import migrations

ROOT = Path(__file__).parents[2]
SQL = ROOT / "supabase"
STEPS = migrations.load()
EVERYTHING = [*(SQL / "migrations").iterdir(), *(SQL / "rollbacks").iterdir()]

# What has semicolons of its own: comments, names and texts in quotes, bodies between dollars.
WHOLE = re.compile(r"""--[^\n]*|'(?:[^']|'')*'|"[^"]*"|\$(\w*)\$.*?\$\1\$""", re.DOTALL)
COMMENT = re.compile(r"--[^\n]*")
# A commit that does not stand at the margin is one inside a body.
OUTSIDE_OF_TRANSACTIONS = re.compile(r"^ +commit;|\bconcurrently\b", re.MULTILINE)


def statements(sql):
    return [statement for statement in WHOLE.sub("", sql).split(";") if statement.strip()]


def without_comments(sql):
    return COMMENT.sub("", sql)


def test_the_names_are_those_that_supabase_takes_and_each_has_its_rollback():
    names = sorted(path.name for path in (SQL / "migrations").iterdir())
    assert [name for name in names if not re.fullmatch(r"\d{14}_[a-z_]+\.sql", name)] == []
    assert sorted(path.name for path in (SQL / "rollbacks").iterdir()) == names
    assert len({name.partition("_")[0] for name in names}) == len(names)
    assert [f"{step.name}.sql" for step in STEPS] == names


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_file_says_what_it_is_and_what_is_missing_without_it(step):
    title, without, *_ = step.sql.splitlines()
    assert title == f"-- {step.title}"
    assert without == f"-- Without it: {step.without}"
    for sentence in (step.title, step.without):
        assert re.fullmatch(r"[A-Za-z`].{20,}\.", sentence), sentence
    assert step.rollback.startswith("-- ")


def test_what_cannot_run_inside_a_transaction_is_alone_in_its_file():
    codes = {
        f"{path.parent.name}/{path.stem[15:]}": without_comments(path.read_text()) for path in EVERYTHING
    }
    alone = {name for name, code in codes.items() if OUTSIDE_OF_TRANSACTIONS.search(code)}
    assert alone == {
        "migrations/job_tokens_of_old_rows",
        "migrations/job_token_index",
        "rollbacks/job_token_index",
    }
    assert {name: len(statements(codes[name])) for name in alone} == dict.fromkeys(alone, 1)


@pytest.mark.parametrize("path", EVERYTHING, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_row_is_changed_without_saying_which(path):
    """Supabase's safeupdate refuses it for whoever comes through the API."""
    code = without_comments(path.read_text())
    for changed in re.finditer(r"\b(update\s+[\w.]+\s+set|delete\s+from)\b[^;]*", code):
        assert re.search(r"\swhere\s", changed.group()), changed.group()


def test_the_database_knows_exactly_the_migrations_that_there_are():
    """The newest that brings the function has the last word; a first one that runs again says the same."""
    defined = re.compile(
        r"^create [^;]*function public\.agent_migrations\(\).*?^grant [^;]*;", re.DOTALL | re.MULTILINE
    )
    first, *later = [found.group() for step in STEPS for found in defined.finditer(step.sql)]
    assert re.findall(r"'(\d{14})'", first) == [step.version for step in STEPS]
    assert later == [first]


def test_whatever_is_made_in_public_is_granted_explicitly():
    """A new project grants nothing by itself."""
    code = without_comments("".join(step.sql for step in STEPS))
    made = r"create (?:or replace )?(?:table|function|view|sequence) (?:if not exists )?public\.(\w+)"
    names = set(re.findall(made, code))
    assert names == {
        "local_training_jobs",
        "agent_migrations",
        "model_upload_events",
        "mark_stale_jobs",
        "note_on_job",
    }
    for name in names:
        for right in ("grant", "revoke"):
            assert re.search(rf"\b{right}\b[^;]*\bon\s(function )?public\.{name}\b", code), (right, name)


@pytest.mark.parametrize("path", EVERYTHING, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_extension_is_needed(path):
    assert "create extension" not in path.read_text().lower()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of a checkout in which the Supabase CLI has been used; it keeps addresses of projects there."""
    checkout, built = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("built")
    for name in ("agent", "supabase"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, checkout)
    (checkout / "supabase" / ".temp").mkdir(exist_ok=True)
    (checkout / "supabase" / ".temp" / "pooler-url").write_text(
        "postgresql://postgres.abc@pooler.supabase.com"
    )
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", built]
    subprocess.run(build, cwd=checkout, check=True, capture_output=True)
    (made,) = built.iterdir()
    return made


def test_the_wheel_brings_the_migrations_and_rollbacks_and_nothing_else_of_supabase(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    expected = {f"agent/supabase/{path.parent.name}/{path.name}" for path in EVERYTHING}
    assert {name for name in names if "supabase/" in name} == expected


def test_the_package_that_a_wheel_installs_loads_them(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    program = "import json; from agent import migrations as m;"
    program += "print(json.dumps([m.__file__, [[s.name, s.sql, s.rollback] for s in m.load()]]))"
    asked = [sys.executable, "-c", program]
    environ = os.environ | {"PYTHONPATH": str(tmp_path)}
    ended = subprocess.run(asked, cwd=tmp_path, env=environ, check=True, capture_output=True, text=True)
    where, loaded = json.loads(ended.stdout)
    assert Path(where) == tmp_path / "agent" / "migrations.py"
    assert loaded == [[step.name, step.sql, step.rollback] for step in STEPS]
