"""One line of a preflight: what was looked at, how it stands, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from agent.errors import AgentError

Verdict = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; `error` is what finalize would end with, where it would."""

    name: str
    verdict: Verdict
    said: str
    cure: str = ""
    error: AgentError | None = field(default=None, repr=False)

    @classmethod
    def fine(cls, name: str, said: str) -> Check:
        """Nothing is wrong."""
        return cls(name, "ok", said)

    @classmethod
    def note(cls, name: str, said: str, cure: str) -> Check:
        """A finalize would succeed, but not as well as it could, or nobody can tell before it is tried."""
        return cls(name, "warning", said, cure)

    @classmethod
    def refused(cls, name: str, error: AgentError) -> Check:
        """A finalize would fail with this error."""
        return cls(name, "error", error.message, error.hint, error)

    def as_json(self) -> dict[str, Any]:
        """The line as callers read it; `code` is the error code of a refusal."""
        code = self.error.code if self.error else None
        return {
            "name": self.name,
            "verdict": self.verdict,
            "said": self.said,
            "cure": self.cure,
            "code": code,
        }
