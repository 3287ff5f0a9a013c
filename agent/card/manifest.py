"""finalize.json: what was published, by whom it was made, and every file's hash.

It names neither itself nor its commit, and holds nothing that differs between two runs over the
same inputs.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from agent.parse import parse_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SCHEMA = 1  # its JSON Schema is agent/docs/finalize.schema.json
_NOTHING: Mapping[str, str] = MappingProxyType({})
_SHA256 = 64  # digits
_HASHES = {"blob_id": 40, "xet_hash": 64}
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHOWN = 80


@dataclass(frozen=True)
class Listed:
    """What a manifest says of one file; `blob_id` and `xet_hash` are None where it does not say them."""

    path: str
    size_bytes: int
    sha256: str
    blob_id: str | None = None
    xet_hash: str | None = None


@dataclass(frozen=True)
class Manifest:
    """What a manifest says that a later reader needs: whose publication it is, and its files."""

    job: str
    finalize_id: str
    repo_id: str
    files: tuple[Listed, ...]

    @property
    def tag(self) -> str:
        """The tag on the newest commit of its job."""
        return f"job-{self.job[:8]}"


def make_manifest(
    *,
    files: Iterable[tuple[str, int, str]],
    identity: Mapping[str, str],
    training: Mapping[str, Any],
    versions: Mapping[str, str],
    blob_ids: Mapping[str, str] = _NOTHING,
    xet_hashes: Mapping[str, str] = _NOTHING,
) -> bytes:
    """Render the manifest.

    Args:
        files: (path, size in bytes, sha256) of every other file of the publication.
        identity: job, finalize and content ids, repo and branch.
        training: method, kind, base model, dataset, metrics, git revision; None where unknown.
        versions: what it was published with.
        blob_ids: by path, git's id of files that are kept in git: the Hub lists it, so that nobody needs to
            read the file again to compare it.
        xet_hashes: by path, of files made for the page that are in xet storage: nobody has them on disk, and
            the Hub's sha256 of such a file is the uploader's own word.
    """
    document = {
        "schema": SCHEMA,
        **identity,
        **training,
        "versions": dict(sorted(versions.items())),
        "files": [
            {"path": path, "size": size, "sha256": sha256}
            | ({"blob_id": blob_ids[path]} if path in blob_ids else {})
            | ({"xet_hash": xet_hashes[path]} if path in xet_hashes else {})
            for path, size, sha256 in sorted(files)
        ],
    }
    return (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_manifest(content: bytes) -> Manifest:
    """Read a manifest back, as strictly as its schema asks for what is needed here.

    Raises:
        ValueError: it is none; the message goes on after its path.
    """
    try:
        found = parse_json(content)
    except ValueError as error:
        raise ValueError(f"is damaged: {error}") from error
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise ValueError(f"is no manifest of schema {SCHEMA}")
    items = found.get("files")
    files = tuple(map(_listed, items if isinstance(items, list) else ()))
    if not files or len({file.path for file in files}) < len(files):
        raise ValueError("is damaged: it does not list every file once")
    job = _text(found, "job")
    if not _UUID.fullmatch(job):
        raise ValueError("is damaged: its job is no UUID")
    return Manifest(job, _hash(found.get("finalize_id"), _SHA256), _text(found, "repo_id"), files)


def _listed(item: object) -> Listed:
    found = item if isinstance(item, dict) else {}
    size = found.get("size")
    if type(size) is not int or size < 0:
        raise ValueError(f"is damaged: it lists a file without a size: {str(item)[:_SHOWN]!r}")
    hashes = {name: _hash(found[name], digits) for name, digits in _HASHES.items() if found.get(name)}
    return Listed(_text(found, "path"), size, _hash(found.get("sha256"), _SHA256), **hashes)


def _text(found: dict[str, Any], name: str) -> str:
    text = found.get(name)
    if not isinstance(text, str) or not text:
        raise ValueError(f"is damaged: there is no {name} where one must be")
    return text


def _hash(found: object, digits: int) -> str:
    if not isinstance(found, str) or not re.fullmatch(rf"[0-9a-f]{{{digits}}}", found):
        raise ValueError(f"is damaged: {str(found)[:_SHOWN]!r} is no hash of {digits} digits")
    return found
