from __future__ import annotations

import contextvars
import subprocess
import sys
import threading

import pytest

from agent.beside import Beside
from agent.errors import Interrupted
from tests.conftest import ROOT

said = contextvars.ContextVar("said", default="nothing")


def test_it_goes_on_beside_and_is_waited_for_where_it_is_needed():
    begun, go_on = threading.Event(), threading.Event()

    def call():
        begun.set()
        assert go_on.wait(60)
        return 7

    beside = Beside(call)
    assert begun.wait(60), "it waited to be asked"
    go_on.set()
    assert (beside.result(), beside.result()) == (7, 7)


@pytest.mark.parametrize("error", [ValueError("no"), Interrupted(15), SystemExit(3)])
def test_what_it_raised_is_raised_where_the_result_is_asked_for(error):
    def call():
        raise error

    beside = Beside(call)
    for _ in range(2):
        with pytest.raises(type(error)) as raised:
            beside.result()
        assert raised.value is error


def test_it_sees_what_the_story_sees_and_changes_none_of_it():
    said.set("here")

    def call():
        seen = said.get()
        said.set("there")
        return seen

    assert Beside(call).result() == "here"
    assert said.get() == "here"


def test_the_end_of_the_process_waits_for_nobody():
    script = "import threading; from agent.beside import Beside; Beside(threading.Event().wait)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=60, check=True).returncode == 0
