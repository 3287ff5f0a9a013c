"""The embedded Hub's xet storage: driven by hf_xet, and by shards that lie."""

import array
import hashlib
import os
import random
import socket
import struct
from pathlib import Path

import httpx2
import lz4.frame
import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

from agent.sandbox.hub import Hub, shard
from agent.sandbox.hub.xorb import Xorb, hash_hex

SIGNED = {"Authorization": "Bearer hf_ada"}
END = b"\xff" * 32 + b"\0" * 16


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_XET_CACHE", str(tmp_path / "xet"))
    with Hub(root=tmp_path / "hub") as running:
        running.add_user("ada", token="hf_ada")
        running.add_user("bob", token="hf_bob")
        running.create_repo("ada/model")
        yield running


@pytest.fixture
def api(hub):
    return HfApi(endpoint=hub.endpoint, token="hf_ada")


@pytest.fixture
def cas(hub):
    """An HTTP client with a token to write to xet storage."""
    token = httpx2.get(f"{hub.endpoint}/api/models/ada/model/xet-write-token/main", headers=SIGNED).json()
    bearer = {"Authorization": f"Bearer {token['accessToken']}"}
    with httpx2.Client(base_url=token["casUrl"], headers=bearer) as client:
        yield client


def upload(api, content, path="w.bin"):
    api.create_commit("ada/model", [CommitOperationAdd(path, content)], commit_message="m")


def download(api, path, folder):
    return Path(api.hf_hub_download("ada/model", path, cache_dir=folder)).read_bytes()


def schemes(hub):
    """Return the kinds of chunks in storage, read from the chunk headers."""
    found = set()
    for path in hub.content.cas.root.iterdir():
        data = path.read_bytes()
        found |= {data[offset + 4] for offset in Xorb.parse(path).offsets[:-1]}
    return found


def raw(*hashes):
    """Spell hashes the way shards hold them."""
    return [struct.pack("<4Q", *(int(h[i : i + 16], 16) for i in range(0, 64, 16))) for h in hashes]


def make_chunk(data, scheme=0):
    packed = data
    if scheme == 2:
        packed = b"".join(data[position::4] for position in range(4))
    if scheme:
        packed = lz4.frame.compress(packed)
    return (
        b"\0" + len(packed).to_bytes(3, "little") + bytes([scheme]) + len(data).to_bytes(3, "little") + packed
    )


def make_shard(segments, sha256, *, name="ab" * 32, xorbs=()):
    """Write a shard of one file; segments and xorbs are (hash, …numbers in the order of the format)."""
    rows = b"HFRepoMetaData".ljust(32, b"\0") + struct.pack("<QQ", 2, 0)
    rows += raw(name)[0] + struct.pack("<IIQ", 1 << 30, len(segments), 0)
    rows += b"".join(
        raw(xorb)[0] + struct.pack("<4I", 0, size, start, end) for xorb, size, start, end in segments
    )
    rows += raw(sha256)[0] + b"\0" * 16 + END
    for xorb, count, size in xorbs:
        rows += raw(xorb)[0] + struct.pack("<4I", 0, count, size, 0) + b"\0" * 48 * count
    return rows + END


def sha(data):
    return hashlib.sha256(data).hexdigest()


X1, X2 = "11" * 32, "22" * 32
ONE, TWO, THREE = b"one " * 999, bytes(range(256)) * 7 + b"odd", b"three" * 5


@pytest.fixture
def stored(cas):
    """Two xorbs in storage: X1 holds chunks ONE, TWO, THREE of all three schemes, X2 holds THREE."""
    chunks = make_chunk(ONE, 1) + make_chunk(TWO, 2) + make_chunk(THREE, 0)
    assert cas.post(f"/v1/xorbs/default/{X1}", content=chunks).json() == {"was_inserted": True}
    assert cas.post(f"/v1/xorbs/default/{X2}", content=make_chunk(THREE)).json() == {"was_inserted": True}


DICE = random.Random(1)
FLOATS = array.array("f", (DICE.gauss(0, 0.02) for _ in range(50_000))).tobytes()


@pytest.mark.parametrize(
    ("content", "scheme"),
    [(b"compressible text, " * 11_000, 1), (FLOATS, 2), (DICE.randbytes(200_000), 0)],
    ids=["text", "floats", "noise"],
)
def test_content_comes_back_byte_for_byte_whatever_its_compression(hub, api, tmp_path, content, scheme):
    upload(api, content)
    assert scheme in schemes(hub)
    assert download(api, "w.bin", tmp_path) == content == hub.read("ada/model", "w.bin")
    entry = next(iter(api.get_paths_info("ada/model", "w.bin")))
    assert (entry.lfs.sha256, entry.size) == (sha(content), len(content))
    assert len(entry.xet_hash) == 64


def test_a_file_that_spans_xorbs_comes_back(hub, api, tmp_path):
    content = os.urandom(70 * 2**20)
    upload(api, content)
    assert len(list(hub.content.cas.root.iterdir())) == 2
    assert download(api, "w.bin", tmp_path) == content
    fetched = [r for r in hub.requests if r.path.startswith("/xorbs/")]
    assert {r.status for r in fetched} == {206}
    assert all("authorization" not in r.headers for r in fetched)


def test_known_content_is_not_sent_again(hub, api):
    content = os.urandom(300_000)
    api.preupload_lfs_files("ada/model", [CommitOperationAdd("a.bin", content)])
    sent = len(hub.requests)
    upload(api, content, "b.bin")
    assert not [r for r in hub.requests[sent:] if "/v1/xorbs/" in r.path]
    assert hub.read("ada/model", "b.bin") == content


def test_reading_needs_no_hf_xet(hub, api):
    content = os.urandom(200_000)
    upload(api, content)
    url = f"{hub.endpoint}/ada/model/resolve/main/w.bin"
    assert httpx2.get(url).content == content
    part = httpx2.get(url, headers={"Range": "bytes=70000-139999"})
    assert (part.status_code, part.content) == (206, content[70_000:140_000])
    assert part.headers["Content-Range"] == "bytes 70000-139999/200000"
    assert httpx2.get(url, headers={"Range": "bytes=-5"}).content == content[-5:]
    assert httpx2.get(url, headers={"Range": "bytes=200000-"}).status_code == 416


def test_a_head_request_tells_where_a_file_lies(hub, api):
    upload(api, b"\0" * 999)
    hub.commit("ada/model", {"a.txt": b"hello\n"})
    head = httpx2.head(f"{hub.endpoint}/ada/model/resolve/main/w.bin")
    commit = hub.repo("ada/model").head()
    entry = hub.repo("ada/model").resolve("main").tree["w.bin"]
    assert (head.headers["X-Repo-Commit"], head.headers["Content-Length"]) == (commit, "999")
    assert head.headers["ETag"] == head.headers["X-Linked-Etag"] == f'"{sha(bytes(999))}"'
    assert (head.headers["X-Linked-Size"], head.headers["X-Xet-Hash"]) == ("999", entry.xet_hash)
    assert head.headers["X-Xet-Refresh-Route"].endswith(f"/xet-read-token/{commit}")
    regular = httpx2.head(f"{hub.endpoint}/ada/model/resolve/main/a.txt").headers
    assert regular["ETag"] == f'"{hub.repo("ada/model").resolve("main").tree["a.txt"].oid}"'
    assert "X-Linked-Size" not in regular
    missing = httpx2.get(f"{hub.endpoint}/ada/model/resolve/main/b.txt")
    assert (missing.status_code, missing.headers["X-Error-Code"]) == (404, "EntryNotFound")
    with pytest.raises(EntryNotFoundError):
        api.hf_hub_download("ada/model", "b.txt", local_dir=hub.content._spool)


def test_a_truthful_shard_is_taken_once(cas, hub, stored):
    segments = [(X1, len(TWO + THREE), 1, 3), (X2, len(THREE), 0, 1), (X1, len(ONE), 0, 1)]
    body = make_shard(segments, sha(TWO + THREE + THREE + ONE), xorbs=[(X2, 1, len(THREE))])
    assert cas.post("/v1/shards", content=body).json() == {"result": 1}
    assert cas.post("/v1/shards", content=body).json() == {"result": 0}
    file = hub.content.cas.file(hash_hex(b"\xab" * 32))
    assert b"".join(hub.content.cas.read(file, 0, file.size)) == TWO + THREE + THREE + ONE


def test_a_proven_file_is_not_read_again(cas, stored, monkeypatch):
    body = make_shard([(X1, len(ONE), 0, 1)], sha(ONE))
    assert cas.post("/v1/shards", content=body).json() == {"result": 1}
    monkeypatch.setattr(Xorb, "unpack", lambda *_: pytest.fail("read again"))
    assert cas.post("/v1/shards", content=body).json() == {"result": 0}


LIES = {
    "a sha256 of something else": ([(X1, len(ONE), 0, 1)], sha(TWO), ()),
    "an unknown xorb": ([("33" * 32, 4, 0, 1)], sha(ONE), ()),
    "chunks beyond the end": ([(X1, len(ONE + TWO + THREE), 0, 4)], sha(ONE + TWO + THREE), ()),
    "chunks back to front": ([(X1, 0, 2, 1)], sha(b""), ()),
    "no chunks": ([(X1, 0, 1, 1)], sha(b""), ()),
    "a length too long": ([(X1, len(ONE) + 1, 0, 1)], sha(ONE), ()),
    "an unknown xorb among the xorbs": ([(X1, len(ONE), 0, 1)], sha(ONE), [("33" * 32, 1, 4)]),
    "a xorb with other chunks": ([(X1, len(ONE), 0, 1)], sha(ONE), [(X1, 2, len(ONE + TWO + THREE))]),
    "a xorb of another size": ([(X1, len(ONE), 0, 1)], sha(ONE), [(X1, 3, len(ONE))]),
}


@pytest.mark.parametrize("what", LIES)
def test_a_shard_that_lies_is_refused(cas, hub, stored, what):
    segments, sha256, xorbs = LIES[what]
    answer = cas.post("/v1/shards", content=make_shard(segments, sha256, xorbs=xorbs))
    assert (answer.status_code, answer.json()["error"][:14]) == (400, "Invalid shard:")
    assert hub.content.find_large(sha256) is None


def test_a_shard_with_one_lie_registers_nothing(cas, hub, stored):
    honest = make_shard([(X1, len(ONE), 0, 1)], sha(ONE))
    lying = make_shard([(X1, len(TWO), 1, 2)], sha(ONE), name="cd" * 32)
    both = honest[:-96] + lying[48:]
    assert len(shard.parse(both).files) == 2
    assert cas.post("/v1/shards", content=both).status_code == 400
    assert hub.content.find_large(sha(ONE)) is None
    assert cas.post("/v1/shards", content=honest).status_code == 200


def test_a_xet_hash_keeps_its_content(cas, stored):
    assert cas.post("/v1/shards", content=make_shard([(X1, len(ONE), 0, 1)], sha(ONE))).status_code == 200
    other = make_shard([(X1, len(TWO), 1, 2)], sha(TWO))
    assert cas.post("/v1/shards", content=other).status_code == 400


@pytest.mark.parametrize("change", ["flip the sha256", "cut", "append", "bad tag", "bad version"])
def test_a_real_shard_altered_is_refused(hub, api, cas, monkeypatch, change):
    seen = []
    parse = shard.parse
    monkeypatch.setattr(shard, "parse", lambda data: seen.append(data) or parse(data))
    content = os.urandom(150_000)
    api.preupload_lfs_files("ada/model", [CommitOperationAdd("w.bin", content)])
    (body,) = seen
    assert cas.post("/v1/shards", content=body).status_code == 200
    at = body.index(raw(sha(content))[0])
    altered = {
        "flip the sha256": body[:at] + raw(sha(b"other"))[0] + body[at + 32 :],
        "cut": body[:-48],
        "append": body + b"\0" * 48,
        "bad tag": b"X" + body[1:],
        "bad version": body[:32] + struct.pack("<Q", 3) + body[40:],
    }[change]
    assert cas.post("/v1/shards", content=altered).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0\1",
        make_chunk(ONE)[:-1],
        make_chunk(ONE) + b"\0\0",
        b"\1" + make_chunk(ONE)[1:],
        make_chunk(ONE, 0)[:4] + b"\3" + make_chunk(ONE)[5:],
        make_chunk(b""),
    ],
    ids=["empty", "short", "cut", "trailing", "version", "scheme", "empty chunk"],
)
def test_a_broken_xorb_is_refused(cas, hub, body):
    assert cas.post(f"/v1/xorbs/default/{X1}", content=body).status_code == 400
    assert not hub.content.cas.has_xorb(X1)
    assert not list(hub.content._spool.iterdir())


def test_a_xorb_may_end_in_a_footer_and_is_kept_once(cas):
    body = make_chunk(ONE) + b"XETBLOB" + b"\0" * 99
    assert cas.post(f"/v1/xorbs/default/{X1}", content=body).json() == {"was_inserted": True}
    assert cas.post(f"/v1/xorbs/default/{X1}", content=body).json() == {"was_inserted": False}
    assert cas.post(f"/v1/xorbs/default/{'x' * 64}", content=body).status_code == 400


def test_a_xorb_that_does_not_unpack_cannot_make_a_file(cas):
    broken = make_chunk(ONE, 1)
    cas.post(f"/v1/xorbs/default/{X1}", content=broken[:20] + b"\xff" * 9 + broken[29:])
    cas.post(f"/v1/xorbs/default/{X2}", content=make_chunk(ONE)[:5] + b"\1\0\0" + ONE)
    for name, size in ((X1, len(ONE)), (X2, 1)):
        body = make_shard([(name, size, 0, 1)], sha(ONE))
        assert cas.post("/v1/shards", content=body).status_code == 400


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (3996, 3997), (3990, 4000), (5000, 5810), (0, 5816)])
def test_a_range_is_put_together_from_whole_chunks(cas, stored, start, stop):
    content = ONE + TWO + THREE
    cas.post("/v1/shards", content=make_shard([(X1, len(content), 0, 3)], sha(content)))
    answer = cas.get(
        f"/v1/reconstructions/{'ab' * 32}", headers={"Range": f"bytes={start}-{stop - 1}"}
    ).json()
    rebuilt = b""
    for term in answer["terms"]:
        (part,) = answer["fetch_info"][term["hash"]]
        assert part["range"] == term["range"]
        span = part["url_range"]
        packed = httpx2.get(part["url"], headers={"Range": f"bytes={span['start']}-{span['end']}"})
        assert packed.status_code == 206
        assert len(packed.content) == span["end"] - span["start"] + 1
        rebuilt += b"".join((ONE, TWO, THREE)[term["range"]["start"] : term["range"]["end"]])
        assert term["unpacked_length"] == len(rebuilt)
    at = answer["offset_into_first_range"]
    assert rebuilt[at : at + stop - start] == content[start:stop]
    assert at < len(ONE)


def test_reconstruction_of_the_unknown_is_refused(cas, stored):
    assert cas.get(f"/v1/reconstructions/{'00' * 32}").status_code == 404
    cas.post("/v1/shards", content=make_shard([(X1, len(ONE), 0, 1)], sha(ONE)))
    beyond = {"Range": f"bytes={len(ONE)}-"}
    assert cas.get(f"/v1/reconstructions/{'ab' * 32}", headers=beyond).status_code == 416
    unsigned = cas.get(f"/xorbs/{X1}")
    assert unsigned.status_code == 403


def test_what_this_storage_does_not_offer_is_a_404(cas):
    assert cas.get(f"/v1/chunks/default/{X1}").status_code == 404
    assert cas.post(f"/v1/xorb-grants/default/{X1}").status_code == 404
    assert cas.post("/v2/shards").status_code == 404
    assert cas.get(f"/v2/reconstructions/{X1}").status_code == 404
    assert cas.post("/v1/telemetry", json={}).status_code == 200


def test_storage_is_closed_without_a_good_token(hub, cas, stored, monkeypatch):
    reading = httpx2.get(f"{hub.endpoint}/api/models/ada/model/xet-read-token/main").json()["accessToken"]
    for bearer, status in (("xet_wrong", 401), ("hf_ada", 401), (reading, 403)):
        headers = {"Authorization": f"Bearer {bearer}"}
        assert (
            cas.post(f"/v1/xorbs/default/{X1}", content=make_chunk(ONE), headers=headers).status_code
            == status
        )
        assert cas.post("/v1/shards", content=make_shard([], sha(b"")), headers=headers).status_code == status
    assert cas.get(f"/v1/reconstructions/{X1}", headers={"Authorization": "Bearer no"}).status_code == 401
    assert (
        cas.get(f"/v1/reconstructions/{X1}", headers={"Authorization": f"Bearer {reading}"}).status_code
        == 404
    )
    monkeypatch.setattr("agent.sandbox.hub.tickets.time.time", lambda: 2**40)
    assert cas.post("/v1/shards", content=b"").status_code == 401


def test_a_token_for_storage_is_short_lived_and_follows_the_rights(hub):
    hub.create_repo("ada/hidden", private=True)
    answer = httpx2.get(f"{hub.endpoint}/api/models/ada/model/xet-write-token/main", headers=SIGNED)
    token = answer.json()
    assert answer.headers["X-Xet-Cas-Url"] == token["casUrl"] == hub.endpoint
    assert answer.headers["X-Xet-Access-Token"] == token["accessToken"]
    assert answer.headers["X-Xet-Token-Expiration"] == str(token["exp"])
    assert answer.headers["Date"]
    bob = {"Authorization": "Bearer hf_bob"}
    for route, status in (
        ("ada/model/xet-write-token/main", 403),
        ("ada/model/xet-read-token/main", 200),
        ("ada/model/xet-read-token/nowhere", 404),
        ("ada/hidden/xet-read-token/main", 404),
    ):
        assert httpx2.get(f"{hub.endpoint}/api/models/{route}", headers=bob).status_code == status


def test_lost_content_is_missed_until_it_is_sent_again(hub, api, monkeypatch, tmp_path):
    kept, lost = os.urandom(200_000), os.urandom(200_000)
    upload(api, kept, "kept.bin")
    api.preupload_lfs_files("ada/model", [CommitOperationAdd("lost.bin", lost)])
    hub.forget_content()
    assert hub.read("ada/model", "kept.bin") == kept
    assert len(list(hub.content.cas.root.iterdir())) == 1
    line = {"path": "lost.bin", "algo": "sha256", "oid": sha(lost), "size": len(lost)}
    body = '{"key":"header","value":{"summary":"m"}}\n' + str({"key": "lfsFile", "value": line}).replace(
        "'", '"'
    )
    url = f"{hub.endpoint}/api/models/ada/model/commit/main"
    assert httpx2.post(url, content=body, headers=SIGNED).status_code == 400
    with pytest.raises(ConnectionError, match=r"400 Bad Request.*/v1/shards"):
        upload(api, lost, "lost.bin")
    monkeypatch.setenv("HF_XET_CACHE", str(tmp_path / "clean"))
    upload(api, lost, "lost.bin")
    assert hub.read("ada/model", "lost.bin") == lost


def test_lfs_objects_are_lost_too(hub):
    hub.commit("ada/model", {"kept.bin": b"\0kept"})
    lost = hub.content.add_large(b"\0lost")
    hub.forget_content()
    assert hub.read("ada/model", "kept.bin") == b"\0kept"
    assert hub.content.find_large(lost.sha256) is None


def test_a_hub_without_xet_shows_no_xet(hub, api):
    content = os.urandom(50_000)
    upload(api, content)
    hub.xet_enabled = False
    assert next(iter(api.get_paths_info("ada/model", "w.bin"))).xet_hash is None
    for route in ("xet-write-token", "xet-read-token"):
        answer = httpx2.get(f"{hub.endpoint}/api/models/ada/model/{route}/main", headers=SIGNED)
        assert answer.status_code == 404
    answer = httpx2.get(f"{hub.endpoint}/ada/model/resolve/main/w.bin")
    assert ("X-Xet-Hash" in answer.headers, answer.content) == (False, content)
    with pytest.raises((HfHubHTTPError, ConnectionError, FileNotFoundError), match="404"):
        upload(api, os.urandom(50_000), "v.bin")


def test_an_unreachable_storage_has_an_address_nobody_answers(hub):
    hub.cas_reachable = False
    token = httpx2.get(f"{hub.endpoint}/api/models/ada/model/xet-write-token/main", headers=SIGNED).json()
    port = int(token["casUrl"].rpartition(":")[2])
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", port)) != 0
