"""The image, built for real, and containers of it."""

from __future__ import annotations

import faulthandler
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.image import store as building
from tests.image.container import Container
from tests.image.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def store() -> Iterator[Store]:
    """Where the images are kept from run to run; each is made anew when something it is made of changes."""
    if reason := building.cannot():
        pytest.fail(reason, pytrace=False)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    images = Store(cache / "training-agent-tests")
    with images.used():
        yield images


@pytest.fixture(scope="session")
def image(store: Store) -> str:
    """The image. At first a Debian is fetched for it: each step of that has a time limit of its own."""
    faulthandler.cancel_dump_traceback_later()
    return store.image


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """What is mounted at /workspace."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


@pytest.fixture
def container(store: Store, image: str, volume: Path) -> Iterator[Container]:
    with Container(store, image, volume) as running:
        yield running
