"""Where the Hub's libraries keep what they download, the training's too."""

from __future__ import annotations

from pathlib import Path


def cache_home() -> Path:
    """HF_HOME, or the libraries' own default."""
    from huggingface_hub.constants import HF_HOME

    return Path(HF_HOME)
