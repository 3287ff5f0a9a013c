"""How much of a pod the warm upload takes: bandwidth, processors, and none while the pod is throttled."""

from __future__ import annotations

import random

import pytest

from agent.warm import restraint
from agent.warm.restraint import MOST_CORES, PAUSE_S, SHARE, Restraint, cores, throttled, waited_s

MB = 1_000_000
BLOCK = 1 << 20


class Pod:
    """A pod in which sending a block takes some time and some of a processor."""

    def __init__(self, clock, *, most_mb_s=None, most_cores=1.0):
        self.clock, self.cpu_s, self.throttles, self.waited_s = clock, 0.0, 0, 0.0
        self.restraint = Restraint(
            most_mb_s,
            most_cores,
            clock=clock,
            cpu_s=lambda: self.cpu_s,
            held_back=lambda: self.throttles,
            waited_s=lambda: self.waited_s,
            sleep=clock.sleep,
        )
        self.begun = clock()

    def send(self, blocks, *, cpu_s=0.0, wall_s=0.0, waited_s=0.0):
        for _ in range(blocks):
            self.cpu_s += cpu_s
            self.waited_s += waited_s
            self.clock.now += wall_s
            self.restraint.after(BLOCK)

    @property
    def seconds(self):
        return self.clock() - self.begun


def test_without_a_limit_nothing_is_waited_for(clock):
    pod = Pod(clock)
    pod.send(1000, wall_s=0.01)
    assert clock.slept == []


@pytest.mark.parametrize("wall_s", [0.0, 0.05, 0.104])
def test_many_blocks_are_as_fast_as_allowed_and_no_faster(clock, wall_s):
    """However long each block takes by itself, as long as that is less than it may take."""
    pod = Pod(clock, most_mb_s=10)
    pod.send(1000, wall_s=wall_s)
    assert pod.seconds == pytest.approx(1000 * BLOCK / (10 * MB), rel=1e-6)


def test_a_slow_network_is_not_made_slower(clock):
    pod = Pod(clock, most_mb_s=10)
    pod.send(100, wall_s=0.2)
    assert clock.slept == []


def test_what_was_not_used_is_not_made_up_for(clock):
    """An hour of silence, and then the line would be full for as long as it takes to catch up."""
    pod = Pod(clock, most_mb_s=10)
    pod.send(1)
    clock.now += 3600
    before = clock()
    pod.send(101)
    assert clock() - before >= 100 * BLOCK / (10 * MB)


def test_over_any_stretch_the_rate_is_kept(clock):
    die = random.Random("stretches")
    pod = Pod(clock, most_mb_s=5)
    ends = []
    for _ in range(2000):
        pod.send(1, wall_s=die.choice([0, 0.01, 0.5]), cpu_s=die.random() / 20)
        ends.append(clock())
    for _ in range(200):
        first, last = sorted(die.sample(range(2000), 2))
        assert (last - first) * BLOCK <= (ends[last] - ends[first]) * 5 * MB * (1 + 1e-9)


@pytest.mark.parametrize("most_cores", [0.25, 0.5, 4.0])
def test_processors_are_busy_with_it_no_more_than_allowed_on_average(clock, most_cores):
    pod = Pod(clock, most_cores=most_cores)
    pod.send(500, cpu_s=0.1, wall_s=0.02)
    assert pod.cpu_s / pod.seconds == pytest.approx(min(most_cores, 0.1 / 0.02))


def test_the_slower_of_two_limits_counts_and_not_their_sum(clock):
    pod = Pod(clock, most_mb_s=BLOCK / MB, most_cores=0.5)
    pod.send(10, cpu_s=0.1)
    assert pod.seconds == pytest.approx(10)
    pod.send(10, cpu_s=2.0)
    assert pod.seconds == pytest.approx(50)


def test_what_the_process_used_while_it_waited_counts(clock):
    """Other threads of it compress and send what was read."""
    pod = Pod(clock, most_cores=1.0)
    sleep = clock.sleep

    def busy(seconds):
        pod.cpu_s += seconds / 2
        sleep(seconds)

    pod.restraint._sleep = busy
    pod.send(100, cpu_s=1.0)
    assert pod.cpu_s <= pod.seconds + 1.0  # the last wait is charged to the next block


def test_a_pod_that_is_held_back_is_left_alone_for_a_while(clock):
    pod = Pod(clock)
    pod.send(5, wall_s=0.5)
    assert clock.slept == []
    pod.throttles += 1
    pod.send(2, wall_s=0.5)
    assert clock.slept == [pytest.approx(PAUSE_S)]
    pod.send(20, wall_s=0.5)
    assert len(clock.slept) == 1


def test_as_long_as_a_pod_is_held_back_there_is_one_block_a_pause(clock):
    pod = Pod(clock)
    for _ in range(10):
        pod.throttles += 1
        pod.send(1, wall_s=1.0)
    assert pod.seconds == pytest.approx(10 * (1.0 + PAUSE_S))


def test_where_all_processors_are_wanted_it_leaves_them_alone_most_of_the_time(clock):
    """Of the lowest priority it gets a few percent, and takes them from a training that needs all."""
    pod = Pod(clock, most_cores=0.5)
    pod.send(100, cpu_s=0.015, wall_s=1.0, waited_s=0.985)
    assert clock.slept == [pytest.approx(PAUSE_S)] * 100
    assert pod.cpu_s / pod.seconds < 0.003


def test_who_waits_for_a_processor_now_and_then_goes_on(clock):
    pod = Pod(clock, most_cores=4.0)
    pod.send(100, cpu_s=0.5, wall_s=1.0, waited_s=0.5)
    assert clock.slept == []
    pod.send(1, cpu_s=0.5, wall_s=1.0, waited_s=0.51)
    assert clock.slept == [pytest.approx(PAUSE_S)]


def test_how_often_the_pod_was_held_back_before_does_not_matter(clock):
    held = Restraint(
        None, 1.0, clock=clock, cpu_s=lambda: 0.0, held_back=lambda: 12_345, waited_s=lambda: 6_789.0,
        sleep=clock.sleep,
    )  # fmt: skip
    clock.now += 10
    held.after(BLOCK)
    assert clock.slept == []


def test_the_kernel_is_not_asked_at_every_block(clock):
    asked = []

    def held_back():
        asked.append(clock())
        return 0

    one = Restraint(
        None, 1.0, clock=clock, cpu_s=lambda: 0.0, held_back=held_back, waited_s=float, sleep=clock.sleep
    )
    for _ in range(1000):
        clock.now += 0.01
        one.after(BLOCK)
    assert 2 <= len(asked) <= 11


# What a container is told of its share.


def cgroup(root, files):
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    return root


@pytest.fixture
def _sixteen(monkeypatch):
    monkeypatch.setattr(restraint.os, "sched_getaffinity", lambda _: set(range(16)))


@pytest.mark.usefixtures("_sixteen")
@pytest.mark.parametrize(
    ("files", "number"),
    [
        ({}, 16.0),
        ({"cpu.max": "max 100000\n"}, 16.0),
        ({"cpu.max": "200000 100000\n"}, 2.0),
        ({"cpu.max": "50000 100000\n"}, 0.5),
        ({"cpu.max": "6400000 100000\n"}, 16.0),
        ({"cpu.max": ""}, 16.0),
        ({"cpu.max": "many few"}, 16.0),
        ({"cpu.max": "200000 0"}, 16.0),
        ({"cpu.max": "0 100000"}, 16.0),
        # version 1
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 16.0),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3.0),
        ({"cpu/cpu.cfs_quota_us": "300000\n"}, 16.0),
    ],
)
def test_processors_are_those_of_the_container(files, number, tmp_path):
    assert cores(cgroup(tmp_path, files)) == number


@pytest.mark.parametrize(
    ("files", "number"),
    [
        ({}, 0),
        ({"cpu.stat": "usage_usec 7\nnr_periods 9\nnr_throttled 3\nthrottled_usec 5\n"}, 3),
        ({"cpu.stat": "usage_usec 7\n"}, 0),
        ({"cpu.stat": "nr_throttled many\n"}, 0),
        ({"cpu/cpu.stat": "nr_periods 9\nnr_throttled 4\nthrottled_time 5\n"}, 4),
    ],
)
def test_how_often_a_container_was_held_back(files, number, tmp_path):
    assert throttled(cgroup(tmp_path, files)) == number


@pytest.mark.parametrize(("has", "may"), [(2.0, 0.5), (0.5, 0.125), (8.0, 2.0), (16.0, 4.0), (128.0, 4.0)])
def test_a_quarter_of_the_processors_is_fair_and_four_at_most(has, may, monkeypatch):
    monkeypatch.setattr(restraint, "cores", lambda: has)
    assert Restraint.here(None)._cores == may
    assert (SHARE, MOST_CORES) == (0.25, 4.0)


def test_the_bandwidth_is_the_one_that_was_asked_for(clock, monkeypatch):
    monkeypatch.setattr(restraint, "cores", lambda: 4.0)
    one = Restraint.here(12.5)
    assert one._bytes_s == 12_500_000


def test_what_it_waited_is_told_by_the_kernel_for_every_thread(tmp_path):
    assert waited_s(tmp_path / "none") == 0
    for number, told in enumerate(["100 2000000000 7", "5 500000000 1", "", "x y z"]):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "schedstat").write_text(told)
    (tmp_path / "gone").mkdir()
    assert waited_s(tmp_path) == 2.5
    assert waited_s() >= 0
