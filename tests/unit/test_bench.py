"""The arithmetic of the benchmark: what counts as a promise kept, and what survives being written."""

from __future__ import annotations

import pytest

from bench.child import BenchError
from bench.groups import choose
from bench.measure import Row, in_turns, row
from bench.plot import used
from bench.results import Group, load, save
from bench.target import Target


def made(pairs, target=None):
    return row("cold", "publish", "s", ("ours", "theirs"), pairs, target=target)


@pytest.mark.parametrize(
    ("target", "pairs", "met"),
    [
        (Target(times=1.05), [(21, 20)], True),
        (Target(times=1.05), [(21.1, 20)], False),
        (Target(times=1, plus=0.5), [(1.5, 1)], True),
        (Target(times=1, plus=0.5), [(1.51, 1)], False),
        (Target(times=1.15, plus=2.5), [(8.25, 5)], True),
        (Target(times=1.15, plus=2.5), [(8.3, 5)], False),
        (Target(most=0), [(0, 5)], True),
        (Target(most=0), [(0.001, 5)], False),
        (Target(least=500), [(500, 1)], True),
        (Target(least=500), [(499, 1)], False),
        (Target(times=1.2, most=450), [(440, 400)], True),
        (Target(times=1.2, most=450), [(460, 400)], False),
        (Target(times=1.2, most=450), [(440, 300)], False),
        (Target(times=1.05), [(20, 20), (20, 20), (90, 20)], True),
    ],
)
def test_a_promise_is_kept_if_every_limit_holds_for_the_medians(target, pairs, met):
    assert made(pairs, target).met is met
    if target.most != 0:
        assert (used(made(pairs, target)).median <= 1) is met


def test_limits_are_said_in_words():
    assert Target(times=1.15, plus=2.5).words("s") == "≤ 1.15 x + 2.5 s"
    assert Target(times=1, plus=1).words("s") == "≤ theirs + 1 s"
    assert Target(times=1.2, most=450).words("MB") == "≤ 1.2 x, ≤ 450 MB"
    assert Target(least=500).words("MB/s") == "≥ 500 MB/s"


@pytest.mark.parametrize("target", [None, Target(times=1.15, plus=2.5), Target(least=3)])
def test_a_row_survives_being_written(target):
    one = made([(1.5, 2.0), (3.0, 4.0)], target)
    assert Row.from_json("cold", one.as_json()) == one


def test_groups_that_are_not_measured_again_stay(tmp_path):
    path = tmp_path / "results" / "speed.json"
    asked, on = {"size_mb": 1.0, "runs": 1, "rate_mb_s": 1.0}, {"cores": 2}
    first, second = (Group(name, asked, on, 3, [made([(1, 2)])]) for name in ("cold", "warm"))
    save(path, first)
    save(path, second)
    again = Group("cold", asked, on, 4, [made([(5, 2)])])
    save(path, again)
    assert [group.took_s for group in load(path)] == [4, 3]
    assert load(path)[0].rows[0].ours.values == (5,)


def test_sides_lead_in_turn():
    order = []
    sides = [lambda name=name: order.append(name) or name for name in "abc"]
    assert in_turns(3, *sides) == [("a", "b", "c")] * 3
    assert "".join(order) == "abcbcacab"


def test_groups_are_chosen_by_name_or_all_that_is_promised():
    assert choose(["noop", "memory"]) == ["memory", "noop"]
    assert "warm" in choose(["promised"])
    assert "pods" not in choose(["promised"])
    with pytest.raises(BenchError, match="no such group of rows: cool"):
        choose(["cool"])
