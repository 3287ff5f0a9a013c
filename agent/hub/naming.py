"""Which repo to publish to: the name as configured, or one made from what the job is called."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agent.errors import ConfigError

if TYPE_CHECKING:
    from agent.config import Config
    from agent.hub.client import HubClient

LONGEST_NAME = 96
_NAMES = (
    "A name has letters, digits, '-', '_' and '.', at most 96 of them, "
    "no '-' or '.' at either end, no '--' or '..', and does not end in '.git'."
)


def repo_id_for(config: Config, client: HubClient) -> str:
    """Return `namespace/name`, asking the Hub for the token's namespace only when none is configured.

    Raises:
        ConfigError: no name can be made, or it is not one the Hub accepts.
    """
    name = config.repo_name or name_from_job(config)
    if "/" not in name:
        name = f"{config.hf_username or client.username()}/{name}"
    if name.count("/") != 1 or not all(is_valid_name(part) for part in name.split("/")):
        raise ConfigError(f"HF_REPO_NAME: {name!r} is not a repo name the Hub accepts.", hint=_NAMES)
    return name


def is_valid_name(name: str) -> bool:
    """Whether the Hub accepts this as a namespace or repo name (its documented rule)."""
    return (
        re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?", name) is not None
        and len(name) <= LONGEST_NAME
        and "--" not in name
        and ".." not in name
        and not name.endswith(".git")
    )


def name_from_job(config: Config) -> str:
    """Make a name from what the job is called.

    Raises:
        ConfigError: nothing names it.
    """
    if config.training_config_name:
        slug = re.sub(r"[^A-Za-z0-9_]+", "-", config.training_config_name).strip("-").lower()
        if slug:
            return slug[:LONGEST_NAME].strip("-")
    known = config.training_config_id or (str(config.job_id) if config.job_id else "")
    if known:
        return f"finetune-{re.sub(r'[^A-Za-z0-9]', '', known)[:8].lower()}"
    raise ConfigError(
        "There is no repo to publish to: HF_REPO_NAME, TRAINING_CONFIG_NAME and JOB_ID are all unset.",
        hint="Set HF_REPO_NAME=your-name/your-model.",
    )
