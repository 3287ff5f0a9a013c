"""The parts of the Hub, told apart by path."""

from typing import Literal

Kind = Literal["api", "lfs", "cas", "resolve", "token"]


def kind_of(path: str) -> Kind:
    """Sort a path into the part of the Hub that answers it."""
    if "/xet-write-token/" in path or "/xet-read-token/" in path:
        return "token"
    if path.startswith("/api/"):
        return "api"
    if path.startswith("/lfs/") or ".git/info/lfs/" in path:
        return "lfs"
    if path.startswith(("/v1/", "/v2/", "/xorbs/")):
        return "cas"
    return "resolve"
