"""The Hub of the benchmark: its bandwidth changes while it runs, and it tells what it has received."""

from __future__ import annotations

import time

from huggingface_hub import HfApi

from bench.hub import TOKEN, USER, hub_process

BODY = b"x" * 300_000


def uploaded_s(hub, name):
    api = HfApi(endpoint=hub.endpoint, token=TOKEN)
    repo = api.create_repo(name, exist_ok=True).repo_id
    begun = time.perf_counter()
    api.upload_file(path_or_fileobj=BODY, path_in_repo="notes.txt", repo_id=repo)
    return time.perf_counter() - begun


def test_the_bandwidth_is_changed_and_what_came_in_is_told(tmp_path):
    with hub_process(tmp_path, None) as hub:
        uploaded_s(hub, "first")
        seen = hub.look()
        assert seen.received_bytes >= len(BODY)
        assert sum(one["received_bytes"] for one in seen.requests) == seen.received_bytes
        before = hub.count()
        hub.limit(0.4)
        assert uploaded_s(hub, "second") > 0.7
        paths = [one["path"] for one in hub.look(before).requests]
        assert paths[0] == "/api/repos/create"
        assert f"/api/models/{USER}/second/commit/main" in paths
        hub.limit(None)
        assert uploaded_s(hub, "third") < 0.7
    assert not list(tmp_path.iterdir())
