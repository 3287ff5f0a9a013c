"""The proof: what the Hub holds at one commit against what was read from disk.

For xet files the Hub's sha256 is the one the uploading client declared, so reading it back proves
nothing by itself: the content hash that hf_xet computed is compared as well.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from agent.errors import VerifyMismatchError
from agent.hub.files import MANIFEST, Stored

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from agent.hub.repo import Entry, Repo


def prove(
    repo: Repo,
    oid: str,
    tree: Mapping[str, Entry],
    stored: Iterable[Stored],
    *,
    is_model_file: Callable[[str], bool],
    xet_hash_of: Callable[[str], str],
) -> None:
    """Return only if the commit holds every file as stored, and no other model file beside them.

    Args:
        repo: the repo.
        oid: the commit.
        tree: its files, read back from the Hub.
        stored: what it must hold.
        is_model_file: tells files a loader would mix up with the model.
        xet_hash_of: computes the xet hash of a published path from the local file, for content that
            was not uploaded by xet in this run.

    Raises:
        VerifyMismatchError: naming each file that differs, and how.
    """
    expected = {one.path: one for one in stored}
    wrong = [
        f"{path}: {said}"
        for path, one in expected.items()
        if (said := differs(one, tree.get(path), xet_hash_of))
    ]
    wrong += [f"{path}: left beside the new model" for path in extras(tree, expected, is_model_file)]
    if wrong:
        raise VerifyMismatchError(
            f"{repo.repo_id} at {oid[:8]} is not what was read from disk: {'; '.join(wrong)}.",
            hint=f"Do not use {repo.url}; the model is safe in the output folder. Run finalize again; "
            "if it repeats, report it to the Hub with the commit above.",
        )


def read_made(
    repo: Repo,
    oid: str,
    tree: Mapping[str, Entry],
    finalize_id: str,
    *,
    published: Collection[str],
    expected: Collection[str],
) -> list[Stored]:
    """Read the files that an earlier run made for this publication, checked against its manifest.

    They are not made again: another version of this agent may word a card differently. What is in large file
    storage is not read: the manifest names its content hash, too.

    Args:
        repo: the repo.
        oid: the commit.
        tree: its files, read back from the Hub.
        finalize_id: the identity that makes the manifest ours.
        published: the user's files, which are on disk as they were published.
        expected: files that every publication of these has, made or repaired.

    Raises:
        VerifyMismatchError: the manifest is not ours, or a file is not what it says.
    """
    if MANIFEST not in tree or repo.manifest(oid).get("finalize_id") != finalize_id:
        raise _not_as_said(repo, oid, MANIFEST)
    listed = repo.manifest_files(oid)
    made = []
    for path in sorted((listed.keys() | set(expected)) - set(published)):
        said, entry = listed.get(path, {}), tree.get(path)
        if entry is None or entry.sha256:
            xet_hash = str(said.get("xet_hash")) if entry and entry.xet_hash else None
            made.append(Stored(path, said.get("size", 0), str(said.get("sha256")), xet_hash=xet_hash))
            continue
        content = repo.read(oid, path)
        sha256 = hashlib.sha256(content).hexdigest()
        # The manifest does not list itself: its word counts because it carries our identity.
        if path != MANIFEST and said.get("sha256") != sha256:
            raise _not_as_said(repo, oid, path)
        made.append(Stored(path, len(content), sha256, blob=content))
    return made


def _not_as_said(repo: Repo, oid: str, path: str) -> VerifyMismatchError:
    return VerifyMismatchError(
        f"{path} of {repo.repo_id} at {oid[:8]} is not what this publication's manifest says.",
        hint=f"Do not use {repo.url}; the model is safe in the output folder. "
        "Publish it again under a new JOB_ID.",
    )


def differs(one: Stored, found: Entry | None, xet_hash_of: Callable[[str], str]) -> str | None:
    """Say how the Hub's entry differs from the file we read, or None if it is proven equal."""
    if found is None:
        return "missing"
    if found.size_bytes != one.size_bytes:
        return f"{found.size_bytes} bytes instead of {one.size_bytes}"
    if one.blob is not None:
        ours = git_blob_id(one.blob)
        return None if found.oid == ours else f"git blob {found.oid} instead of {ours}"
    if found.sha256 != one.sha256:
        return f"sha256 {found.sha256} instead of {one.sha256}"
    if one.xet_hash is None and found.xet_hash is None:
        return None  # plain LFS: the storage itself checked the bytes against this sha256
    ours = one.xet_hash or xet_hash_of(one.path)
    return None if found.xet_hash == ours else f"xet hash {found.xet_hash} instead of {ours}"


def contradicts(
    found: Entry | None,
    *,
    size_bytes: int,
    sha256: str,
    blob_id: str | None,
    xet_hash: str | None,
    sha256_of: Callable[[Entry], str],
) -> str | None:
    """Say how the Hub's entry contradicts what a manifest says of a file, or None if it does not.

    Args:
        found: the Hub's entry.
        size_bytes: as the manifest says, like what follows.
        sha256: of the content.
        blob_id: git's id of it, if it is known.
        xet_hash: its hash in xet storage, if it is known.
        sha256_of: reads a file that is kept in git, when nothing that the Hub lists can be compared.
    """
    if found is None:
        return "missing"
    if found.size_bytes != size_bytes:
        return f"{found.size_bytes} bytes instead of {size_bytes}"
    if found.sha256 is None and blob_id:
        return None if found.oid == blob_id else f"git blob {found.oid} instead of {blob_id}"
    theirs = found.sha256 or sha256_of(found)
    if theirs != sha256:
        return f"sha256 {theirs} instead of {sha256}"
    if xet_hash and found.xet_hash and found.xet_hash != xet_hash:
        return f"xet hash {found.xet_hash} instead of {xet_hash}"
    return None


def extras(
    tree: Iterable[str], expected: Mapping[str, Stored], is_model_file: Callable[[str], bool]
) -> list[str]:
    """Model files of the tree that are none of ours."""
    return sorted(path for path in tree if path not in expected and is_model_file(path))


def git_blob_id(content: bytes) -> str:
    """The id git gives to a blob with this content."""
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content), usedforsecurity=False).hexdigest()
