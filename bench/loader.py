"""`python -m bench.loader ENDPOINT XORB COUNT`: send prepared content to a Hub, and do nothing else.

XORB is a file with a xorb, sent COUNT times under other names over two connections by the kernel itself;
at the end one file that is made of all of them is registered. Prints how long both took, as JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import struct
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

from bench.hub import TOKEN, USER

CHUNK_BYTES, CHUNKS = 2**16, 960  # 64 MB is the most a xorb may have
XORB_BYTES = CHUNK_BYTES * CHUNKS
CONNECTIONS = 2
_VERSION, _RAW = b"\0", b"\0"
_HEADER_BYTES = 8
_REPO = "loaded"
_OK = 200
_TAG = b"HFRepoMetaData".ljust(32, b"\0")
_BOOKEND = (b"\xff" * 32).ljust(48, b"\0")
_WITH_SHA256 = 1 << 30


def write_xorb(path: Path) -> None:
    """Write a xorb of noise in raw chunks."""
    length = CHUNK_BYTES.to_bytes(3, "little")
    header = _VERSION + length + _RAW + length
    with path.open("wb") as stream:
        for _ in range(CHUNKS):
            stream.write(header + os.urandom(CHUNK_BYTES))


def main() -> None:
    """Load the Hub."""
    endpoint, xorb, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    host = urlsplit(endpoint).netloc
    token = _token(host)
    names = [hashlib.sha256(f"xorb {number}".encode()).digest() for number in range(count)]
    begun = time.perf_counter()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for sent in [
            pool.submit(_send, host, token, xorb, names[first::CONNECTIONS]) for first in range(CONNECTIONS)
        ]:
            sent.result()
    sent_s = time.perf_counter() - begun
    shard = _shard(names, _sha256(xorb, count))
    begun = time.perf_counter()
    _ask(host, "POST", "/v1/shards", token, shard)
    print(json.dumps({"sent_s": sent_s, "proven_s": time.perf_counter() - begun}))


def _token(host: str) -> str:
    _ask(host, "POST", "/api/repos/create", TOKEN, json.dumps({"name": _REPO}).encode())
    return _ask(host, "GET", f"/api/models/{USER}/{_REPO}/xet-write-token/main", TOKEN)["accessToken"]


def _ask(host: str, method: str, path: str, token: str, body: bytes | None = None) -> dict[str, str]:
    connection = HTTPConnection(host)
    connection.request(method, path, body, {"Authorization": f"Bearer {token}"})
    return _answer(connection.getresponse())


def _answer(response: HTTPResponse) -> dict[str, str]:
    words = response.read()
    if response.status != _OK:
        sys.exit(f"the Hub answered {response.status}: {words.decode(errors='replace')}")
    answer: dict[str, str] = json.loads(words)
    return answer


def _send(host: str, token: str, xorb: Path, names: list[bytes]) -> None:
    name, _, port = host.partition(":")
    with socket.create_connection((name, int(port))) as wire, xorb.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        for raw in names:
            head = (
                f"POST /v1/xorbs/default/{_hex(raw)} HTTP/1.1\r\nHost: {host}\r\n"
                f"Authorization: Bearer {token}\r\nContent-Length: {size}\r\n\r\n"
            )
            wire.sendall(head.encode())
            wire.sendfile(stream, 0, size)
            response = HTTPResponse(wire, method="POST")
            response.begin()
            _answer(response)


def _hex(raw: bytes) -> str:
    """Spell a hash as URLs do: four little-endian u64."""
    return "".join(f"{word:016x}" for word in struct.unpack("<4Q", raw))


def _sha256(xorb: Path, count: int) -> bytes:
    """The sha256 of `count` times the xorb's content."""
    digest = hashlib.sha256()
    for _ in range(count):
        with xorb.open("rb") as stream:
            while stream.read(_HEADER_BYTES):
                digest.update(stream.read(CHUNK_BYTES))
    return digest.digest()


def _shard(names: list[bytes], sha256: bytes) -> bytes:
    """Register one file: a xorb after the other, and its sha256; every row has 48 bytes."""
    rows = [struct.pack("<32sQQ", _TAG, 2, 0)]
    rows.append(struct.pack("<32sIIQ", hashlib.sha256(b"file").digest(), _WITH_SHA256, len(names), 0))
    rows += [struct.pack("<32s4I", name, 0, XORB_BYTES, 0, CHUNKS) for name in names]
    words = struct.unpack("<4Q", sha256)
    rows.append(struct.pack(">4Q", *words).ljust(48, b"\0"))
    return b"".join([*rows, _BOOKEND, _BOOKEND])


if __name__ == "__main__":
    main()
