"""Ending a pod against a RunPod that refuses, loses answers, hangs, retires and locks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import httpx2
import pytest

from agent.pod import runpod
from agent.pod.runpod import LADDER_S, Apis, Ended, RunPod, keys_of
from agent.pod_config import PodSettings
from agent.sandbox.runpod import Fault, RunPodApi
from tests.conftest import Clock

ROOT = Path(__file__).parents[2]
POD = "abc123xyz"
OWN_KEY = "rpa_OwnKeyOfTheUser0123456789"
POD_KEY = "rpa_PodScopedKey9876543210"
BOTH = {"RUNPOD_TERMINATE_API_KEY": OWN_KEY, "RUNPOD_API_KEY": POD_KEY}
ONE = {"RUNPOD_API_KEY": POD_KEY}
APIS = ("v2", "graphql", "v1")
NAMES = {"v2": "REST v2", "graphql": "GraphQL", "v1": "REST v1"}
# The order in each API; in GraphQL the look before it is the first request to the same address.
ORDERS = {"v2": "POST /v2/.*/action", "graphql": "POST /graphql", "v1": "(POST|DELETE) /v1/"}
FIRST_ORDER = {"v2": 0, "graphql": 1, "v1": 0}
ACTIONS = ("stop", "terminate")


@pytest.fixture
def api():
    with RunPodApi() as running:
        running.add_pod(POD)
        running.add_pod("another")
        yield running
    assert running.catastrophes == []
    other = running.pods["another"]
    assert (other.status, other.stops, other.terminates) == ("RUNNING", 0, 0)


@pytest.fixture(autouse=True)
def _no_runpodctl(monkeypatch, tmp_path):
    """A path without any runpodctl, until a test puts one there."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", os.fspath(tmp_path / "bin"))


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def pod(api, clock):
    """The pod of a test: `pod()` is a client with the pod's own key."""
    api.add_key(POD_KEY)

    def make(pod_id=POD, keys=ONE):
        return RunPod(pod_id, keys, sleep=clock.sleep, clock=clock, apis=at(api))

    return make


def at(api):
    return Apis(f"{api.endpoint}/v2", f"{api.endpoint}/graphql", f"{api.endpoint}/v1")


def only(api, name, status=404):
    """Let all APIs but one be retired."""
    api.retired = {other: status for other in APIS if other != name}


def ended(api):
    """How often the pod was really stopped and terminated."""
    return api.pods[POD].stops, api.pods[POD].terminates


def done(action):
    return (1, 0) if action == "stop" else (0, 1)


def orders(api):
    """What could have ended the pod, as method and path; looks of GraphQL are told apart by their size."""
    looks = {"GET"}
    return [
        (request.method, request.path)
        for request in api.requests
        if request.method not in looks and not (request.kind == "graphql" and request.received_bytes < 130)
    ]


def test_the_real_addresses_are_those_of_runpod():
    assert runpod.APIS.v2 == "https://api.runpod.io/v2"
    assert runpod.APIS.graphql == "https://api.runpod.io/graphql"
    assert runpod.APIS.v1 == "https://rest.runpod.io/v1"


def test_the_addresses_are_looked_up_when_asked(api, monkeypatch, clock):
    api.add_key(POD_KEY)
    client = RunPod(POD, ONE, sleep=clock.sleep, clock=clock)
    monkeypatch.setattr(runpod, "APIS", at(api))
    assert client.end("stop").done


# Every way


@pytest.mark.parametrize("retired", [404, 410])
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", APIS)
def test_each_api_alone_ends_the_pod(name, action, retired, api, pod):
    only(api, name, retired)
    result = pod().end(action)
    assert result.done
    assert result.how == f"{NAMES[name]} with RUNPOD_API_KEY"
    assert ended(api) == done(action)
    assert Counter(request.kind for request in api.requests)[name] >= 2


def test_the_newest_api_comes_first(api, pod):
    assert pod().end("stop") == Ended(
        done=True,
        how="REST v2 with RUNPOD_API_KEY",
        because="REST v2 with RUNPOD_API_KEY shows the pod as EXITED.",
    )
    assert [(request.method, request.path) for request in api.requests] == [
        ("GET", f"/v2/pods/{POD}"),
        ("POST", f"/v2/pods/{POD}/action"),
    ]


def test_a_terminate_is_believed_when_the_pod_is_found_no_more(api, pod):
    result = pod().end("terminate")
    assert result.done
    assert "204" in result.because
    assert "404" in result.because
    assert orders(api) == [("POST", f"/v2/pods/{POD}/action")]


def test_a_terminated_pod_that_is_still_shown_is_over(api, pod):
    api.pods[POD].remembered = True
    result = pod().end("terminate")
    assert result.done
    assert "TERMINATED" in result.because


# One misfortune, then many

PASSING = {
    "429": {"kind": "status", "status": 429},
    "503": {"kind": "status", "status": 503},
    "500 html": {"kind": "status", "status": 500, "body": "<html><b>Oops</b></html>"},
    "409": {"kind": "status", "status": 409},
    "reset": {"kind": "reset"},
    "lost": {"kind": "lost"},
    "truncated": {"kind": "truncated"},
    "hang": {"kind": "hang"},
}
FINAL = {
    "401": {"kind": "status", "status": 401},
    "403": {"kind": "status", "status": 403},
    "403 html": {"kind": "status", "status": 403, "body": "<html>error code: 1010</html>"},
    "404": {"kind": "status", "status": 404},
    "422": {"kind": "status", "status": 422},
    "redirect": {"kind": "status", "status": 307, "headers": {"Location": "/v1/pods/another/stop"}},
}


@pytest.fixture
def _impatient(monkeypatch):
    """Nobody waits 15 s for an answer that never comes."""
    monkeypatch.setattr("agent.pod.line.ANSWER_S", 0.2)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("misfortune", PASSING)
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", APIS)
def test_an_order_that_meets_one_misfortune_is_given_again(name, action, misfortune, api, pod, clock):
    only(api, name)
    fault = api.faults.add(Fault(match=ORDERS[name], nth=FIRST_ORDER[name], **PASSING[misfortune]))
    result = pod().end(action)
    assert fault.fired == 1
    assert result.done, result.because
    assert ended(api) == done(action)
    assert sum(clock.slept) < 5


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("misfortune", [*PASSING, *FINAL])
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", APIS)
def test_an_api_that_fails_for_good_leaves_it_to_the_next(name, action, misfortune, api, pod):
    """The last one leaves it to nobody, unless it acted without saying so."""
    always = (PASSING | FINAL)[misfortune]
    fault = api.faults.add(Fault(match=ORDERS[name], **always))
    api.retired = dict.fromkeys(APIS[: APIS.index(name)], 410)
    result = pod().end(action)
    assert fault.fired >= 1
    acts = misfortune in {"lost", "truncated"}
    if name == "v1" and not acts:
        assert not result.done
        assert ended(api) == (0, 0)
        return
    assert result.done, result.because
    assert ended(api) == done(action)
    assert (NAMES[name] in result.how) == acts


@pytest.mark.parametrize("misfortune", FINAL)
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", APIS)
def test_a_no_is_not_asked_again_the_same_way(name, action, misfortune, api, pod, clock):
    only(api, name)
    fault = api.faults.add(
        Fault(match=ORDERS[name], nth=set(range(FIRST_ORDER[name], 99)), **FINAL[misfortune])
    )
    result = pod().end(action)
    assert fault.fired >= 1
    assert not result.done
    assert result.how is None
    assert f"{NAMES[name]} with RUNPOD_API_KEY answered {FINAL[misfortune]['status']}" in result.because
    assert clock.slept == []
    assert ended(api) == (0, 0)
    if name != "graphql":
        assert len(orders(api)) <= 2  # GraphQL has retired, and was asked to no avail


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", APIS)
def test_a_lost_answer_is_settled_by_looking_and_the_order_is_given_once(name, action, api, pod, clock):
    only(api, name)
    fault = api.faults.add(Fault("lost", match=ORDERS[name], nth=FIRST_ORDER[name]))
    assert pod().end(action).done
    assert fault.fired == 1
    assert clock.slept == []
    kinds = [request.kind for request in api.requests]
    assert kinds.count(name) == 3  # look, order, look


def test_the_pod_is_looked_at_where_it_was_seen_last(api, pod):
    """A way that hangs costs its 15 seconds once, not before each order."""
    silent = api.faults.add(Fault("status", match="GET /v2", status=503))
    failing = api.faults.add(Fault("status", match=ORDERS["v2"], status=503))
    assert pod().end("stop").how == "GraphQL with RUNPOD_API_KEY"
    assert failing.fired == 3
    assert silent.fired == 1


def test_the_wait_that_the_server_asks_for_is_kept(api, pod, clock):
    fault = api.faults.add(Fault("status", match=ORDERS["v2"], nth=0, status=429, retry_after=7))
    assert pod().end("stop").done
    assert fault.fired == 1
    assert clock.slept == [7.0]


def test_a_wait_without_measure_is_cut(api, pod, clock):
    fault = api.faults.add(Fault("status", match=ORDERS["v2"], status=429, retry_after=86400))
    result = pod().end("stop")
    assert fault.fired == 3
    assert clock.slept == [30.0, 30.0]
    assert result.how == "GraphQL with RUNPOD_API_KEY"


def test_a_redirect_is_an_answer_and_no_way(api, pod):
    fault = api.faults.add(Fault("status", status=307, headers={"Location": "/v1/pods/another/stop"}))
    assert not pod().end("stop").done
    assert fault.fired >= 6
    assert not [request for request in api.requests if "another" in request.path]


def test_an_answer_that_never_ends_is_cut(api, pod, monkeypatch):
    monkeypatch.setattr("agent.pod.line._LONGEST_ANSWER_BYTES", 1000)
    fault = api.faults.add(Fault("status", match="GET /v2", status=200, body="<" + "x" * 5000))
    probe = pod().status()
    assert fault.fired == 1
    assert probe.because.startswith("REST v2 with RUNPOD_API_KEY gave an answer without end.")
    assert probe.because.endswith("GraphQL with RUNPOD_API_KEY shows the pod as RUNNING.")


@pytest.mark.parametrize(
    "body",
    ["[]", "null", "{}", '"text"', '{"id": "another", "status": "EXITED"}', '{"id": "abc123xyz"}', "<html>"],
)
def test_an_answer_of_another_shape_or_about_another_pod_shows_nothing(body, api, pod):
    fault = api.faults.add(Fault("status", match="GET /v2", status=200, body=body))
    assert "GraphQL" in pod().status().because
    assert fault.fired == 1


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "null",
        "{}",
        '{"data": null}',
        '{"data": []}',
        '{"data": {"podStop": 1}}',
        '{"data": {"podStop": null}}',
        '{"errors": [1], "data": {}}',
    ],
)
def test_an_answer_of_graphql_without_data_ends_nothing(body, api, pod):
    only(api, "graphql")
    fault = api.faults.add(
        Fault("status", match="POST /graphql", nth=set(range(1, 99)), status=200, body=body)
    )
    assert not pod().end("stop").done
    assert not pod().end("terminate").done
    assert fault.fired > 1
    assert ended(api) == (0, 0)


def test_graphql_says_with_null_that_the_pod_is_terminated(api, pod):
    only(api, "graphql")
    assert pod().end("terminate").because == "GraphQL with RUNPOD_API_KEY answered podTerminate: null."


def test_errors_of_graphql_come_with_200_and_are_a_no(api, pod):
    only(api, "graphql")
    api.add_key(POD_KEY, "read")
    result = pod().end("stop")
    assert not result.done
    assert "answered 200 OK This API key has no permission to stop the pod" in result.because


def test_a_pod_that_somebody_else_ended_meanwhile_is_over(api, pod):
    """v2 refuses, GraphQL finds nothing to terminate, and who saw it before finds it no more."""

    class Sudden(Fault):
        def strikes(self, target, port):
            if super().strikes(target, port):
                api.pods[POD].terminate()
                return True
            return False

    fault = api.faults.add(Sudden("status", match=ORDERS["v2"], status=403))
    result = pod().end("terminate")
    assert fault.fired == 1
    assert result.done
    assert "pod not found to terminate" in result.because
    assert ended(api) == (0, 1)


# What is no proof


def test_a_strange_key_that_finds_no_pod_proves_nothing(api, pod):
    api.add_key(POD_KEY, pods=())
    result = pod().end("terminate")
    assert not result.done
    assert ended(api) == (0, 0)
    assert "pod not found to terminate" in result.because


def test_an_api_that_retires_while_it_is_asked_proves_nothing(api, pod):
    """It showed the pod, then it answers 404 to everything; another one still shows the pod."""
    api.add_key(POD_KEY, "read")
    fault = api.faults.add(Fault("status", match="/v2/", nth=set(range(1, 99)), status=404))
    result = pod().end("terminate")
    assert fault.fired >= 2
    assert not result.done
    assert api.pods[POD].status == "RUNNING"


@pytest.mark.parametrize("action", ACTIONS)
def test_an_order_that_was_taken_but_not_carried_out_is_no_end(action, api, pod, clock):
    api.pods[POD].lag = 10**6
    result = pod().end(action)
    assert not result.done
    assert "shows the pod as RUNNING" in result.because
    assert sum(clock.slept) <= LADDER_S


@pytest.mark.parametrize("action", ACTIONS)
def test_an_order_is_watched_until_it_shows(action, api, pod, clock):
    api.pods[POD].lag = 4
    result = pod().end(action)
    assert result.how == "REST v2 with RUNPOD_API_KEY"
    assert 1 <= sum(clock.slept) <= 60
    assert len(orders(api)) == 1


def test_a_key_that_may_stop_but_not_look_is_believed_by_what_its_order_shows(api, pod):
    api.add_key(POD_KEY, "stop", "terminate")
    assert pod().end("stop").done


def test_a_pod_that_may_not_be_seen_is_not_said_to_be_over(api, pod):
    api.add_key(POD_KEY, "stop", "terminate")
    api.retired = {"graphql": 410, "v1": 410}
    result = pod().end("terminate")
    assert not result.done
    assert ended(api) == (0, 1)


# State of the pod


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("status", ["EXITED", "TERMINATED"])
def test_a_pod_that_is_over_is_left_alone(status, action, api, pod):
    api.pods[POD].status, api.pods[POD].remembered = status, True
    result = pod().end(action)
    assert (result.done, result.how) == (True, None)
    assert f"shows the pod as {status}" in result.because
    assert len(api.requests) == 1


@pytest.mark.parametrize("action", ACTIONS)
def test_a_locked_pod_is_not_asked_to_end_and_people_are_told_why(action, api, pod):
    api.pods[POD].locked = True
    result = pod().end(action)
    assert not result.done
    assert result.because.startswith(
        f"Pod {POD} is locked, so RunPod neither stops nor terminates it: unlock it"
    )
    assert orders(api) == []
    assert pod().status().locked


def test_a_lock_that_nobody_may_see_is_told_in_the_servers_words(api, pod, clock):
    api.pods[POD].locked = True
    api.add_key(POD_KEY, "stop", "terminate")
    result = pod().end("stop")
    assert not result.done
    assert "answered 409 Conflict Pod is locked. Unlock it first" in result.because
    assert ended(api) == (0, 0)
    assert sum(clock.slept) <= LADDER_S


def test_a_pod_that_is_starting_is_asked_again_until_it_can_stop(api, pod, clock):
    api.pods[POD].status = "PROVISIONING"
    client = RunPod(POD, ONE, sleep=lambda seconds: api.pods[POD].resume(), clock=clock, apis=at(api))
    assert client.end("stop").how == "REST v2 with RUNPOD_API_KEY"
    assert ended(api) == (1, 0)


def test_ending_twice_ends_once(api, pod):
    assert pod().end("stop").done
    assert pod().end("stop").done
    assert ended(api) == (1, 0)


# Keys


@pytest.mark.parametrize("why", ["unknown", "no rights", "a stranger's"])
@pytest.mark.parametrize("action", ACTIONS)
def test_a_key_that_may_not_is_followed_by_the_one_that_may(action, why, api, pod):
    if why == "no rights":
        api.add_key(OWN_KEY, "read")
    elif why == "a stranger's":
        api.add_key(OWN_KEY, pods=("another",))
    result = pod(keys=BOTH).end(action)
    assert result.done
    assert result.how == "REST v2 with RUNPOD_API_KEY"
    assert ended(api) == done(action)


def test_the_users_own_key_comes_first(api, pod):
    api.add_key(OWN_KEY)
    assert pod(keys=BOTH).end("stop").how == "REST v2 with RUNPOD_TERMINATE_API_KEY"


def test_the_keys_of_the_settings_are_named_by_their_variables_the_own_one_first():
    settings = PodSettings.model_validate({"RUNPOD_API_KEY": POD_KEY, "RUNPOD_TERMINATE_API_KEY": OWN_KEY})
    assert list(keys_of(settings).items()) == list(BOTH.items())
    assert keys_of(PodSettings.model_validate({})) == {}


def test_when_nothing_works_every_way_is_named_with_what_it_said(api, pod):
    api.add_key(OWN_KEY, "read")
    api.add_key(POD_KEY, "read")
    result = pod(keys=BOTH).end("stop")
    assert (result.done, result.how) == (False, None)
    assert result.because.startswith(f"RunPod did not stop pod {POD}: stop it by hand in the console")
    for key in BOTH:
        for name in NAMES.values():
            assert f"{name} with {key} answered" in result.because
        assert f"runpodctl with {key} is not installed" in result.because
    assert result.because.count("no permission to stop the pod") == 6
    assert ended(api) == (0, 0)


def test_a_server_that_is_not_there_is_told_and_not_waited_for(api, clock):
    nowhere = Apis(*(f"{api.closed_endpoint}/{name}" for name in APIS))
    result = RunPod(POD, ONE, sleep=clock.sleep, clock=clock, apis=nowhere).end("stop")
    assert not result.done
    assert "gave no whole answer (ConnectError" in result.because
    assert sum(clock.slept) < 15


@pytest.mark.parametrize(
    "keys",
    [{}, {"RUNPOD_API_KEY": ""}, {"RUNPOD_API_KEY": "two\nlines"}, {"X": "schlüssel"}, {"X": "nul\0l"}],
)
def test_without_a_key_nobody_is_asked(keys, api, pod):
    result = pod(keys=keys).end("stop")
    assert not result.done
    assert result.because.startswith("There is no key to ask RunPod with")
    assert "RUNPOD_TERMINATE_API_KEY" in result.because
    assert pod(keys=keys).status().status is None
    assert api.requests == []


def test_a_key_that_is_none_is_passed_over(api, pod):
    assert pod(keys={"RUNPOD_TERMINATE_API_KEY": "two\nlines"} | ONE).end("stop").done


def test_no_key_is_in_an_address_an_answer_or_the_log(api, pod, capsys, caplog):
    """Not even of a server that sends the key back."""
    caplog.set_level("DEBUG")
    faults = [
        api.faults.add(
            Fault("status", match="/v2", status=403, body=json.dumps({"detail": f"bad key {OWN_KEY}"}))
        ),
        api.faults.add(Fault("status", match="/v1", status=500, body=f"<html>{POD_KEY}</html>")),
    ]
    said = [pod(keys=BOTH).end("stop"), pod(keys=BOTH).status()]
    assert all(fault.fired for fault in faults)
    assert "bad key [hidden]" in pod(keys={"RUNPOD_API_KEY": OWN_KEY}).end("stop").because
    captured = capsys.readouterr()
    for key in (OWN_KEY, POD_KEY):
        assert key not in f"{said}{captured.out}{captured.err}{caplog.text}"
        assert not [request for request in api.requests if key in request.path + request.query]
    assert {request.headers["authorization"] for request in api.requests} == {
        f"Bearer {k}" for k in (OWN_KEY, POD_KEY)
    }
    assert all(
        request.headers["user-agent"].startswith("training-completion-agent/") for request in api.requests
    )


# Hostile ids

HOSTILE = [
    "",
    None,
    "../x",
    "a/b",
    "a?b",
    "x\n",
    "a" * 129,
    "a" * 200,
    "pöd",
    "-x",
    "_x",
    " ",
    "a b",
    "a%2fb",
    "*",
    "..",
]


@pytest.mark.parametrize("pod_id", HOSTILE)
def test_an_id_that_is_none_never_leaves_the_process(pod_id, api, pod, monkeypatch, command):
    command("new")
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **kwargs: pytest.fail("a process was started"))
    for action in ACTIONS:
        result = pod(pod_id).end(action)
        assert not result.done
        assert "RUNPOD_POD_ID is no id of a pod" in result.because
    assert pod(pod_id).status().status is None
    assert api.requests == []
    assert command.calls() == []


def test_the_longest_id_is_one(api, pod):
    api.add_pod("a" * 128)
    assert pod("a" * 128).end("stop").done


# Time


def test_the_whole_ladder_has_an_end_in_time(api, clock):
    """Each look at the clock costs a while, as if every answer came late."""
    api.add_key(POD_KEY)
    api.faults.add(Fault("status", status=503))

    def late():
        clock.now += 7.0
        return clock.now

    began = clock.now
    result = RunPod(POD, ONE, sleep=clock.sleep, clock=late, apis=at(api)).end("stop")
    assert not result.done
    assert "RunPod was asked for 300 s without a clear answer." in result.because
    assert clock.now - began < LADDER_S + 60


def test_a_probe_has_an_end_in_time(api, clock):
    api.add_key(POD_KEY)
    api.faults.add(Fault("status", status=503))

    def late():
        clock.now += 4.0
        return clock.now

    probe = RunPod(POD, ONE, sleep=clock.sleep, clock=late, apis=at(api)).status()
    assert probe.status is None
    assert "RunPod was asked for 10 s without a clear answer." in probe.because


# The probe


def test_a_probe_changes_nothing(api, pod):
    probe = pod().status()
    assert (probe.status, probe.locked) == ("RUNNING", False)
    assert orders(api) == []
    assert api.pods[POD].status == "RUNNING"


def test_a_probe_says_why_no_key_may_see_the_pod(api, pod):
    api.add_key(POD_KEY, "stop")
    probe = pod().status()
    assert probe.status is None
    assert probe.because.count("no permission to read the pod") == 3


# runpodctl

SCRIPT = """#!{python}
import json, os, sys, urllib.request
with open({record!r}, "a") as record:
    record.write(json.dumps([sys.argv[1:], dict(os.environ)]) + "\\n")
if {syntax!r} == "legacy" and sys.argv[1] == "pod":
    sys.exit('Error: unknown command "pod" for "runpodctl"')
if {syntax!r} == "legacy" and sys.argv[1:2] == ["stop"] and {fails!r}:
    print('pod "x" stop failed; status is RUNNING')
    sys.exit(0)
if {fails!r}:
    sys.exit("Post https://api.runpod.io/graphql?api_key=" + os.environ["RUNPOD_API_KEY"] + ": x509")
verb = [word for word in sys.argv[1:3] if word != "pod"][0]
action = {{"stop": "stop", "delete": "terminate", "remove": "terminate"}}[verb]
urllib.request.urlopen(urllib.request.Request(
    {endpoint!r} + "/v2/pods/" + sys.argv[3] + "/action", json.dumps({{"action": action}}).encode(),
    {{"Authorization": "Bearer admin-key", "User-Agent": "runpodctl", "Content-Type": "application/json"}},
))
"""


@pytest.fixture
def command(api, tmp_path):
    """`command("new")` puts a runpodctl on the path; `command.calls()` is what it was called with."""
    api.add_key("admin-key")
    record = tmp_path / "calls"

    def install(syntax, *, fails=False, script=SCRIPT):
        program = tmp_path / "bin" / "runpodctl"
        program.write_text(
            script.format(
                python=sys.executable,
                record=os.fspath(record),
                syntax=syntax,
                fails=fails,
                endpoint=api.endpoint,
            )
        )
        program.chmod(0o755)

    install.calls = lambda: (
        [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    )
    return install


CALLED = {
    ("new", "stop"): [["pod", "stop", POD]],
    ("new", "terminate"): [["pod", "delete", POD]],
    ("legacy", "stop"): [["pod", "stop", POD], ["stop", "pod", POD]],
    ("legacy", "terminate"): [["pod", "delete", POD], ["remove", "pod", POD]],
}


@pytest.mark.parametrize(("syntax", "action"), CALLED)
def test_runpodctl_is_the_last_way_in_both_its_syntaxes(syntax, action, api, pod, command, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_NotForThisProgram0123456789")
    api.add_key(POD_KEY, "read")
    command(syntax)
    result = pod().end(action)
    assert result.done, result.because
    assert result.how == "runpodctl with RUNPOD_API_KEY"
    assert ended(api) == done(action)
    calls = command.calls()
    assert [argv for argv, _ in calls] == CALLED[syntax, action]
    for argv, environ in calls:
        assert POD_KEY not in " ".join(argv)
        assert environ["RUNPOD_API_KEY"] == POD_KEY
        assert "HF_TOKEN" not in environ


def test_runpodctl_is_not_needed_where_an_api_does_it(api, pod, command):
    command("new")
    assert pod().end("stop").done
    assert command.calls() == []


@pytest.mark.parametrize("syntax", ["new", "legacy"])
def test_a_runpodctl_that_fails_or_only_says_so_ends_nothing(syntax, api, pod, command):
    """The old one ends with 0 after a stop that failed, and puts the key into the error it prints."""
    api.add_key(POD_KEY, "read")
    command(syntax, fails=True)
    result = pod().end("stop")
    assert not result.done
    assert POD_KEY not in result.because
    words = {"new": "api_key=[hidden]: x509", "legacy": "stop failed; status is RUNNING"}[syntax]
    assert words in result.because
    assert ended(api) == (0, 0)


def test_a_runpodctl_that_takes_too_long_is_ended(api, pod, command, monkeypatch):
    monkeypatch.setattr("agent.pod.runpodctl.COMMAND_S", 0.3)
    api.add_key(POD_KEY, "read")
    late = SCRIPT.replace("import json, os, sys,", "import time; time.sleep(5); import json, os, sys,")
    assert late != SCRIPT
    command("new", script=late)
    result = pod().end("stop")
    assert not result.done
    assert ended(api) == (0, 0)
    assert "runpodctl with RUNPOD_API_KEY did not end within" in result.because


def test_a_runpodctl_that_cannot_be_started_is_told(api, pod, command):
    api.add_key(POD_KEY, "read")
    command("new", script="#!/nowhere/at/all\n")
    assert (
        "runpodctl with RUNPOD_API_KEY could not be started (No such file or directory)"
        in pod().end("stop").because
    )


# A process of its own


def test_a_process_with_fake_runpod_asks_the_embedded_one(api):
    api.add_key(POD_KEY)
    code = (
        "import os, sys\n"
        "assert 'agent' not in sys.modules\n"
        "from agent.pod.runpod import RunPod\n"
        f"assert RunPod({POD!r}, {{'RUNPOD_API_KEY': os.environ['RUNPOD_API_KEY']}}).end('stop').done\n"
        "assert 'httpx2' in sys.modules\n"
    )
    environ = {
        "PYTHONPATH": f"{ROOT / 'tests' / 'at_runpod'}:{ROOT}",
        "FAKE_RUNPOD": api.endpoint,
        "RUNPOD_API_KEY": POD_KEY,
    }
    subprocess.run([sys.executable, "-c", code], env=environ, check=True)
    assert ended(api) == (1, 0)


def test_importing_the_module_is_cheap_and_at_the_real_runpod(tmp_path):
    code = (
        "import sys, agent.pod.runpod as it\n"
        "assert it.APIS.v2 == 'https://api.runpod.io/v2'\n"
        "assert 'httpx2' not in sys.modules and 'huggingface_hub' not in sys.modules\n"
    )
    environ = {"PYTHONPATH": f"{ROOT / 'tests' / 'at_runpod'}:{ROOT}"}
    subprocess.run([sys.executable, "-c", code], env=environ, check=True)


# The embedded RunPod enforces what the real one does


def raw(api, method, path, **options):
    headers = {"Authorization": f"Bearer {POD_KEY}", "User-Agent": "test"} | options.pop("headers", {})
    return httpx2.request(method, f"{api.endpoint}{path}", headers=headers, **options)


@pytest.mark.parametrize("agent", ["", "Python-urllib/3.11"])
@pytest.mark.parametrize("path", [f"/v2/pods/{POD}", f"/v1/pods/{POD}"])
def test_the_edge_refuses_who_does_not_say_who_they_are(path, agent, api):
    api.add_key(POD_KEY)
    assert raw(api, "GET", path).status_code == 200
    assert raw(api, "GET", path, headers={"User-Agent": agent}).status_code == 403


def test_a_key_in_the_address_is_refused(api):
    api.add_key(POD_KEY)
    assert raw(api, "GET", f"/v2/pods/{POD}?api_key={POD_KEY}").status_code == 400
    assert raw(api, "POST", f"/graphql?api_key={POD_KEY}", json={}).status_code == 400


@pytest.mark.parametrize(
    ("body", "status"),
    [({"action": "stop"}, 200), ({"action": "restart"}, 422), ({"action": "stop", "x": 1}, 422), ({}, 422)],
)
def test_v2_takes_exactly_an_action(body, status, api):
    api.add_key(POD_KEY)
    answer = raw(api, "POST", f"/v2/pods/{POD}/action", json=body)
    assert answer.status_code == status
    if status != 200:
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["status"] == 422


def test_a_stop_of_a_stopped_pod_is_a_conflict_in_v2_and_not_counted(api):
    api.add_key(POD_KEY)
    stop = {"action": "stop"}
    assert raw(api, "POST", f"/v2/pods/{POD}/action", json=stop).status_code == 200
    assert raw(api, "POST", f"/v2/pods/{POD}/action", json=stop).status_code == 409
    assert raw(api, "POST", f"/v1/pods/{POD}/stop").status_code == 200
    assert ended(api) == (1, 0)


def test_an_unknown_key_is_401_in_every_api(api):
    for method, path in (("GET", f"/v2/pods/{POD}"), ("GET", f"/v1/pods/{POD}"), ("POST", "/graphql")):
        assert raw(api, method, path).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "/v1/pods/", None),
        ("DELETE", "/v1/pods", None),
        ("POST", "/v1/pods//stop", None),
        ("DELETE", "/v2/pods/", None),
        ("POST", "/v2/pods//action", {"action": "terminate"}),
        ("DELETE", "/v1/pods/..%2Fx", None),
        ("POST", "/graphql", {"query": 'mutation{podTerminate(input:{podId:""})}'}),
        ("POST", "/graphql", {"query": "mutation($id:String!){podTerminate(input:{podId:$id})}"}),
    ],
)
def test_an_order_that_names_no_pod_is_kept_as_a_catastrophe(method, path, body, api):
    api.add_key(POD_KEY)
    raw(api, method, path, json=body)
    assert len(api.catastrophes) == 1
    api.catastrophes.clear()
    assert ended(api) == (0, 0)


@pytest.mark.parametrize(
    "query",
    [
        "{pod}",
        'query{podStop(input:{podId:"abc123xyz"}){id}}',
        'mutation{pod(input:{podId:"abc123xyz"}){id}}',
        'mutation{podStop(input:{podId:"abc123xyz"})}',
        'mutation{podTerminate(input:{podId:"abc123xyz"}){id}}',
    ],
)
def test_what_is_no_operation_of_graphql_is_refused(query, api):
    api.add_key(POD_KEY)
    answer = raw(api, "POST", "/graphql", json={"query": query}).json()
    assert answer["errors"]
    assert ended(api) == (0, 0)


def test_graphql_takes_the_id_inline_too(api):
    api.add_key(POD_KEY)
    look = raw(
        api, "POST", "/graphql", json={"query": f'query{{pod(input:{{podId:"{POD}"}}){{id desiredStatus}}}}'}
    )
    assert look.json() == {"data": {"pod": {"id": POD, "desiredStatus": "RUNNING"}}}
    stop = {"query": f'mutation{{podStop(input:{{podId:"{POD}"}}){{id desiredStatus}}}}'}
    assert raw(api, "POST", "/graphql", json=stop).json()["data"]["podStop"]["desiredStatus"] == "EXITED"
    gone = {"query": f'mutation{{podTerminate(input:{{podId:"{POD}"}})}}'}
    assert raw(api, "POST", "/graphql", json=gone).json() == {"data": {"podTerminate": None}}
    again = raw(api, "POST", "/graphql", json=gone)
    assert (again.status_code, again.json()["errors"]) == (200, [{"message": "pod not found to terminate"}])
