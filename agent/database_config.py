"""Where the job database is and how to get in: its variables, checked before anything depends on them."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass, field
from typing import Any

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
