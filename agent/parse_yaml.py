"""YAML from somebody else's hands; apart from JSON, because few need it and it takes long to load."""

from __future__ import annotations

import re
from typing import Any

import yaml


def parse_yaml(text: str) -> Any:  # noqa: ANN401 - whatever YAML holds
    """Parse YAML by the rules of YAML 1.2's core schema: `no` is a word, a date is text.

    Raises:
        ValueError: it is not YAML, or nested too deep to be meant.
    """
    try:
        return yaml.load(text, _CoreLoader)  # noqa: S506 - derived from the safe loader
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"not YAML: {error.problem}{line}") from error
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError) as error:
        # The library's constructors fail in many ways on a value that contradicts its own tag.
        raise ValueError("not YAML that can be read") from error


class _CoreLoader(yaml.SafeLoader):
    """Reads what a YAML 1.2 reader, the Hub for one, would read."""


_CoreLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(0|[1-9][0-9]{0,17})", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
):  # fmt: skip
    _CoreLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first)
    )
