"""One commit: read line by line, checked, and applied whole or not at all.

`POST /api/models/{id}/commit/{branch}`, newline-delimited JSON, each line `{key, value}`.
"""

import asyncio
import base64
import binascii
import json
import re
from collections.abc import AsyncIterator
from typing import Any

from agent.sandbox.hub.listing import folders
from agent.sandbox.hub.names import check_path
from agent.sandbox.hub.readme import examine
from agent.sandbox.hub.refused import bad_request, entry_not_found, revision_not_found
from agent.sandbox.hub.repos import Commit, Entry, Repo
from agent.sandbox.hub.upload_mode import REGULAR_MAX_BYTES, is_binary
from agent.sandbox.hub.world import World
from agent.sandbox.loopback.refused import RefusedError

MAX_LARGE_FILES = 25_000
LINE_MAX_BYTES = 256 * 2**20
_SAMPLE_BYTES = 8000
_SHORT_BYTES = 2**16  # a line that is not worth a thread
_SECRETS = {
    "Hugging Face": re.compile(rb"\bhf_[A-Za-z0-9]{34,}"),
    "AWS": re.compile(rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
}


class Draft:
    """A commit under construction: a header, and changes in the order they came."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._header: dict[str, Any] | None = None
        self._changes: list[tuple[str, str, Entry | None]] = []
        self._large = 0

    @classmethod
    async def read(cls, world: World, lines: AsyncIterator[bytes]) -> "Draft":
        """Read a draft from its lines.

        Raises:
            RefusedError: 400 for the first line that is wrong.
        """
        draft = cls(world)
        async for line in lines:
            if len(line) > _SHORT_BYTES:
                await asyncio.to_thread(draft.add, line)
            elif line.strip():
                draft.add(line)
        return draft

    def add(self, line: bytes) -> None:
        """Take in one line."""
        try:
            item = json.loads(line)
            key, value = item["key"], item["value"]
            if key == "header":
                self._header = _check_header(value)
                return
            path = check_path(value["path"].rstrip("/") if key == "deletedFolder" else value["path"])
            if key == "file":
                self._changes.append(("put", path, self._regular(path, value)))
            elif key == "lfsFile":
                self._changes.append(("put", path, self._large_file(path, value)))
            elif key in {"deletedFile", "deletedFolder"}:
                self._changes.append((key, path, None))
            else:
                raise bad_request(f"Invalid commit line: unknown key {key!r}")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise bad_request(f"Invalid commit line: {error!r}") from error

    def apply(self, repo: Repo, branch: str, author: str) -> Commit:
        """Make the commit on a branch.

        Raises:
            RefusedError: 400 without a header, 404 if a path to delete is not there, 412 if the branch moved.
        """
        header = self._header
        if header is None:
            raise bad_request("Invalid commit: a header with a summary is required")
        with repo.lock:
            head = repo.branches.get(branch)
            if head is None:
                raise revision_not_found(branch)
            if not head.startswith(header.get("parentCommit") or head[:7]):
                raise RefusedError(412, "A commit has happened since. Please refresh and try again.")
            tree = dict(repo.resolve(head).tree)
            for kind, path, entry in self._changes:
                _change(tree, kind, path, entry)
            if clashes := folders(tree) & tree.keys():
                raise bad_request(f"Invalid commit: {min(clashes)!r} is both a file and a folder")
            for path in [path for path in tree if self._world.tamper.drops(path)]:
                del tree[path]
            description = header.get("description") or ""
            return repo.commit(branch, tree, title=header["summary"], message=description, author=author)

    def _regular(self, path: str, value: dict[str, Any]) -> Entry:
        content = value["content"].encode()
        if value.get("encoding") == "base64":
            try:
                content = base64.b64decode(content, validate=True)
            except binascii.Error as error:
                raise bad_request(f"Invalid base64 content for {path!r}: {error}") from error
        if len(content) > REGULAR_MAX_BYTES:
            raise bad_request(
                f"Your push was rejected because {path!r} is larger than 10 MiB: use large file storage."
            )
        if is_binary(content[:_SAMPLE_BYTES]):
            raise bad_request(f"Your push was rejected because it contains binary files: {path!r}")
        for kind, pattern in _SECRETS.items():
            if pattern.search(content):
                raise bad_request(f"Your push was rejected: secret found in {path!r} ({kind} token)")
        if path == "README.md" and (errors := examine(content.decode(errors="replace")).errors):
            messages = [{"message": message} for message in errors]
            raise bad_request("Invalid metadata in README.md: " + "; ".join(errors), errors=messages)
        return self._world.content.add_blob(content)

    def _large_file(self, path: str, value: dict[str, Any]) -> Entry:
        self._large += 1
        if self._large > MAX_LARGE_FILES:
            raise bad_request(f"Too many large files in one commit: at most {MAX_LARGE_FILES}")
        oid = value["oid"]
        if value.get("algo") != "sha256" or not isinstance(oid, str):
            raise bad_request("Invalid commit line: lfsFile needs algo sha256 and an oid")
        entry = self._world.content.find_large(oid)
        if entry is None:
            raise bad_request(
                "Your push was rejected because an LFS pointer pointed to a file that does not exist: "
                f"{path!r} ({oid})"
            )
        if value.get("size") not in {None, entry.size}:
            raise bad_request(f"LFS pointer of {path!r} says {value['size']} bytes, storage has {entry.size}")
        return entry


def _check_header(header: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(header["summary"], str) or not header["summary"]:
        raise bad_request("Invalid commit: a header with a summary is required")
    if not all(isinstance(header.get(key), str | None) for key in ("description", "parentCommit")):
        raise bad_request("Invalid commit: description and parentCommit must be strings")
    return header


def _change(tree: dict[str, Entry], kind: str, path: str, entry: Entry | None) -> None:
    if entry is not None:
        tree[path] = entry
        return
    doomed = [path] if path in tree else []
    if kind == "deletedFolder":
        doomed = [name for name in tree if name.startswith(f"{path}/")]
    if not doomed:
        raise entry_not_found(f"A file with this name doesn't exist: {path}")
    for name in doomed:
        del tree[name]
