"""The metadata block of a model card, held to the Hub's rules (`POST /api/validate-yaml`)."""

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from agent.sandbox.hub.names import is_model_id

_BLOCK = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)(?:^---[ \t]*(?:\r?\n|\Z))", re.DOTALL | re.MULTILINE)
_EMPTY = "empty or missing yaml metadata in repo card (https://huggingface.co/docs/hub/model-cards#model-card-metadata)"


@dataclass
class Verdict:
    """What is wrong with a card (`errors` refuse it), and what could be better."""

    metadata: dict[str, Any] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return both lists as the Hub sends them."""
        return {
            "errors": [{"message": message} for message in self.errors],
            "warnings": [{"message": message} for message in self.warnings],
        }


def examine(card: str) -> Verdict:
    """Judge a README.md by its metadata."""
    block = _BLOCK.match(card)
    try:
        metadata = yaml.safe_load(block.group(1)) if block else None
    except yaml.YAMLError as error:
        return Verdict(errors=[f"Invalid YAML metadata: {error}"])
    if not metadata:
        return Verdict(warnings=[_EMPTY])
    if not isinstance(metadata, dict):
        return Verdict(errors=["Invalid YAML metadata: it must be a mapping"])
    verdict = Verdict(metadata)
    for key, what in (("base_model", "model id"), ("datasets", "dataset id")):
        bad = [value for value in _as_list(metadata.get(key)) if not is_model_id(value)]
        verdict.errors += [
            f'"{key}" with value {value!r} is not valid. Use a {what} from the Hub.' for value in bad
        ]
    if not all(isinstance(value, str) and value for value in _as_list(metadata.get("license"))):
        verdict.errors.append('"license" must be a string')
    verdict.errors += _check_model_index(metadata.get("model-index"))
    return verdict


def _as_list(value: object) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _check_model_index(index: object) -> list[str]:
    if index is None:
        return []
    if not isinstance(index, list):
        return ['"model-index" must be an array']
    errors = []
    for at, model in enumerate(index):
        where = f"model-index[{at}]"
        if not isinstance(model, dict) or not isinstance(model.get("name"), str):
            errors.append(f'"{where}.name" is required')
        results = model.get("results") if isinstance(model, dict) else None
        if not isinstance(results, list):
            errors.append(f'"{where}.results" must be an array')
            continue
        for number, result in enumerate(results):
            errors += _check_result(f"{where}.results[{number}]", result)
    return errors


def _check_result(where: str, result: object) -> list[str]:
    if not isinstance(result, dict):
        return [f'"{where}" must be of type object']
    required = {"task": ("type",), "dataset": ("type", "name"), "metrics": ("type", "value")}
    errors = []
    for part, keys in required.items():
        values = result.get(part)
        if not values or (part == "metrics") != isinstance(values, list):
            errors.append(f'"{where}.{part}" is required')
            continue
        for value in values if isinstance(values, list) else [values]:
            missing = [key for key in keys if not isinstance(value, dict) or value.get(key) is None]
            errors += [f'"{where}.{part}.{key}" is required' for key in missing]
    return errors
