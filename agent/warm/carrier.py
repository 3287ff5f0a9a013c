"""One candidate on its way to the storage: checked as finalize checks it, then sent block by block.

Nothing here is needed for a publication: finalize sends what is not there.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agent import artifact
from agent.delivered import DELIVERED, Content, Delivered, sketch_of
from agent.errors import HubRefusedError, HubUnreachableError
from agent.gate import UnknownMetricError
from agent.hashes import HASHES, HashMemory, Stamp
from agent.hub import content, trickle, xet
from agent.hub.client import HubClient
from agent.hub.environment import fresh_cache
from agent.hub.files import Piece
from agent.hub.naming import repo_id_for
from agent.hub.repo import Repo
from agent.identity import metrics_before
from agent.inspection import inspect
from agent.log import get_logger
from agent.retry import Patience, RemoteFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from agent.artifact import LocalFile
    from agent.config import Config
    from agent.hub.repo import RepoState
    from agent.inspection import Inspection
    from agent.warm.candidates import Candidate
    from agent.warm.restraint import Restraint

_BLOCK_BYTES = 1 << 20
_MEGA = 1_000_000
_STALL_S = 120.0  # finalize has the patience; here it only costs bandwidth later


class NotNowError(Exception):
    """It is not to be sent at this moment; the message says why."""


class Carrier:
    """Carries one candidate.

    Args:
        config: what was asked for.
        begun: when the training began.
        restraint: waited for after each block.
        go_on: called between blocks; raises if this is to end.
        made: called with the repo's id if it had to be made.
    """

    def __init__(
        self,
        config: Config,
        begun: datetime,
        restraint: Restraint,
        *,
        go_on: Callable[[], None],
        made: Callable[[str], None],
    ) -> None:
        self._config, self._begun = config, begun
        self._restraint, self._go_on, self._made = restraint, go_on, made
        self.files = self.size_bytes = self.sent_bytes = 0

    def carry(self, candidate: Candidate) -> None:
        """Check it and send what of it the storage does not have.

        Raises:
            NotNowError: it changed meanwhile, or `go_on` said so.
            AgentError: finalize would refuse it as it is, or the Hub does not take it.
            OSError: a file cannot be read.
        """
        if not xet.available():
            raise HubRefusedError("Xet is switched off, and only by xet is anything sent ahead.", hint="")
        config = _config_of(self._config, candidate)
        seen = self._look(config)
        repo, state = self._reach(config)
        self._pass_gate(config, seen, repo, state)
        repo.ensure(state, private=config.private)
        if not state.exists:
            self._made(repo.repo_id)
        pieces = [Piece(file.path, file.source, file.size_bytes) for file in seen.stock.files]
        modes = content.upload_modes(repo, pieces)
        large = [file for file in seen.stock.files if modes[file.path] != "regular"]
        self._memory = HashMemory(config.state_dir / HASHES)
        self._delivered = Delivered(config.state_dir / DELIVERED, f"{config.endpoint} {repo.repo_id}")
        for file in large:
            self._send(repo, file)
        self.files, self.size_bytes = len(large), sum(file.size_bytes for file in large)

    def _look(self, config: Config) -> Inspection:
        seen = inspect(config)
        if refusal := seen.report.refusal(seen.stock.root):
            raise refusal
        artifact.refuse_older(seen.stock, self._begun)
        return seen

    def _reach(self, config: Config) -> tuple[Repo, RepoState]:
        patience = Patience(min(config.stall_s, _STALL_S))
        client = HubClient(endpoint=config.endpoint, token=config.token, patience=patience)
        repo = Repo(client, repo_id_for(config, client), config.revision)
        state = repo.look()
        repo.check_visibility(state, private=config.private)
        return repo, state

    def _pass_gate(self, config: Config, seen: Inspection, repo: Repo, state: RepoState) -> None:
        """Only what would be published is sent, by what is known of it now."""
        conditions = config.publish_if
        earlier = metrics_before(repo, state, None) if conditions.compares else None
        try:
            refusal = conditions.refusal(seen.training.last_values, earlier, config.git_ref)
        except UnknownMetricError as error:
            refusal = str(error)
        if refusal:
            raise HubRefusedError(f"It would not be published as it is: {refusal}.", hint="")

    def _send(self, repo: Repo, file: LocalFile) -> None:
        sha256 = self._memory.recall(file.source, "sha256")
        if sha256 is None and self._delivered.resembles(file.source, file.size_bytes):
            sha256 = self._hash(file)
        if sha256 and self._delivered.get(sha256):
            self._memory.keep(file.source, "sha256", sha256, file.stamp)
            self._memory.save()
            return
        with self._told(repo):
            sha256, xet_hash, sent_bytes = trickle.send(repo, self._blocks(file))
        self.sent_bytes += sent_bytes
        self._memory.keep(file.source, "sha256", sha256, file.stamp)
        self._memory.save()
        sketch = sketch_of(file.source, file.size_bytes)
        self._delivered.keep(Content(sha256, xet_hash, file.size_bytes, sketch))
        self._delivered.save()
        get_logger().debug("sent ahead", path=file.path, mb=round(file.size_bytes / _MEGA, 1))

    def _hash(self, file: LocalFile) -> str:
        digest = hashlib.sha256()
        for block in self._blocks(file):
            digest.update(block)
        return digest.hexdigest()

    def _blocks(self, file: LocalFile) -> Iterator[bytes]:
        """The file's bytes, as slowly as is fair; at their end it is still the file that was checked."""
        with artifact.open_regular(file.source) as stream:
            while block := stream.read(_BLOCK_BYTES):
                self._go_on()
                yield block
                self._restraint.after(len(block))
        if Stamp.of(file.source) != file.stamp:
            raise NotNowError(f"{file.path} was written again")

    @contextmanager
    def _told(self, repo: Repo) -> Iterator[None]:
        """Around a sending: a failure in the Hub's words, and nothing remembered that storage has lost."""
        try:
            yield
        except RemoteFailure as failure:
            if failure.status != content.UNKNOWN_CONTENT:
                raise repo.client.explain(failure, f"send ahead to {repo.repo_id}") from failure
            fresh_cache(os.environ, self._config.state_dir)
            self._delivered.forget()
            lost = f"Storage lost what was sent earlier: {failure.words}"
            raise HubUnreachableError(lost, hint="It is sent again.") from failure


def _config_of(config: Config, candidate: Candidate) -> Config:
    """What finalize would be told of this folder, were it published now."""
    weights = "sample" if config.check_weights == "full" else config.check_weights
    changes: dict[str, object] = {"check_weights": weights}
    if candidate.is_checkpoint:
        nothing = {"files": (), "evaluation_report": None, "benchmark_report": None, "samples_dir": None}
        changes |= {"output_dir": candidate.folder, "checkpoint": "last", "allow_partial": True, **nothing}
    return config.model_copy(update=changes)
