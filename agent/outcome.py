"""What a finalize did, filled in as it goes: true at every moment, also when it is cut short."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.errors import AgentError, Interrupted, JobRefusedError
from agent.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


@dataclass
class Outcome:
    """The account of one finalize; `as_json` is its contract with callers.

    `result` is completed, skipped, not-published, cancelled, failed or pending; `published` says
    whether the model is proven to be on the Hub. `training` is what the manifest says of the model: kind,
    method, base_model, dataset, metrics, git_revision. `retries` counts by kind of call and cause. Each of
    the `watchers` is entered with the name of a step and left when the step is over.
    """

    result: str = "failed"
    published: bool = False
    model_url: str | None = None
    repo_id: str | None = None
    commit: str | None = None
    files: int = 0
    size_bytes: int = 0
    uploaded_bytes: int = 0
    job_id: str | None = None
    job_status: str | None = None
    error: dict[str, str] | None = None
    plan: dict[str, Any] | None = None
    note: str | None = None
    warnings: list[str] = field(default_factory=list)
    steps: dict[str, float] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    retries: Counter[tuple[str, str]] = field(default_factory=Counter)
    watchers: list[Callable[[str], AbstractContextManager[object]]] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Account for the seconds that one step of the story takes."""
        begun = time.monotonic()
        try:
            with ExitStack() as watching:
                for watcher in self.watchers:
                    watching.enter_context(watcher(name))
                yield
        finally:
            self.steps[name] = round(self.steps.get(name, 0.0) + time.monotonic() - begun, 3)
            get_logger().debug("step done", step=name, seconds=self.steps[name])

    def failed(self, error: BaseException, *, code: str, message: str, hint: str) -> None:
        """Note why it ended."""
        self.result = self.result_of(error)
        self.error = {"code": code, "message": message, "hint": hint}

    def result_of(self, error: BaseException) -> str:
        """How it ends by this error: what a rerun can mend is pending, a cancelled job is no failure."""
        if isinstance(error, Interrupted) or (isinstance(error, AgentError) and error.retryable):
            return "pending"
        if isinstance(error, JobRefusedError) and self.job_status == "cancelled":
            return "cancelled"
        return "failed"

    def as_json(self) -> dict[str, Any]:
        """The JSON object of the contract; what is known beyond it comes on top."""
        return {
            "result": self.result,
            "published": self.published,
            "model_url": self.model_url,
            "repo_id": self.repo_id,
            "commit": self.commit,
            "files": self.files,
            "bytes": self.size_bytes,
            "uploaded_bytes": self.uploaded_bytes,
            "duration_s": round(time.monotonic() - self.started, 3),
            "job": {"id": self.job_id, "status": self.job_status},
            "error": self.error,
            "warnings": self.warnings,
            "steps": self.steps,
        } | {name: value for name in ("training", "note", "plan") if (value := getattr(self, name))}
