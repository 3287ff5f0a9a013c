"""How a file is to be uploaded: as a git blob or as a large file, or not at all (the preupload rules)."""

from pathspec import GitIgnoreSpec

REGULAR_MAX_BYTES = 10 * 2**20

# fmt: off
_TRACKED = (
    "*.7z", "*.arrow", "*.bin", "*.bz2", "*.ckpt", "*.ftz", "*.gz", "*.h5", "*.joblib", "*.lfs.*",
    "*.mlmodel", "*.model", "*.msgpack", "*.npy", "*.npz", "*.onnx", "*.ot", "*.parquet", "*.pb",
    "*.pickle", "*.pkl", "*.pt", "*.pth", "*.rar", "*.safetensors", "saved_model/**/*", "*.tar.*", "*.tar",
    "*.tflite", "*.tgz", "*.wasm", "*.xz", "*.zip", "*.zst", "*tfevents*",
)
# fmt: on
_ALSO_BINARY = (".gguf", ".png", ".jpg", ".jpeg", ".gif", ".webp", ".mp3", ".mp4", ".wav", ".pdf")

DEFAULT_GITATTRIBUTES = "".join(
    f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in _TRACKED
).encode()


def is_binary(sample: bytes) -> bool:
    """Tell binary content from text by its first bytes; a character cut off at the end is no sign."""
    if b"\0" in sample:
        return True
    try:
        sample.decode()
    except UnicodeDecodeError as error:
        return error.start < len(sample) - 3
    return False


class UploadRules:
    """The rules of one revision: its .gitattributes and the .gitignore that counts."""

    def __init__(self, *, gitattributes: str, gitignore: str) -> None:
        patterns = [
            line.split()[0] for line in gitattributes.splitlines() if "filter=lfs" in line.split()[1:]
        ]
        self._large = GitIgnoreSpec.from_lines(patterns)
        self._ignored = GitIgnoreSpec.from_lines(gitignore.splitlines())

    def is_large(self, path: str, size: int, sample: bytes) -> bool:
        """Tell whether a file goes to large file storage; an empty one never does."""
        if not size:
            return False
        known = path.lower().endswith(_ALSO_BINARY) or self._large.match_file(path)
        return known or size > REGULAR_MAX_BYTES or is_binary(sample)

    def is_ignored(self, path: str) -> bool:
        """Tell whether .gitignore keeps a file out of commits."""
        return self._ignored.match_file(path)
