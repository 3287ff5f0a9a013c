"""The fault the other crash tests rely on: it kills the process it was given, at its moment, no other."""

from __future__ import annotations

import signal
import subprocess
import sys

import httpx2
import pytest

from agent.sandbox.hub import Fault
from tests.conftest import TOKEN

ASK = """
import sys, urllib.request
url, body = sys.argv[1:]
request = urllib.request.Request(url, body.encode(), {"Authorization": "Bearer %s"})
sys.stdin.readline()
print(urllib.request.urlopen(request, timeout=60).status)
"""
COMMIT = (
    '{"key":"header","value":{"summary":"m"}}\n'
    '{"key":"file","value":{"path":"a.txt","content":"eA==","encoding":"base64"}}'
)


@pytest.fixture
def ask(hub):
    """Start a process that commits as soon as it is told to."""
    hub.create_repo("ada/model")
    address = f"{hub.endpoint}/api/models/ada/model/commit/main"
    return lambda: subprocess.Popen(
        [sys.executable, "-c", ASK % TOKEN, address, COMMIT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def commits(hub):
    return len(hub.repo("ada/model").commits()) - 1


@pytest.mark.parametrize("after", [False, True])
def test_the_process_dies_before_or_after_the_server_acted(after, ask, hub):
    fault = hub.faults.add(Fault("kill", match="/commit/", nth=0, after=after))
    process = ask()
    fault.pid = process.pid
    process.communicate("go\n", timeout=60)
    assert (process.returncode, fault.fired, commits(hub)) == (-signal.SIGKILL, 1, int(after))
    assert hub.requests[-1].status is None


def test_requests_of_another_process_are_not_counted(ask, hub):
    """Neither those of this process nor those of a second one, as if the fault were not there."""
    fault = hub.faults.add(Fault("kill", match="/commit/", nth=0))
    doomed, other = ask(), ask()
    assert httpx2.get(f"{hub.endpoint}/api/models/ada/model").status_code == 200
    fault.pid = doomed.pid
    out, _ = other.communicate("go\n", timeout=60)
    assert (out, other.returncode, fault.seen) == ("200\n", 0, 0)
    doomed.communicate("go\n", timeout=60)
    assert (doomed.returncode, fault.fired, commits(hub)) == (-signal.SIGKILL, 1, 1)


def test_without_a_process_nothing_is_struck(ask, hub):
    fault = hub.faults.add(Fault("kill"))
    process = ask()
    process.communicate("go\n", timeout=60)
    assert (process.returncode, fault.seen, fault.fired, commits(hub)) == (0, 0, 0, 1)
