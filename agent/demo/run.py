"""The whole thing on one machine: a Hub, a job database, the real finalize, and a second look at the result.

finalize runs as a process of its own with the environment a pod would have. What it says is not
believed: every file is downloaded again with the real client and compared with the disk, and the
row is read from PostgreSQL itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from agent.artifact import take_stock
from agent.demo.pod import REPO, TOKEN, finalize, pod_environ
from agent.demo.shown import Shown
from agent.demo.view import show
from agent.material import README
from agent.publication import ADAPTER_CONFIG

if TYPE_CHECKING:
    from agent.sandbox.hub import Hub
    from agent.sandbox.jobs_app import JobsApp, JobSecret

_COLUMNS = ("status", "progress", "model_url", "error_message", "started_at", "completed_at", "heartbeat_at")
_FOR_READERS = {README, ADAPTER_CONFIG}  # repaired or made; everything else must equal the disk


def run_demo(output_dir: Path | None, *, as_json: bool) -> int:
    """Show a finalize from start to end and return 0 only if everything it claims is true.

    Args:
        output_dir: a folder to publish; a small adapter is made when it is None.
        as_json: one JSON object on stdout instead of the tables.
    """
    from agent.sandbox.hub import Hub
    from agent.sandbox.jobs_app import JobsApp
    from agent.sandbox.postgres import Cluster
    from agent.sandbox.sample import make_output_folder

    console = Console(stderr=as_json, highlight=False)
    with (
        tempfile.TemporaryDirectory(prefix="training-agent-demo-") as scratch,
        Hub() as hub,
        Cluster() as cluster,
        JobsApp(cluster) as app,
    ):
        hub.add_user("ada", token=TOKEN)
        app.allow_hub(hub.endpoint)
        folder = output_dir
        if folder is None:
            folder = Path(scratch) / "fine_tuned_model"
            make_output_folder(folder)
        introduction = (
            f"[bold]An embedded Hub[/] listens at {hub.endpoint}; user ada holds a write token.\n"
            f"[bold]A job database[/] listens at {app.url}, on PostgreSQL {cluster.version}; "
            "each row opens with its own token.\n"
            "[bold]Training has ended.[/] The pod's hook runs:  [cyan]python -m agent finalize[/]\n"
        )
        console.print(introduction, soft_wrap=True)
        shown = _look_twice(hub, app, folder, Path(scratch))
        if as_json:
            claims = {
                "files": shown.files,
                "row_before": shown.row_before,
                "row": shown.row,
                "rows_shown_to": shown.opened,
                "second_run": shown.second,
                "untrue": shown.untrue,
            }
            sys.stdout.write(json.dumps({"finalize": shown.outcome} | claims) + "\n")
        else:
            show(console, shown)
    return (shown.exit_code or 1) if shown.untrue else 0


def _look_twice(hub: Hub, app: JobsApp, folder: Path, scratch: Path) -> Shown:
    begun = datetime.now(UTC) - timedelta(hours=2)
    job, other = (app.add_job(status="running", progress=97.0, started_at=begun) for _ in range(2))
    pod = pod_environ(hub, app, job, folder, scratch / "state")
    before = _row(app, job)
    shown = Shown(*finalize(pod), row_before=before)
    shown.row = _row(app, job)
    shown.opened = {
        "its own token": app.visible_rows(job.id, job.token),
        "the token of another job": app.visible_rows(job.id, other.token),
        "the public key alone": app.visible_rows(job.id, None),
    }
    if shown.outcome.get("published"):
        shown.files = _compare(hub, folder, scratch)
        shown.card = hub.read(REPO, "README.md").decode()
        shown.second, _ = finalize(pod)
        shown.commits = sum("Finalize-Id: " in commit.message for commit in hub.repo(REPO).commits("main"))
    return shown


def _row(app: JobsApp, job: JobSecret) -> dict[str, Any]:
    """What of the row a person wants to see."""
    row = app.row(job.id)
    return {
        name: f"{value:%H:%M:%S} UTC" if isinstance(value := row[name], datetime) else value
        for name in _COLUMNS
    }


def _compare(hub: Hub, folder: Path, scratch: Path) -> list[dict[str, Any]]:
    """Download everything as a reader would; compare with the disk, made files with the manifest."""
    os.environ.update(
        HF_XET_CACHE=str(scratch / "reader"), HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_OFFLINE="0"
    )
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub.endpoint, token=TOKEN)
    got = Path(api.snapshot_download(REPO, local_dir=scratch / "downloaded"))
    manifest = json.loads((got / "finalize.json").read_bytes())
    stock = take_stock(folder)
    found = []
    for file in manifest["files"]:
        content = (got / file["path"]).read_bytes()
        local = stock.get(file["path"])
        as_on_disk = local is not None and local.source.read_bytes() == content
        sha256 = hashlib.sha256(content).hexdigest()
        found.append(
            {
                "path": file["path"],
                "size": len(content),
                "sha256": sha256,
                "equal": sha256 == file["sha256"]
                and (as_on_disk or local is None or file["path"] in _FOR_READERS),
                "from": "disk" if as_on_disk else "made",
            }
        )
    return found
