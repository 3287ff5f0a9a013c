"""A real browser, and everything it has to say about a page."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Error, sync_playwright

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page


@dataclass
class Opened:
    """A page in a tab, with what the browser said and asked for."""

    tab: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The machine's chromium, else the one that playwright installed."""
    with sync_playwright() as playwright:
        try:
            running = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        except Error as error:
            pytest.fail(f"these tests need a browser (apt-get install chromium): {error}", pytrace=False)
        yield running
        running.close()


@pytest.fixture
def opened_file(browser: Browser) -> Iterator[Callable[..., Opened]]:
    """Open a file as a person would."""
    context = browser.new_context()

    def show(file: Path, width: int = 1280, scheme: str = "light") -> Opened:
        tab = context.new_page()
        result = Opened(tab)
        tab.on("console", lambda message: result.said.append(f"{message.type}: {message.text}"))
        tab.on("pageerror", lambda error: result.said.append(str(error)))
        tab.on("dialog", lambda dialog: result.said.append(dialog.message))
        tab.on("request", lambda request: result.asked.append(request.url))
        tab.set_viewport_size({"width": width, "height": 900})
        tab.emulate_media(color_scheme=scheme)
        tab.goto(file.as_uri())
        return result

    yield show
    context.close()
