from __future__ import annotations

import errno
import subprocess
import sys

import pytest

from agent import readiness
from agent.card.easel import Easel
from agent.config import load
from agent.readiness import Readiness
from tests.conftest import ROOT, TOKEN


@pytest.fixture
def loaded(monkeypatch):
    """What is loaded beside is not: it would stay loaded for the tests after this one."""
    asked = []
    monkeypatch.setattr(readiness, "Beside", asked.append)
    return asked


def test_who_will_publish_has_a_process_that_waits_to_draw(loaded):
    ready = Readiness()
    ready.prepare(load({"HF_TOKEN": TOKEN}))
    process = ready.easel.process
    assert (process.poll(), ready.easel.is_free, loaded) == (None, True, [readiness._load])
    ready.prepare(load({"HF_TOKEN": TOKEN}))
    assert ready.easel.process is process
    ready.close()
    assert (process.returncode, ready.easel) == (-9, None)
    ready.close()


@pytest.mark.parametrize("environ", [{}, {"HF_TOKEN": TOKEN, "RANK": "1"}])
def test_who_will_not_publish_makes_nothing_ready(environ, loaded):
    ready = Readiness()
    ready.prepare(load(environ))
    assert (ready.easel, loaded) == (None, [])


def test_without_matplotlib_nobody_waits_to_draw(loaded, monkeypatch):
    monkeypatch.setattr(readiness, "available", lambda: False)
    ready = Readiness()
    ready.prepare(load({"HF_TOKEN": TOKEN}))
    assert ready.easel is None


def test_a_process_that_cannot_be_started_keeps_no_training_back(loaded, monkeypatch):
    def fail():
        raise OSError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr(readiness, "Easel", fail)
    ready = Readiness()
    ready.prepare(load({"HF_TOKEN": TOKEN}))
    assert ready.easel is None
    assert Easel is not fail


def test_the_clients_are_loaded_and_one_that_is_broken_is_no_trouble():
    script = (
        "import sys; from agent import readiness\n"
        "readiness._CLIENTS = ('no.such.module', *readiness._CLIENTS)\n"
        "readiness._load()\n"
        "print('hf_xet' in sys.modules, 'agent.hub.commit' in sys.modules)"
    )
    told = subprocess.check_output([sys.executable, "-c", script], cwd=ROOT, text=True)
    assert told == "True True\n"
