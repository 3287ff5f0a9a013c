"""One publication put together: the user's files, and what is repaired or made for the reader."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from agent import __version__, card
from agent.hub.files import MANIFEST, Message, Piece, Stored
from agent.hub.verify import git_blob_id
from agent.material import README
from agent.presentation import public_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from agent.artifact import Inventory, LocalFile, Training
    from agent.config import Config
    from agent.hashes import HashMemory
    from agent.hub.repo import Entry
    from agent.identity import Identity
    from agent.presentation import Page

ADAPTER_CONFIG = "adapter_config.json"
_LIBRARIES = ("huggingface_hub", "hf_xet")
_NAMED = 12  # files that a sentence names


@dataclass(frozen=True)
class Draft:
    """What will be published, before its hashes are known.

    `files` travel as they are; `repaired` holds the bytes, as read, of those that a reader gets
    in a corrected form.
    """

    stock: Inventory
    files: tuple[LocalFile, ...]
    repaired: Mapping[str, bytes]
    adapter: Mapping[str, Any] | None

    @property
    def paths(self) -> set[str]:
        """All paths that will be published."""
        return {file.path for file in self.stock.files} | set(self.later)

    @property
    def later(self) -> list[str]:
        """Paths that are made when the hashes are known."""
        return sorted({README, MANIFEST, *self.repaired})

    @property
    def raw_sha256s(self) -> dict[str, str]:
        """sha256 of the repaired files as they are on disk: they count for the identity."""
        return {path: hashlib.sha256(content).hexdigest() for path, content in self.repaired.items()}

    def pieces(self) -> list[Piece]:
        """The files that travel as they are."""
        return [Piece(file.path, file.source, file.size_bytes) for file in self.files]

    def as_on_disk(self, sha256s: Mapping[str, str], in_git: Collection[str]) -> list[Stored]:
        """What the Hub must show for these files if it has them already.

        Args:
            sha256s: by path.
            in_git: paths that the Hub keeps as git blobs; they are small.
        """
        return [
            Stored(
                file.path,
                file.size_bytes,
                sha256s[file.path],
                blob=file.source.read_bytes() if file.path in in_git else None,
            )
            for file in self.files
        ]

    def in_git(self, tree: Mapping[str, Entry]) -> set[str]:
        """Paths that the Hub keeps as git blobs of our size; one of another size is another file, unread."""
        sizes = {file.path: file.size_bytes for file in self.files}
        return {
            path for path, entry in tree.items() if not entry.sha256 and entry.size_bytes == sizes.get(path)
        }

    def remember(self, sent: Iterable[Stored], memory: HashMemory) -> None:
        """Keep the hashes that the upload computed, so that a rerun need not read the files."""
        by_path = {file.path: file for file in self.files}
        for one in sent:
            file = by_path[one.path]
            memory.keep(file.source, "sha256", one.sha256, file.stamp)
            if one.xet_hash:
                memory.keep(file.source, "xet", one.xet_hash, file.stamp)

    def xet_hash(self, path: str, memory: HashMemory) -> str:
        """The xet hash of a file, computed here unless the memory vouches for it."""
        file = next(file for file in self.files if file.path == path)
        found = memory.recall(file.source, "xet")
        if found is None:
            from agent.hub import xet

            found = xet.hash_file(file.source)
            memory.keep(file.source, "xet", found, file.stamp)
        return found


def draft(stock: Inventory) -> Draft:
    """Set aside the files that may need a repair and read them.

    Raises:
        ArtifactError: adapter_config.json cannot be parsed.
    """
    files = [file for file in stock.files if file.path not in {README, ADAPTER_CONFIG, MANIFEST}]
    found = {path: stock.get(path) for path in (README, ADAPTER_CONFIG)}
    repaired = {path: file.source.read_bytes() for path, file in found.items() if file}
    adapter = None
    if ADAPTER_CONFIG in repaired:
        adapter = card.read_adapter_config(repaired[ADAPTER_CONFIG], str(stock.root / ADAPTER_CONFIG))
    return Draft(stock, tuple(files), repaired, adapter)


def make(
    page: Page,
    *,
    identity: Identity,
    sent: Iterable[Stored],
    drawn: Sequence[Stored],
) -> list[Stored]:
    """Make the files that tell a reader about the others: card, adapter config, manifest.

    Args:
        page: what the card says.
        identity: the ids that card and manifest carry.
        sent: the user's files, for the manifest.
        drawn: the plots; with the others, all files but those made here.
    """
    draft, config, training = page.material.draft, page.material.config, page.material.seen.training
    made = {README: page.render(str(identity.job_id), identity.tag).encode()}
    if draft.adapter is not None:
        base = page.answers.base
        made[ADAPTER_CONFIG] = card.with_base(draft.repaired[ADAPTER_CONFIG], dict(draft.adapter), base)
    stored = [_stored(path, content) for path, content in made.items()]
    listed = [*sent, *drawn, *stored]
    manifest = card.make_manifest(
        files=[(one.path, one.size_bytes, one.sha256) for one in listed],
        identity={
            "job": str(identity.job_id),
            "finalize_id": identity.finalize_id,
            "content_id": identity.content_id,
            "repo_id": page.repo_id,
            "revision": config.revision,
        },
        training=figures(draft.stock.kind, config, training, base=page.answers.base),
        versions={"agent": __version__} | {name: version(name) for name in _LIBRARIES},
        blob_ids={one.path: git_blob_id(one.blob) for one in listed if one.blob is not None},
        xet_hashes=page.illustrations.xet_hashes() if drawn else {},
    )
    return [*drawn, *stored, _stored(MANIFEST, manifest)]


def figures(kind: str, config: Config, training: Training, *, base: str | None) -> dict[str, Any]:
    """What is told of the training in figures and names."""
    return {
        "kind": kind,
        "method": training.method,
        "base_model": base,
        "dataset": public_name(config.dataset),
        "steps": training.steps,
        "metrics": training.metrics,
        "git_revision": config.git_revision,
    }


def message(config: Config, training: Training, identity: Identity) -> Message:
    """The commit's first line and trailers."""
    method = f"{training.method.upper()} " if training.method else ""
    trailers = {
        "Job-Id": str(identity.job_id),
        "Finalize-Id": identity.finalize_id,
        "Content-Id": identity.content_id,
    }
    if config.git_revision:
        trailers["Git-Revision"] = config.git_revision
    title = config.commit_message or f"Publish {method}model of job {identity.job_id}"
    return Message(" ".join(title.split()), trailers)


def _stored(path: str, content: bytes) -> Stored:
    return Stored(path, len(content), hashlib.sha256(content).hexdigest(), blob=content)


def where_it_is(url: str, commit_oid: str, paths: Sequence[str]) -> str:
    """A sentence that says what is on the Hub, for somebody who wants it kept or gone."""
    told = ", ".join(paths[:_NAMED]) + (f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else "")
    return f"The model is published at {url}, commit {commit_oid}: {told}."
