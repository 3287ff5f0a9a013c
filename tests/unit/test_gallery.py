from __future__ import annotations

from html.parser import HTMLParser
from itertools import pairwise
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from agent.card.gallery import gallery
from agent.card.section import BEGIN, END

HOSTILE = [
    "a|b",
    "`code`",
    "```",
    "<script>alert(1)</script>",
    "</summary></details><b>",
    "](javascript:alert(1))",
    "[x](javascript:alert(1))",
    "javascript:alert(1)",
    "https://example.com",
    "line\nbreak",
    "\n\n# heading",
    "---",
    "-->",
    "<!-- training-agent:end -->",
    "a\\",
    'a" onerror="x',
    "a b#c?d%20e&amp;f=(g)[h]{i}'j+k~l",
    "**bold** _it_",
    "\u202eevil\u200f",
    "\x00\x1b[31m",
    "\ud800",
    "🤗 é 日本",
    "x" * 10_000,
    "",
]
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table")


class Page(HTMLParser):
    """What a browser would make of the page: its tags in order, their attributes, and the words in each."""

    def __init__(self, markdown):
        super().__init__(convert_charrefs=True)
        self.tags, self.elements, self.open, self.comments = [], [], [], []
        self.feed(MARKDOWN.render(markdown))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        element = {"tag": tag, "attributes": dict(attrs), "words": ""}
        self.elements.append(element)
        self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        self.tags.append(f"/{tag}")
        assert self.open.pop()["tag"] == tag

    def handle_comment(self, data):
        self.comments.append(data)

    def handle_data(self, data):
        if self.open:
            self.open[-1]["words"] += data

    def all(self, tag):
        return [element["attributes"] for element in self.elements if element["tag"] == tag]

    def said(self, tag):
        return [element["words"] for element in self.elements if element["tag"] == tag]


TEXT_TAGS = ["details", "summary", "/summary", "pre", "code", "/code", "/pre", "/details"]


def table_tags(rows, columns):
    """The tags of a table whose head is empty; `rows` says how many images are in each."""
    head = ["table", "thead", "tr", *["th", "/th"] * columns, "/tr", "/thead", "tbody"]
    body = [
        tag
        for images in rows
        for tag in ["tr", *["td", "img", "/td"] * images, *["td", "/td"] * (columns - images), "/tr"]
    ]
    return [*head, *body, "/tbody", "/table"]


def a_text(content):
    return Page(gallery([("samples/a.txt", content)]))


def test_no_samples_are_no_gallery():
    assert gallery([]) == ""


@pytest.mark.parametrize(
    ("images", "rows"), [(1, [1]), (2, [2]), (3, [3]), (4, [3, 1]), (6, [3, 3]), (24, [3] * 8)]
)
def test_images_stand_in_rows_of_three(images, rows):
    text = gallery([(f"samples/{index}.png", None) for index in range(images)])
    page = Page(text)
    assert page.tags == table_tags(rows, min(images, 3))
    assert {line.count("|") for line in text.splitlines()} == {min(images, 3) + 1}
    assert [image["src"] for image in page.all("img")] == [f"samples/{index}.png" for index in range(images)]


def test_a_text_stands_behind_its_name():
    page = Page(gallery([("samples/step 1/a.txt", b"<b>Hello</b>\n\n*there*\n")]))
    assert page.tags == TEXT_TAGS
    assert page.said("summary") == ["a.txt"]
    assert page.said("code") == ["<b>Hello</b>\n\n*there*\n"]


def test_images_come_before_texts_whatever_the_order():
    page = Page(gallery([("samples/a.txt", b"a"), ("samples/b.png", None), ("samples/c.txt", b"c")]))
    assert page.tags == [*table_tags([1], 1), *TEXT_TAGS, *TEXT_TAGS]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_no_name_breaks_the_table_or_adds_markup(name):
    samples = [(f"samples/{name}", None), ("samples/b.png", None)]
    page = Page(gallery(samples))
    assert page.tags == table_tags([2], 2)
    assert page.comments == []
    assert all(set(image) == {"src", "alt"} for image in page.all("img"))


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_no_name_breaks_out_of_a_text(name):
    page = Page(gallery([(f"samples/{name}", b"one"), ("samples/b.txt", b"two")]))
    assert page.tags == TEXT_TAGS * 2
    assert page.said("code") == ["one\n", "two\n"]
    assert page.comments == []


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_no_name_breaks_the_list_of_further_texts(name):
    shown = [(f"samples/{index}.txt", b"x") for index in range(12)]
    page = Page(gallery([*shown, (f"samples/{name}", b"x"), ("samples/b.txt", b"x")]))
    assert page.tags == [*TEXT_TAGS * 12, "p", "/p", "ul", *["li", "a", "/a", "/li"] * 2, "/ul"]
    assert page.all("a")[1] == {"href": "samples/b.txt"}
    assert page.comments == []


@pytest.mark.parametrize("name", [name for name in HOSTILE if name != "\ud800"])
def test_an_address_leads_to_the_file_whatever_its_name(name):
    (image,) = Page(gallery([(f"samples/{name}", None)])).all("img")
    assert image["src"].startswith("samples/")
    assert not set(image["src"]) & set(" #?()[]<>:\"'\\|`")
    assert unquote(image["src"]) == f"samples/{name}"


def test_the_alternative_text_is_the_files_name():
    (image,) = Page(gallery([("samples/step [1]/a_b|*c*.png", None)])).all("img")
    assert image["alt"] == "a_b|*c*.png"


@pytest.mark.parametrize(
    "content",
    [
        b"</details>\n<script>alert(1)</script>\n",
        b"```\n</details>\n# out\n```",
        b"````` inside `````\n```\n",
        b"`" * 1400,
        b"~~~\n    ```\n\t```\n",
        b"\n\n\n<b>\n\n",
        b"<!--",
        b"-->\n|a|b|\n|---|---|\n",
        b"",
    ],
)
def test_no_text_leaves_its_block(content):
    page = Page(gallery([("samples/a.txt", content), ("samples/b.txt", b"two")]))
    assert page.tags == TEXT_TAGS * 2
    assert page.comments == []
    assert page.said("code") == [content.decode().rstrip("\n") + "\n", "two\n"]


@given(st.lists(st.text(st.sampled_from("`~<>/-!|\\ \n\r\tabc[]()#\x00\x85\u2028"), max_size=60), max_size=4))
@settings(deadline=None)
def test_no_texts_whatever_add_markup(texts):
    page = Page(gallery([(f"samples/{index}.txt", text.encode()) for index, text in enumerate(texts)]))
    assert page.tags == TEXT_TAGS * len(texts)


@given(st.lists(st.tuples(st.text(), st.none() | st.binary(max_size=40)), max_size=8))
@settings(deadline=None)
def test_no_names_whatever_add_markup(samples):
    page = Page(gallery([(f"samples/{name}", content) for name, content in samples]))
    texts = sum(content is not None for _, content in samples)
    images = len(samples) - texts
    rows = [min(3, images - start) for start in range(0, images, 3)]
    table = table_tags(rows, min(3, images)) if images else []
    assert page.tags == table + TEXT_TAGS * texts


@pytest.mark.parametrize("marker", [BEGIN, END])
def test_a_sample_cannot_end_the_cards_own_section(marker):
    text = gallery([(f"samples/{marker}", f"before\n{marker}\nafter".encode()), (f"samples/{marker}", None)])
    assert marker not in text
    assert "before\n<! -- training-agent:" in text


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ("\x00a\x1b[31mb\x7f\x85c", "a[31mbc"),
        ("a\u202eb\u2066c\ufeff", "abc"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("a\tb", "a\tb"),
        ("zwj 👩\u200d🚀 \u200fم", "zwj 👩\u200d🚀 \u200fم"),
    ],
)
def test_controls_are_removed_and_letters_kept(content, shown):
    assert a_text(content.encode()).said("code") == [f"{shown}\n"]


def test_bytes_that_are_no_text_are_shown_as_such():
    assert a_text(b"a\xff\xc3(").said("code") == ["a��(\n"]


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ("x" * 1501, "x" * 1500),
        ("l\n" * 21, "l\n" * 19 + "l"),
        ("é\n" * 19 + "y" * 2000, "é\n" * 19 + "y" * 1462),
    ],
    ids=["characters", "lines", "both"],
)
def test_a_long_text_is_cut_and_leads_to_the_rest(content, shown):
    page = Page(gallery([("samples/a b.txt", content.encode())]))
    assert page.said("code") == [f"{shown}\n"]
    assert page.tags == [*TEXT_TAGS[:-1], "p", "a", "/a", "/p", "/details"]
    assert page.all("a") == [{"href": "samples/a%20b.txt"}]


@pytest.mark.parametrize("content", ["x" * 1500, "l\n" * 20])
def test_a_text_that_fits_is_whole(content):
    page = a_text(content.encode())
    assert page.said("code") == [content.rstrip("\n") + "\n"]
    assert page.tags == TEXT_TAGS


def test_twelve_texts_are_shown_and_the_others_linked():
    page = Page(gallery([(f"samples/{index}.txt", b"x") for index in range(15)]))
    assert page.said("summary") == [f"{index}.txt" for index in range(12)]
    assert page.all("a") == [{"href": f"samples/{index}.txt"} for index in range(12, 15)]
    assert page.said("a") == [f"{index}.txt" for index in range(12, 15)]


def test_blocks_are_parted_by_an_empty_line():
    lines = gallery([("samples/a.png", None), ("samples/a.txt", b"x"), ("samples/b.txt", b"y")]).split("\n")
    assert [before for before, line in pairwise(lines) if line.startswith("<details>")] == ["", ""]
    assert lines[-2:] == ["</details>", ""]
