"""Everything that a card says; what is unknown is None or empty, and not mentioned."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Training:
    """The course of a training; the names are those of `artifact.Training` and `artifact.Run`."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    history: tuple[Mapping[str, Any], ...] = ()
    steps: int | None = None
    max_steps: int | None = None
    epochs: float | None = None
    runtime_s: float | None = None
    tokens: float | None = None
    ended: str = "unknown"
    diverged: tuple[str, ...] = ()
    hardware: str | None = None
    hyperparameters: Mapping[str, str | float | bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """One plot in the repo, and the sentence that tells somebody who cannot see it what it shows."""

    path: str
    title: str
    caption: str


@dataclass(frozen=True)
class Report:
    """Figures of an evaluation that somebody made: as a table, and by name for the metadata."""

    title: str
    path: str
    table: str
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """What the card says about the publication; the tag is the only link into its history.

    `kind` is one of the inventory's; `paths` are all files that a reader of the repo will find; `datasets`
    are on the Hub, `dataset` is only a name.
    """

    repo_id: str
    endpoint: str
    kind: str
    method: str | None
    base_model: str | None
    dataset: str | None
    job_id: str
    tag: str
    revision: str = "main"
    dropped_bases: frozenset[str] = frozenset()
    datasets: tuple[str, ...] = ()
    paths: frozenset[str] = frozenset()
    adapter: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    chat_template: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)
    git_revision: str | None = None
    training: Training = field(default_factory=Training)
    pictures: tuple[Picture, ...] = ()
    reports: tuple[Report, ...] = ()
    gallery: str = ""
    weights_read: str = ""

    @property
    def is_adapter(self) -> bool:
        """Whether a reader needs the base model beside it."""
        return self.kind in {"adapter", "adapters"}

    @property
    def architecture(self) -> str | None:
        """The class of transformers that the weights belong to."""
        named = self.model.get("architectures")
        first = named[0] if isinstance(named, list) and named else None
        return first if isinstance(first, str) and first.isidentifier() else None

    @property
    def quantized(self) -> bool:
        """Whether the weights are stored in fewer bits than they were trained in."""
        return self.kind == "gguf" or isinstance(self.model.get("quantization_config"), dict)

    @property
    def task(self) -> str | None:
        """What the model is for, in the Hub's words for pipelines."""
        told = self.adapter.get("task_type") if self.adapter else self.architecture
        told = str(told or "").replace("_", "").lower()
        return next((task for ending, task in _TASKS.items() if told.endswith(ending)), None)


# Endings of transformers' class names, and of PEFT's task types.
_TASKS = {
    "causallm": "text-generation",
    "lmheadmodel": "text-generation",
    "seq2seqlm": "text-generation",
    "forconditionalgeneration": "text-generation",
    "sequenceclassification": "text-classification",
    "seqcls": "text-classification",
    "tokenclassification": "token-classification",
    "tokencls": "token-classification",
    "questionanswering": "question-answering",
    "questionans": "question-answering",
    "featureextraction": "feature-extraction",
}
