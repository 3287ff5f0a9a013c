"""finalize.json: what was published, by whom it was made, and every file's hash.

It names neither itself nor its commit, and holds nothing that differs between two runs over the
same inputs.
"""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SCHEMA = 1  # its JSON Schema is agent/docs/finalize.schema.json


def make_manifest(
    *,
    files: Iterable[tuple[str, int, str]],
    identity: Mapping[str, str],
    training: Mapping[str, Any],
    versions: Mapping[str, str],
    xet_hashes: Mapping[str, str] = MappingProxyType({}),
) -> bytes:
    """Render the manifest.

    Args:
        files: (path, size in bytes, sha256) of every other file of the publication.
        identity: job, finalize and content ids, repo and branch.
        training: method, kind, base model, dataset, metrics, git revision; None where unknown.
        versions: what it was published with.
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
            | ({"xet_hash": xet_hashes[path]} if path in xet_hashes else {})
            for path, size, sha256 in sorted(files)
        ],
    }
    return (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
