"""`migrations` without --check needs nothing but the package itself."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from agent import migrations
from agent.cli import cli

STEPS = migrations.load()


def printed(*arguments):
    result = CliRunner().invoke(cli, ["migrations", *arguments])
    return result.exit_code, result.output


def test_they_are_listed_with_what_each_brings():
    code, out = printed()
    assert code == 0
    for step in STEPS:
        assert step.name in out


@pytest.mark.parametrize("name", ["20261124000600", "row_rules", "20261124000600_row_rules"])
def test_one_is_printed_by_its_name(name):
    code, out = printed(name)
    [meant] = [step for step in STEPS if step.name == "20261124000600_row_rules"]
    assert (code, out) == (0, meant.sql)


def test_a_part_of_a_name_means_all_that_have_it():
    code, out = printed("token")
    assert (code, out) == (0, "\n".join(step.sql for step in STEPS[1:4]))


def test_they_come_in_their_own_order_however_they_are_asked_for():
    assert printed("realtime", "training_jobs") == printed("training_jobs", "realtime")


def test_all_of_them_are_printed_for_psql():
    code, out = printed("all")
    assert (code, out) == (0, "\n".join(step.sql for step in STEPS))


def test_the_way_back_begins_with_the_newest():
    code, out = printed("all", "--rollback")
    assert (code, out) == (0, "\n".join(step.rollback for step in reversed(STEPS)))


def test_a_program_gets_one_object():
    code, out = printed("--json")
    answer = json.loads(out)["migrations"]
    assert code == 0
    assert [one["name"] for one in answer] == [step.name for step in STEPS]
    assert set(answer[0]) == {"version", "name", "title", "without", "sql", "rollback"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "There is no migration 'nothing'. There are: 20261124000100_training_jobs"),
        (["all", "--check"], "--check looks at all migrations"),
        (["--rollback"], "--rollback prints the way back from a NAME"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(arguments, words):
    code, out = printed(*arguments)
    assert code == 2
    assert words in out
