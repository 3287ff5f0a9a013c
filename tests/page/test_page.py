"""The card's page in a real browser: it runs nothing, asks for nothing, and fits a desk and a pocket."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from agent.card.page import page

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.page.conftest import Opened

CARD = """---
library_name: peft
pipeline_tag: text-generation
base_model: org/a-base-model-with-a-name-that-is-rather-long-for-a-telephone-7b-instruct
license: apache-2.0
datasets: [org/data, org/more]
tags: [lora, "<script>document.title = 'ran'</script>"]
---

# A model

See [the results](#results) or [the tag](https://huggingface.co/ada/model/tree/job-1).

## Results

| Metric | Step 100 | Step 200 | Step 300 | Step 400 | Step 500 | Step 600 | `eval_mean_token_accuracy` |
|---|---:|---:|---:|---:|---:|---:|---:|
| `eval_loss` | 2.113 | 1.842 | 1.733 | 1.698 | 1.671 | 1.669 | 0.552 |

![loss over steps](plots/loss%20curve.png)
![rewards](./plots/rewards.png)

| | | |
|---|---|---|
| ![one](plots/rewards.png) | ![two](plots/loss%20curve.png) | ![three](plots/rewards.png) |

```python
pipeline("text-generation", model="ada/model", device_map="auto", max_new_tokens=256, top_p=0.95, top_k=0)
```

<details><summary>What would you choose &amp; why?</summary>

```text
The future.
```

</details>
"""
HOSTILE = """
<script>document.title = "ran"</script>

<img src="x.png" onerror="document.title = 'ran'">

<iframe src="https://example.com/frame"></iframe>

<details open ontoggle="document.title = 'ran'"><summary>open</summary>

</details>

<style>body { background: url(https://example.com/style.png) }</style>

<meta http-equiv="refresh" content="0; url=https://example.com/refresh">

![remote](https://example.com/pixel.png) ![beside](secret.png) ![up](../../etc/passwd)

[click](javascript:document.title='ran') and <b onclick="document.title = 'ran'">here</b>

A_word_that_does_not_end_and_does_not_end_and_does_not_end_and_does_not_end_and_does_not_end
"""


def png(width: int, height: int) -> bytes:
    """Draw a real picture: red grows to the right, green downwards."""
    rows = b"".join(
        b"\0" + b"".join(bytes((x * 255 // width, y * 255 // height, 128)) for x in range(width))
        for y in range(height)
    )
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


IMAGES = {"plots/loss curve.png": png(1200, 60), "plots/rewards.png": png(60, 60)}


@pytest.fixture
def opened(opened_file: Callable[..., Opened], tmp_path: Path) -> Callable[..., Opened]:
    """Write a card's page and open it as a person would: from disk."""

    def show(card: str, width: int = 1280, scheme: str = "light") -> Opened:
        file = tmp_path / "card.html"
        file.write_text(page("ada/model", card, IMAGES), encoding="utf-8")
        return opened_file(file, width, scheme)

    return show


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_card_is_shown_whole_on_every_screen(opened, tmp_path, width, scheme):
    shown = opened(CARD + HOSTILE, width, scheme)
    images, tables, page_width = shown.tab.evaluate(
        """() => [
            [...document.images].map(image => [image.naturalWidth, image.getBoundingClientRect().right]),
            [...document.querySelectorAll("table, pre, li")].map(box => box.getBoundingClientRect().right),
            document.documentElement.scrollWidth,
        ]"""
    )
    assert [natural for natural, _ in images] == [1200, 60, 60, 1200, 60]
    assert max(right for _, right in images[:2]) <= width
    assert max(tables) <= width
    assert page_width <= width

    content = shown.tab.screenshot(path=tmp_path / f"{width}-{scheme}.png", full_page=True)
    picture = Image.open(BytesIO(content)).convert("RGB")
    assert picture.width == width
    assert picture.height > 900
    assert len(picture.getcolors(picture.width * picture.height)) > 1000, "there is no picture in the picture"
    corner = sum(picture.getpixel((3, 600)))
    assert corner < 150 if scheme == "dark" else corner > 700
    assert shown.said == []
    assert shown.asked == [shown.tab.url]


def test_a_table_that_is_too_wide_scrolls_by_itself(opened):
    tab = opened(CARD, 390).tab
    inside, outside = tab.evaluate(
        "() => [document.querySelector('table').scrollWidth, document.querySelector('table').clientWidth]"
    )
    assert inside > outside + 200
    tab.get_by_text("0.552").scroll_into_view_if_needed()
    assert tab.get_by_text("0.552").bounding_box()["x"] < 390


def test_hostile_html_is_words(opened):
    shown = opened(CARD + HOSTILE)
    assert shown.tab.title() == "ada/model"
    assert shown.tab.locator("main script, main style, main iframe, main meta, main b").count() == 0
    assert shown.tab.get_by_text("<script>document.title", exact=False).count() == 2
    assert shown.tab.get_by_text("remote (not shown)").is_visible()
    shown.tab.get_by_text("[click](javascript:").click()
    shown.tab.get_by_text("here").click()
    assert shown.tab.title() == "ada/model"
    assert shown.said == []
    assert shown.asked == [shown.tab.url]


def test_a_section_opens_and_a_link_finds_its_heading(opened):
    tab = opened(CARD).tab
    assert not tab.get_by_text("The future.").is_visible()
    tab.get_by_text("What would you choose & why?").click()
    assert tab.get_by_text("The future.").is_visible()
    tab.get_by_role("link", name="the results").click()
    assert tab.locator(":target").inner_text() == "Results"
