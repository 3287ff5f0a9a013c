"""The embedded Hub misbehaving on order: faults, limits and lies."""

import asyncio
import json
import os
import select
import socket
import threading

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import parse_ratelimit_headers

from agent.sandbox.hub import Fault, Hub
from agent.sandbox.loopback.traffic import ByteRate, CallRate

SIGNED = {"Authorization": "Bearer hf_ada"}
HEADER = '{"key":"header","value":{"summary":"m"}}'
ADD = HEADER + '\n{"key":"file","value":{"path":"a.txt","content":"eA==","encoding":"base64"}}'
CUT_OFF = (httpx2.NetworkError, httpx2.RemoteProtocolError)  # which one depends on what the client was doing


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_XET_CACHE", str(tmp_path / "xet"))
    with Hub(root=tmp_path / "hub") as running:
        running.add_user("ada", token="hf_ada")
        running.create_repo("ada/model")
        yield running


@pytest.fixture
def api(hub):
    return HfApi(endpoint=hub.endpoint, token="hf_ada")


@pytest.fixture
def client(hub):
    with httpx2.Client(base_url=hub.endpoint, headers=SIGNED, timeout=20) as opened:
        yield opened


def commit(client):
    return client.post("/api/models/ada/model/commit/main", content=ADD)


def until(condition):
    """Wait for what another thread is about to do."""
    for _ in range(2000):
        if condition():
            return
        threading.Event().wait(0.005)
    pytest.fail("nothing happened")


def commits(hub):
    return len(hub.repo("ada/model").commits()) - 1


def test_a_status_is_answered_instead_of_acting(hub, client):
    fault = hub.faults.add(Fault("status", r"^POST /api/.*/commit/", status=503, retry_after=7))
    answer = commit(client)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "7")
    assert answer.headers["X-Request-Id"]
    assert (fault.fired, commits(hub)) == (1, 0)
    assert hub.requests[-1].status == 503
    hub.faults.clear()
    assert commit(client).status_code == 200


def test_too_many_requests_carries_its_headers(hub, client):
    fault = hub.faults.add(Fault("status", status=429, retry_after=3))
    answer = client.get("/api/whoami-v2")
    assert parse_ratelimit_headers(answer.headers).reset_in_seconds == 3
    assert fault.fired == 1


@pytest.mark.parametrize(
    ("body", "kind"), [("<html>Bad gateway</html>", "text/html"), ('{"error":"busy"}', "application/json")]
)
def test_a_status_may_come_with_any_body(hub, client, body, kind):
    fault = hub.faults.add(Fault("status", status=502, body=body))
    answer = client.get("/api/whoami-v2")
    assert (answer.status_code, answer.text) == (502, body)
    assert answer.headers["Content-Type"].startswith(kind)
    assert fault.fired == 1


def test_a_reset_comes_before_acting(hub, client):
    fault = hub.faults.add(Fault("reset", "/commit/", times=1))
    with pytest.raises(CUT_OFF):
        commit(client)
    assert (fault.fired, commits(hub), hub.requests[-1].status) == (1, 0, None)
    assert commit(client).status_code == 200


def test_a_lost_answer_comes_after_acting(hub, client):
    fault = hub.faults.add(Fault("lost", "/commit/", times=1))
    with pytest.raises(CUT_OFF):
        commit(client)
    assert (fault.fired, commits(hub), hub.requests[-1].status) == (1, 1, None)
    assert hub.read("ada/model", "a.txt") == b"x"


def test_a_truncated_answer_breaks_off_halfway(hub, client):
    content = os.urandom(500_000)
    hub.commit("ada/model", {"w.bin": content})
    fault = hub.faults.add(Fault("truncated", "/resolve/|/commit/"))
    with client.stream("GET", "/ada/model/resolve/main/w.bin") as answer:
        assert answer.headers["Content-Length"] == "500000"
        with pytest.raises(httpx2.RemoteProtocolError, match="250000 bytes, expected 500000"):
            answer.read()
    with pytest.raises(httpx2.RemoteProtocolError):
        commit(client)
    assert (fault.fired, commits(hub)) == (2, 2)


def test_a_hang_ends_when_the_client_goes(hub, client):
    fault = hub.faults.add(Fault("hang", "/commit/"))
    with pytest.raises(httpx2.ReadTimeout):
        client.post("/api/models/ada/model/commit/main", content=ADD, timeout=0.1)
    assert (fault.fired, commits(hub), hub.requests[-1].status) == (1, 0, None)


def test_a_hang_ends_when_the_hub_closes(tmp_path):
    outcome = []
    with Hub() as hub:
        fault = hub.faults.add(Fault("hang"))
        arrived = threading.Event()
        hub.faults.due = _after(hub.faults.due, arrived)

        def ask():
            try:
                httpx2.put(f"{hub.endpoint}/lfs/x/9", content=b"x" * 3_000_000, timeout=20)
            except httpx2.TransportError as error:
                outcome.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        assert arrived.wait(10)
    thread.join(10)
    assert (fault.fired, len(outcome)) == (1, 1)


def _after(function, event):
    def called(*args):
        try:
            return function(*args)
        finally:
            event.set()

    return called


def test_slow_waits_and_then_acts(hub, client):
    fault = hub.faults.add(Fault("slow", "/commit/", delay_s=0.05))
    assert commit(client).status_code == 200
    assert (fault.fired, commits(hub)) == (1, 1)


def test_forget_loses_content_in_the_middle_of_an_upload(hub, api):
    fault = hub.faults.add(Fault("forget", "POST /v1/shards"))
    with pytest.raises(ConnectionError, match="400 Bad Request"):
        api.preupload_lfs_files("ada/model", [CommitOperationAdd("w.bin", os.urandom(99_999))])
    assert fault.fired == 1


def test_storage_faults_reach_hf_xet(hub, api, monkeypatch):
    for name, value in (("BASE_DELAY", "1ms"), ("MAX_ATTEMPTS", "3")):
        monkeypatch.setenv(f"HF_XET_CLIENT_RETRY_{name}", value)
    unavailable = hub.faults.add(Fault("status", "POST /v1/xorbs/", nth=0))
    reset = hub.faults.add(Fault("reset", "POST /v1/shards", nth=0))
    content = os.urandom(99_999)
    api.create_commit("ada/model", [CommitOperationAdd("w.bin", content)], commit_message="m")
    assert (unavailable.fired, reset.fired) == (1, 1)
    assert hub.read("ada/model", "w.bin") == content


def test_a_large_body_meets_a_status_without_a_broken_pipe(hub, client):
    fault = hub.faults.add(Fault("status", "PUT /lfs/", status=500))
    answer = client.put("/lfs/x/9", content=b"x" * 20_000_000)
    assert (answer.status_code, fault.fired) == (500, 1)
    assert hub.requests[-1].received_bytes == 20_000_000


def test_an_upload_that_breaks_off_leaves_nothing(hub, client, caplog):
    token = client.get("/api/models/ada/model/xet-write-token/main").json()["accessToken"]
    host, port = hub.endpoint.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as wire:
        head = f"POST /v1/xorbs/default/{'1' * 64} HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n"
        wire.sendall(f"{head}Authorization: Bearer {token}\r\n\r\nhalf".encode())
        until(lambda: list(hub.content._spool.iterdir()))
    until(lambda: len(hub.requests) == 2)
    assert hub.requests[1].status is None
    assert not list(hub.content._spool.iterdir())
    hub.close()
    assert not caplog.records


def test_nth_counts_the_requests_that_match(hub, client):
    first = hub.faults.add(Fault("status", "GET /api/whoami", nth={0, 2}, status=500))
    second = hub.faults.add(Fault("status", "GET /api", nth=1, status=501))
    assert [client.get("/api/whoami-v2").status_code for _ in range(4)] == [500, 501, 500, 200]
    assert (first.fired, second.fired) == (2, 1)


def test_chance_is_the_same_under_the_same_seed(hub, client):
    def run(seed):
        hub.faults.clear()
        fault = hub.faults.add(Fault("status", probability=0.5, seed=seed))
        statuses = [client.get("/api/whoami-v2").status_code for _ in range(20)]
        assert statuses.count(503) == fault.fired
        return statuses

    assert run(1) == run(1) != run(2)
    assert 0 < run(1).count(503) < 20


def test_times_limits_how_often_a_fault_fires(hub, client):
    fault = hub.faults.add(Fault("status", times=2))
    assert [client.get("/api/whoami-v2").status_code for _ in range(4)] == [503, 503, 200, 200]
    assert fault.fired == 2


def test_a_library_call_that_is_not_retried_fails_on_the_first_fault(hub, api):
    fault = hub.faults.add(Fault("status", "POST /api/repos/create"))
    with pytest.raises(HfHubHTTPError):
        api.create_repo("ada/other")
    assert fault.fired == 1


def test_every_request_is_accounted_for(hub, client):
    commit(client)
    client.get("/ada/model/resolve/main/a.txt")
    client.get("/v1/chunks/default/x")
    client.get("/api/models/ada/model/xet-read-token/main?x=1")
    seen = [
        (r.index, r.method, r.kind, r.status, r.user, r.received_bytes, r.sent_bytes) for r in hub.requests
    ]
    assert seen[0][:6] == (0, "POST", "api", 200, "ada", len(ADD))
    assert seen[1] == (1, "GET", "resolve", 200, "ada", 0, 1)
    assert [row[2] for row in seen] == ["api", "resolve", "cas", "token"]
    assert (hub.requests[3].path[-22:], hub.requests[3].query) == ("el/xet-read-token/main", "x=1")
    assert hub.requests[0].headers["authorization"] == "Bearer hf_ada"


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        self.now += seconds


def test_bandwidth_is_shared_by_all_bodies():
    async def run():
        clock = Clock()
        rate = ByteRate(1000, clock=clock, sleep=clock.sleep)
        for count in (500, 250, 250):
            await rate.take(count)
        assert clock.now == pytest.approx(101)
        clock.now += 60
        await rate.take(1000)  # an idle minute earned nothing
        assert clock.now == pytest.approx(162)
        assert rate.taken == 2000

    asyncio.run(run())


def test_every_byte_received_goes_through_the_limit(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_XET_CACHE", str(tmp_path / "xet"))
    with Hub(rate_bytes_s=50e6) as hub:
        hub.add_user("ada", token="hf_ada")
        hub.create_repo("ada/model")
        content = os.urandom(1_000_000)
        api = HfApi(endpoint=hub.endpoint, token="hf_ada")
        api.create_commit("ada/model", [CommitOperationAdd("w.bin", content)], commit_message="m")
        assert hub.rate.taken == sum(request.received_bytes for request in hub.requests) > len(content)


def test_a_sender_is_slowed_by_tcp_not_by_memory():
    opened = threading.Event()

    async def gate(_seconds):
        await asyncio.to_thread(opened.wait, 20)

    size = 64 * 2**20
    with Hub(rate_bytes_s=1e12) as hub:
        hub.rate._sleep = gate
        port = int(hub.endpoint.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as wire:
            wire.sendall(f"PUT /lfs/x/9 HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode())
            wire.setblocking(False)
            sent = 0
            while select.select([], [wire], [], 0.3)[1]:
                sent += wire.send(b"x" * 2**16)
            assert sent < size // 2
            opened.set()
            wire.setblocking(True)
            wire.sendall(b"x" * (size - sent))
            assert wire.recv(12) == b"HTTP/1.1 403"
        assert hub.requests[-1].received_bytes == size


def test_latency_delays_the_answer_not_the_deed():
    with Hub(latency_s=0.01) as hub:
        assert httpx2.get(f"{hub.endpoint}/api/whoami-v2").status_code == 401


def test_calls_beyond_the_rate_are_told_when_to_come_again():
    clock = Clock()
    calls = CallRate(2, clock=clock)
    assert [calls.admit() for _ in range(3)] == [None, None, 1]
    clock.now += 0.5
    assert [calls.admit(), calls.admit()] == [None, 1]
    assert CallRate(None).admit() is None


def test_the_api_answers_429_beyond_its_rate():
    with Hub(api_rate_s=0.001) as hub:
        hub.add_user("ada", token="hf_ada")
        first, second = (httpx2.get(f"{hub.endpoint}/api/whoami-v2", headers=SIGNED) for _ in range(2))
        assert (first.status_code, second.status_code) == (200, 429)
        assert parse_ratelimit_headers(first.headers).remaining == 0
        assert (
            parse_ratelimit_headers(second.headers).reset_in_seconds
            == int(second.headers["Retry-After"])
            > 900
        )
        assert httpx2.get(f"{hub.endpoint}/v1/chunks/default/x").status_code == 404


def listed(api):
    return {file.path: file for file in api.list_repo_tree("ada/model", recursive=True)}


def test_listings_lie_as_told_and_stop_lying_when_cleared(hub, api):
    hub.commit("ada/model", {"w.bin": b"\0w", "a.txt": b"a", "b.txt": b"b"})
    truth = listed(api)
    hub.tamper.tree_sha256("ada/model", "w.bin", "0" * 64)
    hub.tamper.tree_xet_hash("ada/model", "w.bin", "1" * 64)
    hub.tamper.tree_size("ada/model", "w.bin", 3)
    hub.tamper.tree_oid("ada/model", "a.txt", "2" * 40)
    hub.tamper.hide("ada/model", "b.txt")
    hub.tamper.extra("ada/model", "ghost.txt")
    lies = listed(api)
    assert (lies["w.bin"].lfs.sha256, lies["w.bin"].xet_hash, lies["w.bin"].size) == ("0" * 64, "1" * 64, 3)
    assert lies["a.txt"].blob_id == "2" * 40
    assert lies.keys() == truth.keys() - {"b.txt"} | {"ghost.txt"}
    assert "ghost.txt" in [sibling.rfilename for sibling in api.model_info("ada/model").siblings]
    assert [info.path for info in api.get_paths_info("ada/model", ["b.txt", "ghost.txt"])] == ["ghost.txt"]
    assert hub.read("ada/model", "b.txt") == b"b"
    hub.create_repo("ada/other")
    hub.commit("ada/other", {"a.txt": b"a", "b.txt": b"b"})
    others = {file.path: file.blob_id for file in api.list_repo_tree("ada/other")}
    assert others.keys() == {".gitattributes", "a.txt", "b.txt"}
    assert others["a.txt"] == truth["a.txt"].blob_id
    hub.tamper.clear()
    assert listed(api) == truth


def test_a_commit_may_drop_a_file_and_answer_success(hub, api):
    hub.tamper.commit_drops("b.txt")
    add = [CommitOperationAdd("a.txt", b"a"), CommitOperationAdd("b.txt", b"b")]
    oid = api.create_commit("ada/model", add, commit_message="m").oid
    assert hub.repo("ada/model").head() == oid
    assert "b.txt" not in listed(api)


def test_a_bug_in_a_route_is_a_500_and_not_silence(hub, client, caplog):
    hub.repos["ada/model"] = None
    hub.access.check_read = lambda *_: None
    answer = client.get("/api/models/ada/model")
    assert (answer.status_code, json.loads(answer.text)["error"][:14]) == (500, "Internal Error")
    assert "AttributeError" in caplog.text
