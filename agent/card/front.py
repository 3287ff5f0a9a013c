"""The metadata block at the head of a README."""

from __future__ import annotations

import re
from typing import Any

import yaml

from agent.log import get_logger
from agent.parse_yaml import parse_yaml

_FRONT = re.compile(r"\A---[ \t]*\r?\n(?:(.*?)\r?\n)?---[ \t]*(?:\r?\n|\Z)(.*)\Z", re.DOTALL)


def read_metadata(text: str) -> tuple[dict[str, Any], str]:
    """Split a README into its metadata and its body; unreadable metadata counts as none."""
    text = text.removeprefix("\ufeff")
    split = _FRONT.match(text)
    if not split:
        return {}, text
    try:
        metadata = parse_yaml(split[1] or "")
    except ValueError as error:
        get_logger().warning("dropped README metadata that is not YAML", because=str(error))
        return {}, split[2]
    return (metadata if isinstance(metadata, dict) else {}), split[2]


def join(metadata: dict[str, Any], body: str) -> str:
    """A README of metadata and body."""
    front = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True) if metadata else ""
    body = body.lstrip("\r\n")
    return f"---\n{front}---\n\n{body}" if front else body


def named_bases(metadata: dict[str, Any]) -> list[str]:
    """The base models the metadata names."""
    named = metadata.get("base_model")
    return [base for base in (named if isinstance(named, list) else [named]) if isinstance(base, str)]
