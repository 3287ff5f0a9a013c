"""What a repo is compared with: a manifest, its own or one kept elsewhere, and the folder it came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent import artifact, card, publication
from agent.errors import ArtifactError, ConfigError
from agent.hashes import HASHES, HashMemory
from agent.hub import verify
from agent.hub.files import MANIFEST
from agent.inspection import inspect
from agent.material import README

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from agent.card import Manifest
    from agent.config import Config
    from agent.hub.repo import Entry
    from agent.publication import Draft

_LARGEST_BYTES = 32_000_000


@dataclass(frozen=True)
class Kept:
    """A manifest that was kept elsewhere: a witness that whoever changes the repo cannot change."""

    path: Path
    manifest: Manifest
    blob_id: str


def open_witness(config: Config, path: Path) -> Folder | Kept:
    """Open what --against names; the Hub is not asked.

    Raises:
        ConfigError: it cannot be read, or is neither a folder nor a manifest.
        ArtifactError: there is no model in the folder, or a file cannot be read.
    """
    try:
        kept = None if path.is_dir() else _read_kept(path)
    except (OSError, ValueError) as error:
        why = f"cannot be read: {error.strerror or error}" if isinstance(error, OSError) else error
        raise ConfigError(
            f"--against: {path} {why}.",
            hint="Name the output folder, or a finalize.json that was kept when the model was published.",
        ) from error
    return kept or Folder(config, path)


def _read_kept(path: Path) -> Kept:
    with artifact.open_regular(path) as stream:
        content = stream.read(_LARGEST_BYTES)
    return Kept(path, card.read_manifest(content), verify.git_blob_id(content))


class Folder:
    """An output folder, as finalize would publish it.

    Args:
        config: what finalize would be asked for.
        path: the folder.

    Attributes:
        path: where it is.
        sha256s: of its files by path, once they were compared.

    Raises:
        ArtifactError: there is no model in it, or a file cannot be read.
    """

    def __init__(self, config: Config, path: Path) -> None:
        self.path = path
        # Whether it may be published is not asked here: it is what the repo is compared with.
        quick = {"output_dir": path, "check_weights": "headers"}
        self._stock = inspect(config.model_copy(update=quick)).stock
        with self._stock.reading():
            self._draft: Draft = publication.draft(self._stock)
        self._memory = HashMemory(config.state_dir / HASHES)
        self.sha256s: dict[str, str] = {}

    @property
    def paths(self) -> set[str]:
        """All paths that it would be published with, plots aside."""
        return self._draft.paths

    def unlike(self, tree: Mapping[str, Entry]) -> list[tuple[str, str]]:
        """The files that the repo does not have as they are on disk, each with what differs.

        Raises:
            ArtifactError: a file cannot be read, or changed meanwhile.
        """
        with self._stock.reading():
            self.sha256s = artifact.digest(self._draft.files, self._memory)
            found = [
                (one.path, said)
                for one in self._draft.as_on_disk(self.sha256s, self._draft.in_git(tree))
                if (said := verify.differs(one, tree.get(one.path), self._xet_hash))
            ]
        self._memory.save()
        return found

    def strangers(self, manifest: Manifest) -> list[str]:
        """What a manifest lists, and neither this folder holds nor finalize makes of it.

        Only plots are listed with their xet hash.
        """
        listed = {one.path for one in manifest.files if one.xet_hash is None}
        return sorted(listed - self.paths - {README, MANIFEST})

    def adapter_config_differs(self, published: bytes) -> bool:
        """Whether the repo's adapter_config.json is another one than this, but for the base that it names."""
        if self._draft.adapter is None:
            return False
        ours = self._draft.repaired[publication.ADAPTER_CONFIG]
        try:
            theirs = card.read_adapter_config(published, publication.ADAPTER_CONFIG)
        except ArtifactError:
            return True
        return card.with_base(ours, dict(self._draft.adapter), theirs.get(card.BASE_KEY)) != published

    def _xet_hash(self, path: str) -> str:
        return self._draft.xet_hash(path, self._memory)
