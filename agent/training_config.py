"""What the training was told to do, read from the file the training itself read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.hyperparameters import pick
from agent.parse import parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.hyperparameters import Value

DEFAULT_PATH = Path("/workspace/config.json")


@dataclass(frozen=True)
class TrainingConfig:
    """The few facts of a training config that a publication needs; None where it is silent."""

    method: str | None = None
    base_model: str | None = None
    dataset: str | None = None
    output_dir: Path | None = None
    hyperparameters: Mapping[str, Value] = field(default_factory=dict)


def read_training_config(path: Path) -> TrainingConfig:
    """Read a JSON or YAML training config, nested (`training.method`, `model.name`) or flat.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not JSON or YAML, or not an object.
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix in {".yaml", ".yml"}:
        from agent.parse_yaml import parse_yaml

        data = parse_yaml(text)
    else:
        data = parse_json(text)
    if not isinstance(data, dict):
        raise ValueError(f"it holds a {type(data).__name__}, not an object")  # noqa: TRY004 - the file is wrong, not a type
    output_dir = _text(data, "output_dir") or _text(data, "training", "output_dir")
    return TrainingConfig(
        method=_text(data, "training", "method") or _text(data, "method"),
        base_model=_text(data, "model", "name") or _text(data, "base_model"),
        dataset=_text(data, "dataset", "name") or _text(data, "dataset") or _text(data, "dataset_path"),
        output_dir=Path(output_dir) if output_dir else None,
        hyperparameters=pick(data),
    )


def _text(data: Any, *keys: str) -> str | None:  # noqa: ANN401 - whatever JSON holds
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data.strip() or None if isinstance(data, str) else None
