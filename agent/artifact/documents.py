"""Whether the small files that a loader reads beside the weights are whole, and are themselves at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.artifact.files import open_regular
from agent.artifact.findings import Finding
from agent.parse import parse_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.artifact.files import LocalFile

_TOKENIZER = "tokenizer.json"
_OBJECTS = {
    "config.json", "generation_config.json", "adapter_config.json", "model_index.json",
    "preprocessor_config.json", "processor_config.json",
    _TOKENIZER, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
}  # fmt: skip
_NEVER_EMPTY = {"merges.txt", "vocab.txt", "tokenizer.model", "spiece.model"}
_MOST_PARSED_BYTES = 64_000_000  # parsed, JSON takes seven times its size; 33 MB are the largest known

# https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md: three lines, that of the hash has 76 bytes.
_POINTER = b"version https://git-lfs.github.com/spec/v1"
_POINTER_BYTES = range(len(_POINTER) + 76, 400)

_SAVE_AGAIN = "Save it again with save_pretrained(), or copy it from the base model; was the disk full?"


def check_documents(files: Sequence[LocalFile]) -> Iterator[Finding]:
    """Find configs and tokenizers that cannot be parsed, and git-lfs pointers in place of any file.

    Raises:
        OSError: a file cannot be read.
    """
    for file in files:
        if _is_pointer(file):
            yield Finding(
                file.path,
                "lfs-pointer",
                "is a git-lfs pointer, not the file it stands for",
                "Run `git lfs pull` where it was cloned, and copy the file again.",
            )
            continue
        name = file.path[file.path.rfind("/") + 1 :]
        wrong = None
        if file.size_bytes == 0 and name in _OBJECTS | _NEVER_EMPTY:
            wrong = "is empty"
        elif name in _OBJECTS and file.size_bytes > _MOST_PARSED_BYTES:
            yield Finding(
                file.path,
                "not-parsed",
                f"has {file.size_bytes:,} bytes: JSON of more than {_MOST_PARSED_BYTES:,} was not parsed",
                "",
                refuses=False,
            )
        elif name in _OBJECTS:
            wrong = _damage(file, name)
        if wrong:
            yield Finding(file.path, "damaged", wrong, _SAVE_AGAIN)


def _is_pointer(file: LocalFile) -> bool:
    if file.size_bytes not in _POINTER_BYTES:
        return False
    with open_regular(file.source) as stream:
        return stream.read(len(_POINTER)) == _POINTER


def _damage(file: LocalFile, name: str) -> str | None:
    with open_regular(file.source) as stream:
        content = stream.read(_MOST_PARSED_BYTES)
    try:
        parsed = parse_json(content.decode())
    except UnicodeDecodeError as error:
        return f"is damaged: byte {error.start:,} is no UTF-8"
    except ValueError as error:
        return f"is damaged: {error}"
    if not isinstance(parsed, dict):
        return "is damaged: it holds no JSON object"
    if name == _TOKENIZER and not isinstance(parsed.get("model"), dict):
        return "is damaged: it holds no tokenizer's model"
    return None
