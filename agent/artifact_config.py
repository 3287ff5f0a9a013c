"""What of a folder is published, and under which conditions: the part of Config that reads the artifact."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic reads the annotation
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from agent import gate
from agent.patterns import Patterns
from agent.repo_paths import Placement, parse_paths, parse_placements

if TYPE_CHECKING:
    from collections.abc import Callable


def _read_by(parse: Callable[[str], Any]) -> BeforeValidator:
    return BeforeValidator(lambda text: parse(text) if isinstance(text, str) else text)


def _optional(name: str) -> Any:  # noqa: ANN401 - pydantic's FieldInfo
    return Field(default=None, validation_alias=name)


class ArtifactSettings(BaseModel):
    """Which files make the publication, and what keeps a model back."""

    evaluation_report: Path | None = _optional("EVALUATION_REPORT")
    benchmark_report: Path | None = _optional("BENCHMARK_REPORT")
    samples_dir: Path | None = _optional("SAMPLES_DIR")
    publish_if: Annotated[gate.Gate, _read_by(gate.parse)] = Field(
        gate.Gate(), validation_alias="AGENT_PUBLISH_IF"
    )
    checkpoint: Literal["last", "best"] = Field("last", validation_alias="AGENT_CHECKPOINT")
    exclude: Annotated[Patterns, _read_by(Patterns)] = Field(Patterns(), validation_alias="AGENT_EXCLUDE")
    include: Annotated[Patterns, _read_by(Patterns)] = Field(Patterns(), validation_alias="AGENT_INCLUDE")
    files: Annotated[tuple[Placement, ...], _read_by(parse_placements)] = Field(
        (), validation_alias="AGENT_FILES"
    )
    expect: Annotated[tuple[str, ...], _read_by(parse_paths)] = Field((), validation_alias="AGENT_EXPECT")
    check_weights: Literal["headers", "sample", "full"] = Field(
        "sample", validation_alias="AGENT_CHECK_WEIGHTS"
    )
    allow_partial: bool = Field(default=False, validation_alias="AGENT_ALLOW_PARTIAL")
    allow_pickle: bool = Field(default=False, validation_alias="AGENT_ALLOW_PICKLE")
    allow_stale: bool = Field(default=False, validation_alias="AGENT_ALLOW_STALE")

    @property
    def reports(self) -> tuple[Placement, ...]:
        """The reports that were named, and where they will stand in the repo."""
        named = (("evaluation", self.evaluation_report), ("benchmarks", self.benchmark_report))
        return tuple(Placement(path, f"{folder}/{path.name}") for folder, path in named if path)
