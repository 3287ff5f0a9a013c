"""Where the job database is and how to get in: its variables, checked before anything depends on them."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DATABASE_FIELDS = ("supabase_url", "job_id", "job_token", "supabase_anon_key", "supabase_service_key")
SECRET_KEY_PREFIX = "sb_secret_"  # noqa: S105 - how such keys begin, not one of them
# What templates and platforms put where a value is missing: letters in a row, or words for people.
_PLACEHOLDER = re.compile(r"x{5,}|your[-_]|placeholder|changeme|<.*>", re.IGNORECASE)


@dataclass(frozen=True)
class JobDatabase:
    """A Supabase project and one table in it; `token` is the secret of one job's row."""

    url: str
    key: str = field(repr=False)
    token: str | None = field(repr=False)
    table: str


def project_url(url: str) -> str:
    """Return the project's address without a slash at its end.

    Raises:
        ValueError: it is no such address, carries a path, or was never filled in.
    """
    found = re.fullmatch(r"(https?://[^\s/?#@]+)(/[^\s?#]*)?", url)
    if found is None:
        raise ValueError("must be the project's URL, such as https://abcdefghijkl.supabase.co")
    origin, path = found[1], (found[2] or "").strip("/")
    if path:
        raise ValueError(f"must end after the host, without /{path}: {origin}")
    if _PLACEHOLDER.search(origin):
        raise ValueError("is a placeholder; set the URL of a real project, or unset it to keep the row here")
    return origin


def filled_in(key: str) -> str:
    """Return an API key that somebody filled in.

    Raises:
        ValueError: it is the placeholder of a template, or has characters no key has.
    """
    if not re.fullmatch(r"[!-~]+", key):
        raise ValueError("contains characters that no key has; was it copied whole, without a line break?")
    if _PLACEHOLDER.search(key) or _PLACEHOLDER.search(str(_claims(key).get("ref", ""))):
        raise ValueError("is a placeholder; copy the key from the project's API settings")
    return key


def is_service_key(key: str) -> bool:
    """Whether a key passes every policy of the database: a pod should not hold such a one."""
    return key.startswith(SECRET_KEY_PREFIX) or _claims(key).get("role") == "service_role"


def database_warnings(given: Mapping[str, Sequence[str]], values: Mapping[str, Any]) -> list[str]:
    """What is worth saying of the variables that name a job database.

    Args:
        given: by field of the configuration, those of its variables that are set.
        values: the variables.
    """
    url, job, token = (given[field] for field in ("supabase_url", "job_id", "job_token"))
    too_strong = [name for name in given["supabase_anon_key"] if is_service_key(str(values[name]))]
    said = [
        f"{name} opens every row of the job database: a pod should not hold it; "
        "SUPABASE_ANON_KEY and JOB_TOKEN are enough"
        for name in [*given["supabase_service_key"], *too_strong]
    ]
    if url and not job:
        said.append("SUPABASE_URL is set but JOB_ID is not: the job's row is kept in a local file")
    elif url and not token:
        said.append("JOB_TOKEN is not set: a job database that protects its rows shows none without it")
    elif token and not url:
        said.append("JOB_TOKEN is set but SUPABASE_URL is not: the job's row is kept in a local file")
    return said


def _claims(key: str) -> dict[str, Any]:
    """The payload of a key that is a JWT; nothing of it is believed, it only helps to name mistakes."""
    parts = key.split(".")
    if len(parts) != 3:  # noqa: PLR2004 - header, payload, signature
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}
