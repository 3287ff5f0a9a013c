"""The whole thing on one machine: an embedded Hub, the real finalize, and a second look at the result.

finalize runs as a process of its own with the environment a pod would have. What it says is not
believed: every file is downloaded again with the real client and compared with the disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from agent.artifact import take_stock
from agent.publication import ADAPTER_CONFIG, README

if TYPE_CHECKING:
    from agent.sandbox.hub import Hub

TOKEN = "hf_demo_token_of_ada"  # noqa: S105 - of an embedded Hub that ends with the demo
REPO = "ada/fine-tuned-model"
JOB_ID = "3f2b8c1e-5d4a-4b6f-9a7c-0d1e2f3a4b5c"
_PATIENCE_S = 20
_CARD_LINES = 14
_FOR_READERS = {README, ADAPTER_CONFIG}  # repaired or made; everything else must equal the disk


@dataclass
class Shown:
    """What the demo found out, by itself, about what finalize claims."""

    outcome: dict[str, Any]
    exit_code: int
    files: list[dict[str, Any]] = field(default_factory=list)
    card: str = ""
    row: dict[str, Any] = field(default_factory=dict)
    second: dict[str, Any] = field(default_factory=dict)
    commits: int = 0

    @property
    def untrue(self) -> list[str]:
        """Every claim that did not hold; empty means that all of it is true."""
        claims = {
            "finalize ended with exit 0": self.exit_code == 0,
            "it says completed": self.outcome.get("result") == "completed",
            "every file downloads as it was read": bool(self.files) and all(f["equal"] for f in self.files),
            "the row says completed, 100, with the address": (
                (self.row.get("status"), self.row.get("progress")) == ("completed", 100.0)
                and self.row.get("model_url") == self.outcome.get("model_url")
            ),
            "a second run commits nothing and sends nothing": (
                self.commits == 1 and self.second.get("uploaded_bytes") == 0
            ),
        }
        return [claim for claim, holds in claims.items() if not holds]


def run_demo(output_dir: Path | None, *, as_json: bool) -> int:
    """Show a finalize from start to end and return 0 only if everything it claims is true.

    Args:
        output_dir: a folder to publish; a small adapter is made when it is None.
        as_json: one JSON object on stdout instead of the tables.
    """
    from agent.sandbox.hub import Hub
    from agent.sandbox.sample import make_output_folder

    console = Console(stderr=as_json, highlight=False)
    with tempfile.TemporaryDirectory(prefix="training-agent-demo-") as scratch, Hub() as hub:
        hub.add_user("ada", token=TOKEN)
        folder = output_dir
        if folder is None:
            folder = Path(scratch) / "fine_tuned_model"
            make_output_folder(folder)
        console.print(f"[bold]An embedded Hub[/] listens at {hub.endpoint}; user ada holds a write token.")
        console.print(
            "[bold]Training has ended.[/] The pod's hook runs:  [cyan]python -m agent finalize[/]\n"
        )
        shown = _look_twice(hub, folder, Path(scratch))
        if as_json:
            claims = {
                "files": shown.files,
                "row": shown.row,
                "second_run": shown.second,
                "untrue": shown.untrue,
            }
            sys.stdout.write(json.dumps({"finalize": shown.outcome} | claims) + "\n")
        else:
            _print(console, shown)
    return (shown.exit_code or 1) if shown.untrue else 0


def _look_twice(hub: Hub, folder: Path, scratch: Path) -> Shown:
    outcome, code = _finalize(hub, folder, scratch / "state")
    shown = Shown(outcome, code)
    if outcome.get("published"):
        shown.files = _compare(hub, folder, scratch)
        shown.card = hub.read(REPO, "README.md").decode()
        shown.row = json.loads((scratch / "state" / JOB_ID / "row.json").read_text(encoding="utf-8"))
        shown.second, _ = _finalize(hub, folder, scratch / "state")
        shown.commits = sum("Finalize-Id: " in commit.message for commit in hub.repo(REPO).commits("main"))
    return shown


def _finalize(hub: Hub, folder: Path, state_dir: Path) -> tuple[dict[str, Any], int]:
    """Run the real command in a process of its own; a Ctrl-C ends it before it ends us."""
    pod = {
        "HF_TOKEN": TOKEN,
        "HF_ENDPOINT": hub.endpoint,
        "HF_REPO_NAME": REPO,
        "OUTPUT_DIR": str(folder),
        "JOB_ID": JOB_ID,
        "AGENT_STATE_DIR": str(state_dir),
        "AGENT_LOG_FORMAT": "console",
    }
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TERM", "PYTHONPATH") if name in os.environ}
    command = [sys.executable, "-m", "agent", "finalize", "--json"]
    begun = time.monotonic()
    with _started(command, kept | pod) as process:
        try:
            out, _ = process.communicate()
        except BaseException:
            process.terminate()
            process.wait(_PATIENCE_S)
            raise
    outcome: dict[str, Any] = json.loads(out) if out.strip() else {}
    return outcome | {"wall_s": round(time.monotonic() - begun, 2)}, process.returncode


def _started(command: list[str], environ: dict[str, str]) -> subprocess.Popen[str]:
    """Start a process; a Ctrl-C while it starts waits until there is somebody to end it."""
    stopped: list[int] = []
    before = signal.signal(signal.SIGINT, lambda signum, _: stopped.append(signum))
    try:
        process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)  # noqa: S603
    finally:
        signal.signal(signal.SIGINT, before)
    if stopped:
        process.terminate()
        process.communicate(timeout=_PATIENCE_S)
        raise KeyboardInterrupt
    return process


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
                "equal": sha256 == file["sha256"] and (as_on_disk or file["path"] in _FOR_READERS),
                "from": "disk" if as_on_disk else "made",
            }
        )
    return found


def _print(console: Console, shown: Shown) -> None:
    files = Table(title="\nDownloaded again with the real client", title_justify="left")
    files.add_column("file", no_wrap=True)
    files.add_column("size", justify="right")
    files.add_column("sha256")
    files.add_column("from")
    files.add_column("equal")
    for file in shown.files:
        mark = "[green]✓[/]" if file["equal"] else "[red]✗[/]"
        files.add_row(file["path"], f"{file['size']:,}", file["sha256"][:12], file["from"], mark)
    console.print(files)

    if shown.card:
        lines = shown.card.splitlines()[:_CARD_LINES]
        console.print("\n[bold]The card's first lines[/]")
        console.print("\n".join(f"  │ {line}" for line in lines), markup=False)

    steps = shown.outcome.get("steps", {})
    console.print("\n[bold]Seconds[/]  " + " · ".join(f"{name} {took:.2f}" for name, took in steps.items()))

    row = Table(title="\nThe job row", title_justify="left", show_header=False)
    for name in ("id", "status", "progress", "model_url", "completed_at"):
        row.add_row(name, str(shown.row.get(name)))
    console.print(row)
    if shown.second:
        console.print(
            f"\n[bold]Run again[/]  {shown.second['uploaded_bytes']} bytes sent, "
            f"{shown.commits - 1} new commits, {shown.second['wall_s']} s"
        )
    for claim in shown.untrue:
        console.print(f"[red]not true:[/] {claim}")
    console.print(
        "\n[green bold]Everything above is true.[/]"
        if not shown.untrue
        else "\n[red bold]The demo failed.[/]"
    )
