"""Zip containers, as torch writes them: opened only if every reader would see the same members in them."""

from __future__ import annotations

import os
import re
import struct
import zipfile
from typing import IO

from agent.artifact.safetensors import listed

ZIP_MAGIC = b"PK\x03\x04"
STORAGE = re.compile(r"(?:.*/)?data/\d+", re.DOTALL)  # members that hold the values of tensors

# zipfile keeps an object of 600 bytes for each entry of 46 or more.
_LARGEST_DIRECTORY = 8 << 20
_END, _END_64, _LOCATOR_64, _LOCAL = map(struct.Struct, ("<4s4H2LH", "<4sQ2H2L4Q", "<4sLQL", "<4s5H3L2H"))
_LONGEST_COMMENT = (1 << 16) - 1


class DamagedZipError(ValueError):
    """A zip container is not whole; the message goes on after its path."""


class UnreadableError(ValueError):
    """A member, or a pickle in it, cannot be looked through; the message goes on after its name."""


def open_zip(stream: IO[bytes]) -> zipfile.ZipFile:
    """Open a zip container for reading, when all readers would see the same whole members in it.

    Checksums are not compared: torch can be told not to write them, and bulk members are not read.

    Raises:
        DamagedZipError: it is cut short, or names something twice, or not where it is.
    """
    from picklescan.relaxed_zipfile import RelaxedZipFile

    directory = _directory_at(stream)
    try:
        archive: zipfile.ZipFile = RelaxedZipFile(stream)
        _check_members(stream, archive.infolist(), directory)
    except DamagedZipError:
        raise
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error) as error:
        raise DamagedZipError("is a zip container with a damaged directory") from error
    return archive


def open_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> IO[bytes]:
    """Open a member for reading; reading it in small steps takes little memory.

    Raises:
        ValueError: it is encrypted, or packed in a way whose memory cannot be bounded.
    """
    if member.flag_bits & 1:
        raise UnreadableError("is encrypted")
    if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise UnreadableError("is packed in a way that torch does not read")
    return archive.open(member)


def _directory_at(stream: IO[bytes]) -> int:
    """Where the directory begins, if it ends where the records behind it do."""
    size = stream.seek(0, os.SEEK_END)
    base = max(0, size - _LONGEST_COMMENT - _END.size - _LOCATOR_64.size - _END_64.size)
    stream.seek(base)
    tail = stream.read(size - base)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + _END.size > len(tail):
        raise DamagedZipError("is cut short: it begins as a zip container, but has no directory at its end")
    *_, length, offset, comment = _END.unpack_from(tail, at)
    end = base + at
    locator = at - _LOCATOR_64.size
    if locator >= _END_64.size and tail.startswith(b"PK\x06\x07", locator):
        end = base + locator - _END_64.size
        record = _END_64.unpack_from(tail, locator - _END_64.size)
        length, offset = record[-2:]
        if record[0] != b"PK\x06\x06" or _LOCATOR_64.unpack_from(tail, locator)[2] != end:
            raise DamagedZipError("is a zip container with a damaged directory")
    if base + at + _END.size + comment != size or offset + length != end:
        raise DamagedZipError("is a zip container whose directory is not where it should be")
    if length > _LARGEST_DIRECTORY:
        raise DamagedZipError(f"is a zip container with too large a directory: {length:,} bytes")
    return int(offset)


def _check_members(stream: IO[bytes], members: list[zipfile.ZipInfo], directory: int) -> None:
    if len({member.filename for member in members}) < len(members):
        raise DamagedZipError("is a zip container that names a member twice")
    end = 0
    for member in sorted(members, key=lambda member: member.header_offset):
        begin = member.header_offset
        stream.seek(begin)
        local = stream.read(_LOCAL.size)
        if begin + _LOCAL.size > directory or not local.startswith(ZIP_MAGIC):
            raise DamagedZipError(f"is a zip container that misses {listed([member.filename])}")
        *_, name_length, extra_length = _LOCAL.unpack(local)
        name = stream.read(name_length).decode("utf-8" if member.flag_bits & 0x800 else "cp437")
        if not name == member.orig_filename == member.filename:
            raise DamagedZipError(f"is a zip container with two names for {listed([member.filename])}")
        if member.compress_type == zipfile.ZIP_STORED and member.compress_size != member.file_size:
            raise DamagedZipError(f"is a zip container with two sizes for {listed([member.filename])}")
        if begin < end:
            raise DamagedZipError(f"is a zip container in which {listed([member.filename])} overlaps another")
        end = begin + _LOCAL.size + name_length + extra_length + member.compress_size
        if end > directory:
            raise DamagedZipError(f"is a zip container in which {listed([member.filename])} is cut short")
