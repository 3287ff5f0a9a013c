"""What the wire tests share: publications without plots, unless a test asks for them."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Pod


@pytest.fixture(autouse=True)
def _without_plots(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "plots" not in request.fixturenames:
        monkeypatch.setitem(sys.modules, "matplotlib", None)


@pytest.fixture
def plots(pod: Pod) -> None:
    """Draw as a pod does; it takes two seconds a publication."""
    pod.draws = True


POD, KEY = "pod1x2y3z", "rpa_key_of_the_pod_123456"


@pytest.fixture(scope="session")
def runpod_api():
    """The embedded RunPod."""
    from agent.sandbox.runpod import RunPodApi

    with RunPodApi() as fake:
        yield fake


@pytest.fixture
def runpod(runpod_api, monkeypatch):
    """RunPod with one running pod and its key; what reached it is checked in the end."""
    from agent.pod.rungs import Apis

    server = runpod_api
    server.add_pod(POD)
    server._keys.clear()
    server.add_key(KEY)
    server.faults.clear()
    server.requests.clear()
    at = server.endpoint
    monkeypatch.setattr("agent.pod.runpod.APIS", Apis(f"{at}/v2", f"{at}/graphql", f"{at}/v1"))
    monkeypatch.setenv("PATH", "/nonexistent")  # no runpodctl of this machine
    yield server
    assert server.catastrophes == []


@pytest.fixture
def slept(monkeypatch):
    """Every wait of a parting, in seconds; none of them is waited for."""
    waits = []
    from agent import parting

    monkeypatch.setattr(parting, "time", SimpleNamespace(sleep=waits.append, monotonic=lambda: sum(waits)))
    return waits
