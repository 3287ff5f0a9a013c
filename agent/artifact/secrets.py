"""Credentials in what would be published: everything that looks like one, and what this process was given."""

from __future__ import annotations

import codecs
import gzip
import zipfile
import zlib
from typing import IO, TYPE_CHECKING

from agent.artifact.credentials import credentials_in
from agent.artifact.files import open_regular
from agent.artifact.findings import Finding
from agent.artifact.safetensors import listed
from agent.artifact.suspects import suspects
from agent.artifact.zips import STORAGE, ZIP_MAGIC, DamagedZipError, open_member, open_zip
from agent.log import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from io import BufferedReader

    from agent.artifact.files import LocalFile

_CHUNK = 4 << 20
_OVERLAP = 16 << 10  # longer than any match with all that belongs to it
_WHOLE = 64 << 20
_EDGE = 32 << 20
_MOST_UNPACKED = 256 << 20
_SMALL_STORAGE = 1 << 20

_BEGINNING = 8192  # tells text from other bytes
_LONGEST_WORD = 8  # variables like SORT_KEY hold "created" and "default"

_KNOWN = "one that this process was given"
_HINT = "Remove it, and revoke it where it was made: whoever has read it can use it."


def scan(files: Sequence[LocalFile], known: Collection[str]) -> Iterator[Finding]:
    """Find credentials in files, in their names, and in the members of zip containers.

    Of weights, only what is no tensor is read. No finding quotes any part of a secret.

    Args:
        files: what would be published.
        known: secrets that this process holds, in every spelling that is to be found; short words among
            them are not looked for, as any text may hold them.

    Raises:
        OSError: a file cannot be read.
    """
    telling = (secret for secret in known if len(secret) > _LONGEST_WORD or not secret.isalpha())
    literals = sorted(secret.encode("utf-8", "surrogateescape") for secret in telling)
    for file in suspects(files, literals):
        yield from _Search(literals).findings(file)


class _Search:
    """The search of one file, which is read once; each kind of credential is told once."""

    def __init__(self, literals: list[bytes]) -> None:
        self._literals = literals
        self._overlap = max(_OVERLAP, *map(len, literals), 0)
        self._found: dict[str, str] = {}
        self._partly = ""
        self._unpacked = 0

    def findings(self, file: LocalFile) -> Iterator[Finding]:
        """What there is to tell of the file, under a path without secrets."""
        path = self._in_name(file.path)
        with open_regular(file.source) as stream:
            self._in_file(file, stream)
        for kind, where in self._found.items():
            yield Finding(path, "secret", f"holds a credential ({kind}){where}", _HINT)
        if self._partly:
            message = f"was searched for credentials in part only: {self._partly}"
            yield Finding(path, "partly-scanned", message, "Look through it yourself.", refuses=False)

    def _in_name(self, path: str) -> str:
        if not self._in_data(path.encode(), " in its name"):
            return path
        parts = [HIDDEN if self._in_data(part.encode(), "") else part for part in path.split("/")]
        return "/".join(parts) if HIDDEN in parts else HIDDEN

    def _in_file(self, file: LocalFile, stream: BufferedReader) -> None:
        head, size = stream.peek(16)[:16], file.size_bytes
        if head.startswith(ZIP_MAGIC):
            try:
                with open_zip(stream) as archive:
                    self._in_zip(archive)
            except DamagedZipError:
                stream.seek(0)
                self._in_stream(stream, size)
        elif head.startswith(b"\x1f\x8b"):
            self._in_gzip(stream)
        elif head.startswith(b"GGUF"):
            self._in_stream(stream, min(size, _EDGE))
        elif file.path.endswith(".safetensors") and head[8:9] == b"{":
            self._in_stream(stream, min(size, 8 + int.from_bytes(head[:8], "little")))
        else:
            self._in_stream(stream, size)

    def _in_zip(self, archive: zipfile.ZipFile) -> None:
        members = [(STORAGE.fullmatch(member.filename) is not None, member) for member in archive.infolist()]
        for is_storage, member in sorted(members, key=lambda one: one[0]):
            leaks = self._in_data(member.filename.encode(errors="replace"), " in the name of a member")
            if is_storage and (member.file_size > _SMALL_STORAGE or self._unpacked >= _MOST_UNPACKED):
                continue
            try:
                with open_member(archive, member) as stream:
                    self._unpack(stream, " in a member" if leaks else f" in {listed([member.filename])}")
            except (ValueError, zipfile.BadZipFile, zlib.error, EOFError):
                self._partly = "a member of it cannot be unpacked"

    def _in_gzip(self, stream: IO[bytes]) -> None:
        try:
            with gzip.GzipFile(fileobj=stream) as unpacked:
                self._unpack(unpacked, "")
        except (gzip.BadGzipFile, zlib.error, EOFError):
            self._partly = "it cannot be unpacked"

    def _unpack(self, stream: IO[bytes] | gzip.GzipFile, where: str) -> None:
        most = min(_WHOLE, _MOST_UNPACKED - self._unpacked)
        self._unpacked += self._in_stream(stream, most, where)
        if stream.read(1):
            self._partly = "it unpacks to more than is read"

    def _in_stream(self, stream: IO[bytes] | gzip.GzipFile, most: int, where: str = "") -> int:
        """Search the next bytes of a stream, `most` at most, and return how many there were."""
        if most > _WHOLE:
            self._partly = f"in full only for secrets known here, else its first and last {_EDGE:,} bytes"
        at, line, tail = 0, 0, b""
        while at < most and (chunk := stream.read(min(_CHUNK, most - at))):
            data = tail + (chunk.replace(b"\0", b"") if _is_utf16(chunk[:_BEGINNING]) else chunk)
            if at == 0 and b"\0" not in data[:_BEGINNING]:
                line = 1
            near_an_edge = most <= _WHOLE or at < _EDGE or at + len(chunk) > most - _EDGE
            self._in_data(data, where, line, formats=near_an_edge)
            at += len(chunk)
            tail = data[-self._overlap :]
            line += data.count(b"\n", 0, len(data) - len(tail)) if line else 0
        return at

    def _in_data(self, data: bytes, where: str, line: int = 0, *, formats: bool = True) -> bool:
        """Note what is found; `line` is the number of the first one, 0 if there are none."""
        hits = [(_KNOWN, at) for literal in self._literals if (at := data.find(literal)) >= 0]
        hits += credentials_in(data) if formats else []
        for kind, at in hits:
            number = line + data.count(b"\n", 0, at)
            self._found.setdefault(kind, f"{where} in line {number:,}" if line else where)
        return bool(hits)


def _is_utf16(beginning: bytes) -> bool:
    if beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return True
    fewer, more = sorted((beginning[0::2].count(0), beginning[1::2].count(0)))
    return more * 4 > len(beginning) > fewer * 40
