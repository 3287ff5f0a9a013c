"""Code in pickles, and torch containers that are not whole.

Loading a pickle calls what it imports, so only imports that make tensors pass. What counts in a zip is what
torch's reader (miniz, in PyTorchStreamReader) would load: a file that begins as a zip, the directory at its
end, and the members that this names. A file over which zip readers disagree is damaged.
"""

from __future__ import annotations

import io
import logging
import pickletools
import re
import zipfile
import zlib
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Literal

from agent.artifact.files import open_regular
from agent.artifact.findings import Finding
from agent.artifact.names import is_plain_weights, is_weights
from agent.artifact.safetensors import listed
from agent.artifact.zips import (
    STORAGE,
    ZIP_MAGIC,
    DamagedZipError,
    UnreadableError,
    open_member,
    open_zip,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.artifact.files import LocalFile

_PICKLES = (".pkl", ".pickle", ".joblib")
_OPENED = (*_PICKLES, ".pt", ".pth", ".ckpt", ".bin", ".dat", ".zip", ".npz", ".npy")
_NEWEST_PROTOCOL = 5
_NUMPY_MAGIC = b"\x93NUMPY"
_LONGEST_NUMPY_HEADER = 1 << 16
# The number that torch's older format begins with; four more pickles and the bare storages follow.
_LEGACY_MAGIC = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_LEGACY_PICKLES = 5

# What is looked through in one file: picklescan keeps all opcodes of a pickle, up to 150 bytes for each.
_LARGEST_PICKLE = 8 << 20
_MOST_OPCODES = 600_000
_MOST_PICKLES = 1000
_MOST_UNPACKED = 64 << 20
_DEEPEST = 2

_CODE = re.compile(r"(?:.*/)?code/.*|.*\.py", re.DOTALL)  # TorchScript, torch.package
# What makes tensors in torch's own list for weights_only=True, _get_allowed_globals() in
# torch/_weights_only_unpickler.py of 2.13, and how numpy writes numbers.
_TENSOR_IMPORT = re.compile(
    r"torch\.(?:cuda\.)?(?:sparse\.)?(?:BFloat16|Bool|Byte|Char|(?:Complex)?(?:Double|Float)|Half|Int|Long|Short"
    r"|QU?Int\d+(?:x\d)?)(?:Tensor|Storage)|torch\.(?:storage\.)?(?:Typed|Untyped)Storage"
    r"|torch\.(?:Tensor|Size|device|bool|b?float\d\w*|q?u?int\d+(?:x\d)?|bits\d+(?:x\d)?|complex\d+)"
    r"|torch\.per_(?:tensor|channel)_(?:affine|symmetric|affine_float_qparams)"
    r"|torch\.nn\.parameter\.Parameter|torch\.serialization\._get_layout|torch\._tensor\._rebuild_from_type_v2"
    r"|torch\._utils\._rebuild_(?:parameter|parameter_with_state|qtensor|tensor|tensor_v2|tensor_v3|sparse_tensor"
    r"|nested_tensor|meta_tensor_no_storage|wrapper_subclass|device_tensor_from_(?:numpy|cpu_tensor))"
    r"|numpy\._?core\.(?:multiarray\.scalar|numeric\._frombuffer)"
    r"|_codecs\.encode|(?:builtins|__builtin__)\.(?:set|bytearray|complex)",
    re.ASCII,
)


def check_pickles(files: Sequence[LocalFile], *, allowed: bool) -> Iterator[Finding]:
    """Find damaged torch containers, and pickles that import more than what makes tensors.

    Args:
        files: what would be published; only those whose names promise pickles are opened.
        allowed: AGENT_ALLOW_PICKLE: unsafe pickles are told and published.

    Raises:
        OSError: a file cannot be read.
    """
    for file in files:
        if file.path.lower().endswith(_OPENED):
            with open_regular(file.source) as stream:
                yield from _check(file, stream, allowed=allowed)


def _check(file: LocalFile, stream: IO[bytes], *, allowed: bool) -> Iterator[Finding]:
    form = _form(file.path, stream.read(2 * len(_LEGACY_MAGIC)))
    found = _Found(container=_is_container(file.path))
    stream.seek(0)
    if form == "damaged":
        empty = file.size_bytes == 0
        yield _damaged(file, "is empty" if empty else "is neither a zip container nor a pickle")
    elif form == "zip":
        try:
            with open_zip(stream) as archive:
                found.in_zip(archive)
        except DamagedZipError as error:
            yield _damaged(file, str(error))
    elif form != "other":
        found.in_stream(stream, form)
    if form == "legacy":
        yield Finding(
            file.path,
            "legacy-pickle",
            "is in torch's format from before 1.6, a bare pickle: whether it is whole cannot be told",
            "Save the model as safetensors.",
            refuses=False,
        )
    unsafe = found.unsafe()
    if unsafe:
        yield Finding(
            file.path,
            "unsafe-pickle",
            unsafe,
            "It could run code on the machine of whoever loads it. Save the model as safetensors, leave the "
            "file out with AGENT_EXCLUDE, or set AGENT_ALLOW_PICKLE=true if you know what it does.",
            refuses=not allowed,
        )


def _damaged(file: LocalFile, message: str) -> Finding:
    return Finding(
        file.path, "damaged", message, "Save the model again; was the disk full, or the saving stopped?"
    )


def _is_container(path: str) -> bool:
    return is_plain_weights(path) or (path.endswith(".bin") and is_weights(path))


_Form = Literal["zip", "legacy", "pickle", "numpy", "damaged", "other"]


def _form(path: str, head: bytes) -> _Form:
    """What to take a file for: its first bytes decide, as in torch.load, then its name."""
    container = _is_container(path)
    if head.startswith(ZIP_MAGIC):
        return "zip"
    promised = path.lower().endswith(_PICKLES)
    if _begins_a_pickle(head) or promised:
        return "legacy" if _LEGACY_MAGIC in head and not promised else "pickle"
    if container:
        return "damaged"
    return "numpy" if head.startswith(_NUMPY_MAGIC) else "other"


def _begins_a_pickle(head: bytes) -> bool:
    return len(head) > 1 and head[:1] == b"\x80" and head[1] <= _NEWEST_PROTOCOL


@dataclass
class _Found:
    """What loading one file would run, as far as the bounds let us look."""

    container: bool
    imports: set[str] = field(default_factory=set)
    code: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    opcodes: int = 0
    unpacked: int = 0

    def unsafe(self) -> str:
        """One sentence; empty if everything was seen and makes tensors only."""
        reasons = [f"carries code ({listed(self.code)})"] if self.code else []
        reasons += [f"imports {listed(sorted(self.imports))}"] if self.imports else []
        return "; ".join(reasons + self.unreadable[:1])

    def in_stream(self, stream: IO[bytes], form: _Form) -> None:
        """Look through a file that is no zip."""
        try:
            if form == "numpy":
                self._numpy(stream.read(_LONGEST_NUMPY_HEADER))
            else:
                self._pickles(stream.read(_LARGEST_PICKLE + 1), legacy=form == "legacy")
        except UnreadableError as error:
            self._cannot_read(f"{error}")

    def in_zip(self, archive: zipfile.ZipFile, depth: int = 1) -> None:
        """Look through all members but the tensors' storages."""
        for member in archive.infolist():
            if self.container and _CODE.fullmatch(member.filename):
                self.code.append(member.filename)
            elif not STORAGE.fullmatch(member.filename) and not member.is_dir():
                try:
                    self._member(archive, member, depth)
                except (UnreadableError, DamagedZipError) as error:
                    self._cannot_read(f"{error}", member)
                except (zipfile.BadZipFile, zlib.error, EOFError):
                    self._cannot_read("cannot be unpacked", member)

    def _cannot_read(self, why: str, member: zipfile.ZipInfo | None = None) -> None:
        where = f"{listed([member.filename])} in it " if member else ""
        self.unreadable.append(f"{where}cannot be looked through: it {why}")

    def _member(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo, depth: int) -> None:
        with open_member(archive, member) as stream:
            head = stream.read(2 * len(_LEGACY_MAGIC))
            if head.startswith(ZIP_MAGIC):
                if depth == _DEEPEST:
                    raise UnreadableError("is a zip in a zip in a zip")
                with open_zip(io.BytesIO(self._unpack(stream, head, _MOST_UNPACKED))) as inner:
                    self.in_zip(inner, depth + 1)
            elif _begins_a_pickle(head) or member.filename.lower().endswith(_PICKLES):
                self._pickles(self._unpack(stream, head, _LARGEST_PICKLE))
            elif head.startswith(_NUMPY_MAGIC):
                self._numpy(head + stream.read(_LONGEST_NUMPY_HEADER))

    def _unpack(self, stream: IO[bytes], head: bytes, most: int) -> bytes:
        most = min(most, _MOST_UNPACKED - self.unpacked)
        content = head + stream.read(max(0, most + 1 - len(head)))
        self.unpacked += len(content)
        if len(content) > most:
            raise UnreadableError(f"is larger than {most:,} bytes")
        return content

    def _numpy(self, head: bytes) -> None:
        # A dtype with an object in it: the values are a pickle, behind the header.
        if re.search(rb"'descr':[^}]*\|O", head):
            raise UnreadableError("holds pickled objects, not numbers")

    def _pickles(self, content: bytes, *, legacy: bool = False) -> None:
        """Note what the pickles import that lie one behind the other."""
        if len(content) > _LARGEST_PICKLE and not legacy:
            raise UnreadableError(f"is larger than {_LARGEST_PICKLE:,} bytes")
        stream = io.BytesIO(content)
        for _ in range(_LEGACY_PICKLES if legacy else _MOST_PICKLES):
            begin = stream.tell()
            self._walk(stream)
            self._note_imports(content[begin : stream.tell()])
            if stream.tell() == len(content):
                return
        if not legacy:
            raise UnreadableError(f"holds more than {_MOST_PICKLES:,} pickles")

    def _walk(self, stream: io.BytesIO) -> None:
        """Go to the end of one pickle; what picklescan cannot parse to its end it takes for harmless."""
        at = stream.tell()
        try:
            for opcode, _, position in pickletools.genops(stream):
                self.opcodes += 1
                at = position or at
                if self.opcodes > _MOST_OPCODES or opcode.name.startswith("EXT"):
                    break
            else:
                return
        except ValueError as error:
            raise UnreadableError(f"is no pickle, or damaged, from byte {at:,} on") from error
        if self.opcodes > _MOST_OPCODES:
            raise UnreadableError(f"has more than {_MOST_OPCODES:,} opcodes")
        raise UnreadableError("imports by number, from a register that only its writer knows")

    def _note_imports(self, one_pickle: bytes) -> None:
        # One at a time: picklescan keeps the memo of the pickle before, and so can be told a wrong name.
        from picklescan.scanner import SafetyLevel, scan_pickle_bytes

        logging.getLogger("picklescan").disabled = True  # it would log names out of the file
        try:
            scanned = scan_pickle_bytes(io.BytesIO(one_pickle), "", multiple_pickles=False)
        except ValueError as error:
            raise UnreadableError("imports something by a name that cannot be told") from error
        for found in scanned.globals:
            name = f"{found.module}.{found.name}"
            if found.safety is not SafetyLevel.Innocuous and not _TENSOR_IMPORT.fullmatch(name):
                self.imports.add(name)
