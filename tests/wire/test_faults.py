"""What finalize makes of a Hub that fails, hangs up, loses answers and lies about being busy."""

from __future__ import annotations

import json

import pytest

from agent.config import load
from agent.errors import HubAuthError, HubRefusedError, HubUnreachableError
from agent.finalize import finalize
from agent.hub.client import HubClient
from agent.hub.repo import Repo
from agent.outcome import Outcome
from agent.retry import Patience
from agent.sandbox.hub import Fault, Hub
from tests.conftest import TOKEN

JOB = "7d9f5f5c-1111-4a3b-9c5e-0123456789ab"
ROUTES = {
    "whoami": "GET /api/whoami",
    "info": r"GET /api/models/ada/model$",
    "create": "POST /api/repos/create",
    "commits": "GET /api/models/ada/model/commits",
    "tree": "GET /api/models/ada/model/tree",
    "preupload": "POST /api/models/ada/model/preupload",
    "validate": "POST /api/validate-yaml",
    "commit": "POST /api/models/ada/model/commit",
    "tag": "POST /api/models/ada/model/tag",
}
HTML = "<html><body>Bad gateway</body></html>"
MISFORTUNES = {
    "503": {"kind": "status", "status": 503},
    "html": {"kind": "status", "status": 502, "body": HTML},
    "429": {"kind": "status", "status": 429, "retry_after": 7},
    "reset": {"kind": "reset"},
    "truncated": {"kind": "truncated"},
    "lost": {"kind": "lost"},
}


def commits(hub):
    return [c for c in hub.repo("ada/model").commits("main") if "Finalize-Id: " in c.message]


@pytest.mark.parametrize("misfortune", MISFORTUNES)
@pytest.mark.parametrize("route", ROUTES)
def test_one_failed_call_is_asked_again_and_leaves_one_commit(route, misfortune, pod, hub, trained):
    fault = hub.faults.add(Fault(match=ROUTES[route], nth=0, **MISFORTUNES[misfortune]))
    outcome = pod.finalize(trained("sft_full"), HF_REPO_NAME="model")
    assert fault.fired == 1
    assert (outcome.result, outcome.published) == ("completed", True)
    assert len(commits(hub)) == 1
    assert hub.repo("ada/model").tags == {f"job-{outcome.job_id[:8]}": outcome.commit}
    if (route, misfortune) != ("tag", "truncated"):  # nobody reads the body of that answer
        assert pod.clock.slept, "it must wait before it asks again"
    if misfortune == "429":
        assert max(pod.clock.slept) >= 7


@pytest.mark.parametrize("body", ["{}", "[]", "[1]", '[{"path": "x"}]', '"text"', "null"])
@pytest.mark.parametrize("route", ["commits", "tree", "preupload", "info"])
def test_an_answer_of_another_shape_is_asked_for_again(route, body, pod, hub, trained):
    fault = hub.faults.add(Fault("status", match=ROUTES[route], status=200, body=body, times=1))
    hub.create_repo("ada/model", private=True)
    assert pod.finalize(trained("sft_full")).published
    assert fault.fired == 1
    assert len(commits(hub)) == 1


@pytest.mark.parametrize("misfortune", ["503", "reset", "lost"])
@pytest.mark.parametrize(
    "route", ["xet-write-token", "POST /v1/xorbs", "POST /v1/shards", "POST /v1/xorb-grants"]
)
def test_storage_that_stumbles_still_gets_the_content(route, misfortune, pod, hub, trained):
    fault = hub.faults.add(Fault(match=route, times=3, **MISFORTUNES[misfortune]))
    folder = trained("sft_full")
    assert pod.finalize(folder).published
    assert fault.fired >= 1
    assert hub.read("ada/model", "model.safetensors") == (folder / "model.safetensors").read_bytes()


def test_content_that_storage_forgot_while_the_cache_remembers_is_sent_again(pod, hub, trained):
    fault = hub.faults.add(Fault("forget", match="POST /v1/shards", nth=0))
    folder = trained("sft_full")
    assert pod.finalize(folder).published
    assert fault.fired == 1
    assert hub.read("ada/model", "model.safetensors") == (folder / "model.safetensors").read_bytes()
    assert not [request for request in hub.requests if request.kind == "lfs"]


def test_a_lost_answer_to_the_commit_is_looked_for_before_anything_is_sent_again(pod, hub, trained):
    fault = hub.faults.add(Fault("lost", match=ROUTES["commit"], nth=0))
    pod.finalize(trained("sft_full"))
    assert fault.fired == 1
    assert len([r for r in hub.requests if "/commit/" in r.path]) == 1


@pytest.mark.parametrize("seed", range(6))
def test_a_hub_that_fails_every_fifth_call_at_random_still_ends_in_one_proven_commit(seed, pod, hub, trained):
    faults = [
        hub.faults.add(Fault(probability=0.05, seed=seed * 10 + number, **how))
        for number, how in enumerate(MISFORTUNES.values())
    ]
    folder = trained("sharded")
    outcome = pod.finalize(folder)
    assert sum(fault.fired for fault in faults) > 0
    assert outcome.result == "completed"
    assert len(commits(hub)) == 1
    for path in folder.iterdir():
        assert hub.read("ada/model", path.name) == path.read_bytes()


def test_a_hub_that_is_down_means_run_again_and_the_row_does_not_say_failed(pod, hub, trained):
    fault = hub.faults.add(Fault("status", status=503))
    outcome = Outcome()
    with pytest.raises(HubUnreachableError) as caught:
        pod.finalize(trained("sft_full"), outcome, JOB_ID=JOB)
    assert fault.fired > 3
    assert (caught.value.exit_code, outcome.published) == (75, False)
    assert 800 < sum(pod.clock.slept) <= 900
    row = pod.state_dir / JOB / "row.json"
    assert not row.exists() or json.loads(row.read_text())["status"] != "failed"


def test_a_hub_that_goes_down_after_the_commit_is_continued_by_the_next_run(pod, hub, trained):
    folder = trained("sft_full")
    fault = hub.faults.add(Fault("status", match="GET /api/models/ada/model/tree", nth=set(range(1, 200))))
    with pytest.raises(HubUnreachableError):
        pod.finalize(folder, JOB_ID=JOB)
    assert fault.fired > 3
    assert pod.row(JOB)["status"] == "running"
    hub.faults.clear()
    assert pod.finalize(folder, JOB_ID=JOB).result == "completed"
    assert len(commits(hub)) == 1
    assert pod.row(JOB)["status"] == "completed"


def test_a_deadline_ends_even_a_hub_that_moves_a_little(pod, hub, trained):
    hub.faults.add(Fault("status", match="commit/main"))
    with pytest.raises(HubUnreachableError):
        pod.finalize(trained("sft_full"), AGENT_DEADLINE_S="60")
    assert sum(pod.clock.slept) <= 60


def test_storage_that_never_answers_is_given_up_when_nothing_moves(pod, hub, trained):
    """The upload is ended by our own watch, long before hf_xet would lose patience."""
    fault = hub.faults.add(Fault("hang", match="POST /v1/xorbs"))

    def passing() -> float:
        pod.clock.now += 50.0 if fault.fired else 0.0
        return pod.clock.now

    config = load(pod.environ(trained("sft_full")))
    with pytest.raises(HubUnreachableError, match="AGENT_STALL_S"):
        finalize(config, Outcome(), Patience(120.0, clock=passing, sleep=pod.clock.sleep))
    assert fault.fired == 1


@pytest.mark.parametrize(
    ("status", "error"), [(401, HubAuthError), (403, HubAuthError), (400, HubRefusedError)]
)
def test_a_no_is_never_asked_twice(status, error, pod, hub, trained):
    fault = hub.faults.add(Fault("status", match=ROUTES["preupload"], status=status))
    with pytest.raises(error):
        pod.finalize(trained("sft_full"))
    assert fault.fired == 1


def test_a_tag_that_cannot_be_set_does_not_spoil_a_proven_publication(pod, hub, trained):
    fault = hub.faults.add(Fault("status", match=ROUTES["tag"], status=403))
    assert pod.finalize(trained("sft_full")).result == "completed"
    assert fault.fired == 1


def test_a_listing_goes_on_at_the_hub_that_was_asked_whatever_it_names(pod, hub, trained, tmp_path):
    """Pages of a mirror name the Hub that it mirrors; the token was given to the mirror."""
    pod.finalize(trained("sharded"))
    asked = Repo(HubClient(endpoint=hub.endpoint, token=TOKEN, patience=Patience(10.0)), "ada/model", "main")
    whole, hub.tree_page = asked.tree("main"), 2
    with Hub(root=tmp_path / "other") as other:
        own, hub.endpoint = hub.endpoint, other.endpoint
        try:
            assert asked.tree("main") == whole
        finally:
            hub.endpoint = own
        assert not other.requests
