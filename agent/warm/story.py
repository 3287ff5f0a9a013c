"""The story of the warm upload: look what was saved, send it ahead, and again for what comes after."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from agent import artifact, glance, log
from agent import config as configuration
from agent.artifact.placements import place
from agent.artifact.walk import walk
from agent.durable import write_durably
from agent.errors import AgentError, ConfigError
from agent.hub.environment import prepare
from agent.journal import folder_of
from agent.log import get_logger
from agent.warm.candidates import candidates
from agent.warm.restraint import Restraint
from agent.warm.settled import are_settled
from agent.warm.worker import FILE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.artifact import LocalFile
    from agent.config import Config
    from agent.hashes import Stamp
    from agent.warm.candidates import Candidate

VERSION = 1
LOOK_EVERY_S, GO_ON_EVERY_S = 2.0, 1.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 30.0, 900.0

_Marks = frozenset[tuple[str, "Stamp"]]


class Story:
    """Everything that is sent ahead for one training.

    Args:
        environ: the environment; the training may write its configuration when it begins, so it is read anew.
        begun_s: when the training began, in Unix seconds.
    """

    def __init__(self, environ: Mapping[str, str], begun_s: float) -> None:
        self._environ = environ
        self._begun = datetime.fromtimestamp(begun_s, UTC)
        self._begun_ns = int(begun_s * 1e9)
        self._done: dict[Candidate, _Marks] = {}
        self._made: str | None = None
        self._asked = 0.0

    def tell(self) -> None:
        """Send ahead for ever; what goes wrong is tried again later, or when there is something new."""
        while (config := self._config()) is None:
            time.sleep(LOOK_EVERY_S)
        style = config.log_format or ("console" if sys.stderr.isatty() else "json")
        log.configure(style=style, level=config.log_level)
        prepare(os.environ, config.state_dir)
        self._restraint = Restraint.here(config.warm_mb_s)
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                self.look()
                pause_s = FIRST_PAUSE_S
            except (AgentError, OSError) as error:
                get_logger().info("not sent ahead", because=str(error), again_in_s=pause_s)
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            time.sleep(LOOK_EVERY_S)

    def look(self) -> None:
        """Send ahead what is there to be sent, if that was not done yet.

        Raises:
            AgentError, OSError: it could not be sent; a later attempt may succeed.
        """
        from agent.warm.carrier import Carrier, NotNowError

        config = self._config()
        if config is None or self._is_finalized(config):
            return
        ready = self._next(config, candidates(config, self._begun_ns))
        if ready is None:
            return
        found, marks = ready
        go_on, made = partial(self._go_on, config, found), partial(self._note_made, config)
        carrier = Carrier(config, self._begun, self._restraint, go_on=go_on, made=made)
        begun = time.monotonic()
        try:
            carrier.carry(found)
        except (NotNowError, FileNotFoundError) as reason:  # a trainer removes its older checkpoints
            get_logger().debug("not sent ahead now", folder=str(found.folder), because=str(reason))
            return
        except AgentError as error:
            if error.retryable:
                raise
            get_logger().info("not sent ahead", folder=str(found.folder), because=error.message)
            self._done[found] = marks
            return
        self._done[found] = marks
        seconds = round(time.monotonic() - begun, 1)
        sent = {"files": carrier.files, "bytes": carrier.size_bytes, "sent_bytes": carrier.sent_bytes}
        get_logger().info("sent ahead of the end", folder=str(found.folder), seconds=seconds, **sent)
        self._write(config, folder=str(found.folder), **sent, done=True)

    def _note_made(self, config: Config, repo_id: str) -> None:
        """Keep for the job's account that a repo was made, whatever becomes of what is to go there."""
        self._made = repo_id
        self._write(config, folder=None, files=0, bytes=0, sent_bytes=0, done=False)

    def _write(self, config: Config, **facts: object) -> None:
        document = {"version": VERSION, "repo_created": self._made, **facts}
        with suppress(OSError):
            write_durably(folder_of(config) / FILE, document)

    def _go_on(self, config: Config, sending: Candidate) -> None:
        """Return if this candidate is still the one to be sent.

        Raises:
            NotNowError: a newer one is there, or somebody finalizes.
        """
        from agent.warm.carrier import NotNowError

        now = time.monotonic()
        if now - self._asked < GO_ON_EVERY_S:
            return
        self._asked = now
        if self._is_finalized(config):
            raise NotNowError("a finalize of this job is at work")
        found = candidates(config, self._begun_ns)
        if sending not in found or self._next(config, found[: found.index(sending)]):
            raise NotNowError("the training has saved something newer")

    def _next(self, config: Config, found: list[Candidate]) -> tuple[Candidate, _Marks] | None:
        """The newest that is not sent and left alone, as it is now; while that is written, an older one."""
        for one in found:
            files = _files(config, one)
            marks = frozenset((file.path, file.stamp) for file in files)
            is_done = self._done.get(one) == marks
            if not is_done and are_settled(files, time.time_ns()):
                return one, marks
            if is_done and not one.is_checkpoint:
                return None  # the model itself is there: its checkpoints are past
        return None

    def _config(self) -> Config | None:
        try:
            return configuration.load(self._environ)
        except ConfigError:
            return None  # it is being written, or finalize will say what is wrong

    @staticmethod
    def _is_finalized(config: Config) -> bool:
        return glance.is_held(folder_of(config) / "lock")


def _files(config: Config, found: Candidate) -> list[LocalFile]:
    """What of a candidate may be published, as it is now; none while it cannot be listed."""
    selection = artifact.Selection(config.exclude, config.include)
    try:
        files = walk(found.folder, selection).files
        placements = () if found.is_checkpoint else config.files
        return files + [file for one in placements for file in place(one, selection).files]
    except (AgentError, OSError):
        return []
