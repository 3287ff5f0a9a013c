"""The content of one publication on its way into storage, and what is remembered of what went there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from agent import artifact
from agent.delivered import DELIVERED, Delivered
from agent.hashes import HASHES, HashMemory
from agent.recognition import Recognition

if TYPE_CHECKING:
    from agent.config import Config
    from agent.hub.content import Delivery
    from agent.hub.repo import Repo
    from agent.illustrations import Illustrations
    from agent.publication import Draft
    from agent.retry import Patience


class Sending:
    """Hashes files and sends them, each no more often than it must be.

    Args:
        config: what was asked for.
        draft: what is published.
        plots: are drawn while the rest travels.
        patience: hears of what moves.

    Attributes:
        sha256s: by path, of files that were hashed before anything was sent.
    """

    def __init__(self, config: Config, draft: Draft, plots: Illustrations, patience: Patience) -> None:
        self._config, self._draft, self._plots, self._patience = config, draft, plots, patience
        self._memory = HashMemory(config.state_dir / HASHES)
        self._delivered: Delivered | None = None
        self.sha256s: dict[str, str] = {}

    def digest(self) -> dict[str, str]:
        """Hash every file; what the memory vouches for is not read again.

        Raises:
            ArtifactError: a file cannot be read, or changed meanwhile.
        """
        with self._draft.stock.reading():
            self.sha256s = artifact.digest(self._draft.stock.files, self._memory, self._patience.progress)
        self._memory.save()
        return self.sha256s

    def deliver(self, repo: Repo) -> Delivery:
        """Bring the files and their plots into the repo's storage; what is known to be there is not sent.

        Raises:
            OSError: a file cannot be read.
            HubRefusedError, HubUnreachableError, HubAuthError: as for every call.
        """
        from agent.hub import content

        where = f"{repo.client.endpoint} {repo.repo_id}"
        self._delivered = Delivered(self._config.state_dir / DELIVERED, where)
        recognition = Recognition(
            self._draft.files,
            self._memory,
            self._delivered,
            known=self.sha256s,
            moved=self._patience.progress,
        )
        delivery = content.deliver(
            repo,
            self._draft.pieces(),
            {**dict.fromkeys(self._draft.later, b"{}"), **self._plots.beginnings},
            recognition,
            forget=self.forget,
            meanwhile=self._plots.pieces,
        )
        sent = [one for one in delivery.stored if one.path not in self._plots.beginnings]
        self._draft.remember(sent, self._memory)
        self._memory.save()
        recognition.keep(sent)
        return delivery

    def xet_hash(self, path: str) -> str:
        """The content hash of a file; one that nobody vouches for is read."""
        return self._draft.xet_hash(path, self._memory)

    def save(self) -> None:
        """Write down what was learned of the files."""
        self._memory.save()

    def forget(self) -> None:
        """Drop every hint about what the Hub's storage has: it turned out to be wrong."""
        from agent.hub.environment import fresh_cache

        fresh_cache(os.environ, self._config.state_dir)
        if self._delivered:
            self._delivered.forget()
        self._memory.forget()
        self.sha256s = {}
