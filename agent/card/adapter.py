"""adapter_config.json as it may be published: naming a base that exists, or none."""

from __future__ import annotations

import json
from typing import Any

from agent.errors import ArtifactError
from agent.parse import parse_json

BASE_KEY = "base_model_name_or_path"


def read_adapter_config(content: bytes, where: str) -> dict[str, Any]:
    """Parse an adapter's config.

    Raises:
        ArtifactError: PEFT could not load it either.
    """
    try:
        config = parse_json(content)
    except ValueError as error:
        raise ArtifactError(f"{where} is {error}.", hint="Save the adapter again.") from error
    if not isinstance(config, dict):
        raise ArtifactError(f"{where} is not a JSON object.", hint="Save the adapter again.")
    return config


def with_base(content: bytes, config: dict[str, Any], base: str | None) -> bytes:
    """Return the file naming `base`; byte for byte the same file if it already does."""
    if config.get(BASE_KEY) == base:
        return content
    return json.dumps(config | {BASE_KEY: base}, indent=2, sort_keys=True).encode()
