"""`card`: the page that would be published, as Markdown and as one HTML file, without any account."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent import publication
from agent.artifact import is_image, open_regular
from agent.errors import ArtifactError, ConfigError
from agent.hub.naming import is_valid_name, name_from_job
from agent.illustrations import Illustrations
from agent.inspection import inspect
from agent.material import README, gather
from agent.presentation import Page, assume

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from agent.artifact import Inventory
    from agent.config import Config

HTML = "page.html"
_ROOM_BYTES = 64_000_000
_NAMESPACE = "your-name"  # of a token that nobody asks about


@dataclass
class Preview:
    """Where the page is, and what it was made of."""

    folder: Path | None = None
    markdown: Path | None = None
    html: Path | None = None
    plots: list[str] = field(default_factory=list)
    refused: str | None = None
    error: dict[str, str] | None = None

    def failed(self, _error: BaseException, *, code: str, message: str, hint: str) -> None:
        """Note why there is no page."""
        self.error = {"code": code, "message": message, "hint": hint}

    def as_json(self) -> dict[str, Any]:
        """One object: where to look."""
        return {
            "folder": str(self.folder),
            "markdown": str(self.markdown) if self.markdown else None,
            "html": str(self.html) if self.html else None,
            "plots": self.plots,
            "publishable": self.error is None and self.refused is None,
            "refused": self.refused,
            "error": self.error,
        }


def render(config: Config, preview: Preview) -> None:
    """Write README.md, its plots and page.html below the state folder, in place of an earlier preview.

    Raises:
        ArtifactError: there is no model in the folder, or the page cannot be written.
    """
    preview.folder = config.output_dir
    seen = inspect(config)
    refusal = seen.report.refusal(seen.stock.root)
    preview.refused = refusal.message if refusal else None
    seen.tell_remarks()
    with seen.stock.reading():
        draft = publication.draft(seen.stock)
        material = gather(config, seen, draft)
        images = _images(seen.stock)
    plots = Illustrations(seen.training, draft.paths)
    plots.begin()
    try:
        repo_id = _repo_id(config)
        markdown = Page(material, assume(material), repo_id, plots).render()
        drawn = {piece.path: piece.read() for piece in plots.pieces()}
    finally:
        plots.stop()
    preview.plots = sorted(drawn)
    try:
        _write(config.state_dir / "card", repo_id, markdown, images | drawn)
    except OSError as error:
        raise ArtifactError(
            f"The page cannot be written to {config.state_dir}: {error.strerror or error}.",
            hint="Set AGENT_STATE_DIR to a folder that can be written.",
        ) from error
    preview.markdown, preview.html = config.state_dir / "card" / README, config.state_dir / "card" / HTML


def _repo_id(config: Config) -> str:
    """The repo as far as it is known; without any name the folder's."""
    try:
        name = config.repo_name or name_from_job(config)
    except ConfigError:
        name = config.output_dir.absolute().name
        name = name if is_valid_name(name) else "model"
    return name if "/" in name else f"{config.hf_username or _NAMESPACE}/{name}"


def _images(stock: Inventory) -> dict[str, bytes]:
    """The images that the card can show: samples, and what the author's README may refer to."""
    found, room = {}, _ROOM_BYTES
    for file in stock.files:
        if is_image(file.path) and file.size_bytes <= room:
            with open_regular(file.source) as stream:
                found[file.path] = stream.read(file.size_bytes)
            room -= file.size_bytes
    return found


def _write(folder: Path, repo_id: str, markdown: str, images: Mapping[str, bytes]) -> None:
    from agent.card.page import page

    shutil.rmtree(folder, ignore_errors=True)
    for path, content in images.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / README).write_text(markdown, encoding="utf-8")
    (folder / HTML).write_text(page(repo_id, markdown, images), encoding="utf-8")
