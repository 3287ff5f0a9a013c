"""kill -9 in the middle of a large upload: the rerun sends what is missing, and little more."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import tempfile
from pathlib import Path

import pytest

from agent.sandbox.hub import Hub
from tests.conftest import FIXTURES, TOKEN, Pod
from tests.crash.conftest import ended, until

MB = 10**6
XORB_BYTES = 64 * 2**20
UPLOADS_AT_ONCE = 2  # see agent/hub/environment.py
ALLOWED_BYTES = (UPLOADS_AT_ONCE + 1) * XORB_BYTES
PIECE_BYTES = 16 * 2**20


@pytest.fixture
def space():
    """A folder for files too large to be kept after the test."""
    folder = Path(tempfile.mkdtemp(prefix="large-"))
    yield folder
    shutil.rmtree(folder)


def large_model(folder, size_bytes):
    """A model of one tensor of noise: nothing in it can be compressed or found twice."""
    shutil.copytree(FIXTURES / "base", folder)
    tensor = {"dtype": "U8", "shape": [size_bytes], "data_offsets": [0, size_bytes]}
    header = json.dumps({"noise": tensor}).encode()
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", len(header)) + header)
        for start in range(0, size_bytes, PIECE_BYTES):
            stream.write(os.urandom(min(PIECE_BYTES, size_bytes - start)))
    return folder


def resent_after_a_kill(space, size_bytes, kill_at_bytes, rate_bytes_s=None):
    """Bytes that arrived at the Hub beyond the model's own; all traffic counts, both runs."""
    folder = large_model(space / "model", size_bytes)
    with Hub(root=space / "hub", rate_bytes_s=rate_bytes_s) as hub:
        hub.add_user("ada", token=TOKEN)
        pod = Pod(hub, space / "state")
        process = pod.command(folder)
        until(lambda: hub.rate.taken >= kill_at_bytes or process.poll() is not None)
        process.kill()
        code, _, err = ended(process)
        assert code == -signal.SIGKILL, err
        assert not hub.repo("ada/model").commits()[:-1]
        code, out, err = ended(pod.command(folder))
        assert code == 0, err
        assert json.loads(out)["published"]
        assert len(hub.repo("ada/model").commits()) == 2
        return hub.rate.taken - size_bytes


def test_a_kill_late_in_an_upload_costs_three_pieces_at_most(space):
    """Late enough that starting anew would cost more than is allowed."""
    size = 5 * XORB_BYTES
    resent = resent_after_a_kill(space, size, kill_at_bytes=size * 9 // 10)
    assert resent <= ALLOWED_BYTES, f"{resent / MB:.0f} MB sent again"


@pytest.mark.sweep
def test_a_kill_at_half_of_a_gigabyte_costs_three_pieces_at_most(space):
    resent = resent_after_a_kill(space, 1000 * MB, kill_at_bytes=500 * MB, rate_bytes_s=50 * MB)
    assert resent <= ALLOWED_BYTES, f"{resent / MB:.0f} MB sent again"
