"""What the Hub accepts as the name of a repository, a model, a branch or a file."""

import re

from agent.sandbox.hub.refused import bad_request

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?|_[A-Za-z0-9._-]{0,94}[A-Za-z0-9_]")
_MODEL_ID = re.compile(r"[A-Za-z0-9_][\w.-]*(?:/[A-Za-z0-9_][\w.-]*)?", re.ASCII)
_REF = re.compile(r"(?!-)(?!.*(?:\.\.|//|@\{|\.lock$))[^\s~^:?*\[\\\x00-\x1f\x7f]{1,200}")
_FORBIDDEN_PARTS = {"", ".", "..", ".git"}


def check_repo_name(name: object) -> str:
    """Return `name`, or refuse it (400) by the rules of huggingface_hub's `validate_repo_id`."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise bad_request(
            "Invalid repo name: use letters, digits, '-', '_' and '.', at most 96 characters, "
            f"not beginning or ending with '-' or '.': {name!r}"
        )
    if "--" in name or ".." in name:
        raise bad_request(f"Invalid repo name: cannot have -- or ..: {name!r}")
    if name.endswith(".git"):
        raise bad_request(f"Invalid repo name: cannot end with .git: {name!r}")
    return name


def is_model_id(value: object) -> bool:
    """Tell `name` and `owner/name` from anything else, above all from a path on somebody's disk."""
    return (
        isinstance(value, str)
        and bool(_MODEL_ID.fullmatch(value))
        and "--" not in value
        and ".." not in value
        and not value.endswith((".git", "-", "."))
    )


def check_ref_name(name: object) -> str:
    """Return a branch or tag name git would take, or refuse it (400)."""
    if not isinstance(name, str) or not _REF.fullmatch(name) or name.endswith(("/", ".")):
        raise bad_request(f"Invalid git reference name: {name!r}")
    return name


def check_path(path: object) -> str:
    """Return a path inside a repository, or refuse it (400)."""
    if not isinstance(path, str) or any(part in _FORBIDDEN_PARTS for part in path.split("/")):
        raise bad_request(f"Invalid path in repo: {path!r}")
    return path
