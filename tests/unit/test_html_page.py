"""The card as HTML, read as a parser reads it: whatever the card holds, only tags of ours come out."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass, field
from html.parser import HTMLParser
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.card import page as module
from agent.card.page import page

PNG = b"\x89PNG\r\n\x1a\n and so on"
FRAME = {"html", "head", "meta", "title", "style", "body", "header", "main"}
HEADINGS = {"h1", "h2", "h3", "h4", "h5", "h6"}
TABLE = {"table", "tbody", "td", "th", "thead", "tr"}
BLOCKS = {"blockquote", "details", "hr", "li", "ol", "p", "pre", "summary", "ul"}
TAGS = FRAME | HEADINGS | TABLE | BLOCKS | {"a", "br", "code", "em", "img", "s", "span", "strong"}
VOID = {"meta", "br", "hr", "img"}
ATTRIBUTES = {
    "a": {"href", "rel", "title"},
    "code": {"class"},
    "html": {"lang"},
    "img": {"src", "alt", "title"},
    "meta": {"charset", "http-equiv", "content", "name"},
    "ol": {"start"},
    "p": {"class"},
    "span": {"class"},
    "td": {"style"},
    "th": {"style"},
    "ul": {"class"},
} | {heading: {"id"} for heading in HEADINGS}


@dataclass
class Read(HTMLParser):
    """What stands in a page: tags with their attributes, and the words of each."""

    page: str
    tags: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    texts: dict[str, list[str]] = field(default_factory=dict)
    opened: list[str] = field(default_factory=list)
    comments: int = 0

    def __post_init__(self):
        super().__init__()
        self.feed(self.page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs)
        if tag not in VOID:
            self.opened.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.opened.pop() == tag, "a tag ends within another"

    def handle_data(self, data):
        for tag in self.opened:
            self.texts.setdefault(tag, []).append(data)

    def handle_comment(self, data):
        self.comments += 1

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    def text(self, tag="main"):
        return "".join(self.texts.get(tag, []))


def shown(card, images=None, title="ada/model"):
    """A page as it is read, with the checks that hold for every page."""
    read = Read(page(title, card, images or {}))
    read.page.encode()
    assert read.opened == []
    assert read.comments == 0
    assert [tag for tag, _ in read.tags if tag in FRAME] == [
        *("html", "head", "meta", "meta", "meta", "title", "style", "body", "header", "main")
    ]
    for tag, attrs in read.tags:
        assert tag in TAGS
        assert set(attrs) <= ATTRIBUTES.get(tag, set())
    for address in [attrs["href"] for attrs in read.all("a") if "href" in attrs]:
        assert not html.unescape(address).strip().lower().startswith(("javascript:", "vbscript:", "file:"))
    assert all(attrs["rel"] == "noopener noreferrer" for attrs in read.all("a"))
    assert all(attrs["src"].startswith("data:image/") for attrs in read.all("img"))
    assert all(attrs.get("style", "").partition(":")[0] in {"", "text-align"} for attrs in read.all("td"))
    return read


def test_a_card_of_our_own_is_shown_with_all_it_has():
    read = shown(
        "# Title\n\nA *word* and ~~none~~.\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n```python\nx < 1\n```\n"
    )
    names = [tag for tag, _ in read.tags]
    assert {"h1", "em", "s", "table", "td", "pre", "code"} <= set(names)
    assert read.all("code") == [{"class": "language-python"}]
    assert read.all("td")[1] == {"style": "text-align:right"}
    assert read.text("pre") == "x < 1\n"
    assert read.text("title") == read.text("header").strip() == "ada/model"


def test_a_browser_may_run_nothing_and_ask_for_nothing():
    read = shown("# Title\n")
    policy = [attrs["content"] for attrs in read.all("meta") if "http-equiv" in attrs]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    style = resources.files("agent.card").joinpath("page.css").read_text(encoding="utf-8")
    assert read.text("style").strip() == style.strip()
    assert not any(word in style for word in ("url(", "@import", "</"))


def test_the_metadata_are_tags_in_the_order_of_the_hub():
    read = shown(
        "---\ntags: [lora, trl]\nlicense: mit\ndatasets:\n- a/x\n- a/y\nbase_model: org/base\n"
        "library_name: peft\npipeline_tag: text-generation\nmodel_name: m\nlicence: l\n---\n# T\n"
    )
    assert read.texts["li"] == [
        *("task", " text-generation", "library", " peft", "base model", " org/base"),
        *("dataset", " a/x", "dataset", " a/y", "license", " mit", "lora", "trl"),
    ]


@pytest.mark.parametrize(
    ("front", "expected"),
    [
        ("tags: <script>alert(1)</script>", ["<script>alert(1)</script>"]),
        ("tags: [1, 2.5, null, [a, b], {c: d}, '', e]", ["1", "2.5", "e"]),
        ("tags: {a: b}", []),
        ("tags: !!binary aGFsbG8=", []),
        ("tags: [.nan, .inf, !!int '0x" + "f" * 5000 + "']", []),
        ('tags: "a\\u202e\\u0007b"', ["a b"]),
        ("tags: *unknown", []),
        ("- tags", []),
    ],
)
def test_metadata_of_any_type_are_words_or_nothing(front, expected):
    read = shown(f"---\n{front}\n---\n# T\n")
    assert read.texts.get("li", []) == expected
    assert len(read.all("li")) == len(expected)


def test_a_long_tag_is_cut():
    (tag,) = shown(f"---\ntags: {'a' * 5000}\n---\n").texts["li"]
    assert len(tag) == 120


@pytest.mark.parametrize(
    "raw",
    [
        "<script>alert(1)</script>",
        "<SCRIPT\n>alert(1)</SCRIPT\n>",
        '<img src=x onerror="alert(1)">',
        '<iframe src="https://example.com"></iframe>',
        "<style>* { display: none }</style>",
        '<meta http-equiv="refresh" content="0">',
        '<a href="javascript:alert(1)">x</a>',
        "<svg/onload=alert(1)>",
        "</main></body><p>",
        "<?php echo 1 ?>",
        "<!DOCTYPE x>",
        "<![CDATA[ x ]]>",
        "<details ontoggle=alert(1) open><summary>x</summary>",
        "<details><summary onclick=alert(1)>x</summary></details>",
        "<details>no summary</details>",
    ],
)
@pytest.mark.parametrize("around", ["{}", "before {} behind", "> {}", "- {}", "# {}", "| a |\n|---|\n| {} |"])
def test_html_is_shown_as_text(raw, around):
    read = shown(around.format(raw if around == "{}" else raw.replace("\n", " ")))
    squeezed = "".join(read.text().split())
    assert "".join(raw.split()) in squeezed
    assert not read.all("details")


def test_a_comment_is_dropped():
    read = shown("<!-- one -->\na <!-- two --> b\n\n<!--\n\n<script>\n-->\n<!---->c\n\n`<!-- code -->`\n")
    assert read.text().split() == ["a", "b", "c", "<!--", "code", "-->"]


def test_the_shortest_comments_hide_nothing():
    assert shown("<!-->a\n\n<!--->b\n\nc <!--> d <!---> e\n").text().split() == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("before", ["before\n\n", "<div>before"])
def test_a_comment_without_an_end_hides_the_rest_as_in_a_browser(before):
    assert shown(f"{before}<!-- open\n\n").text().strip() == before.strip()


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "&#106;avascript:alert(1)",
        "java&Tab;script:alert(1)",
        "vbscript:x",
        "file:///etc/passwd",
        "data:text/html,<script>alert(1)</script>",
        "<\x01javascript:alert(1)>",
    ],
)
@pytest.mark.parametrize("link", ["[x]({})", "[x]: {}\n\n[x]", "<{}>", "![x]({})"])
def test_a_link_never_runs_anything(address, link):
    read = shown(link.format(address))
    for attrs in read.all("a"):
        assert ":" not in attrs["href"].partition("script")[0]


def test_a_good_link_keeps_working():
    read = shown('[a](https://x.org/?a=1&b=2 "more") [b](finalize.json) [c](#t) <mailto:ada@x.org>')
    assert [attrs["href"] for attrs in read.all("a")] == [
        *("https://x.org/?a=1&b=2", "finalize.json", "#t", "mailto:ada@x.org")
    ]


@pytest.mark.parametrize(
    ("source", "key"),
    [
        ("loss.png", "loss.png"),
        ("./plots/loss.png", "plots/loss.png"),
        ("plots/loss%20curve.png", "plots/loss curve.png"),
        ("<plots/loss curve.png>", "plots/loss curve.png"),
        ("50%25.png", "50%.png"),
        ("%3Fa%23b.png", "?a#b.png"),
        ("verlust-ü.png", "verlust-ü.png"),
        ("loss.png?raw=true#top", "loss.png"),
    ],
)
def test_an_image_of_the_repo_is_taken_into_the_page(source, key):
    (image,) = shown(f'![the *loss*]({source} "over steps")', {key: PNG}).all("img")
    assert image == {
        "src": f"data:image/png;base64,{base64.b64encode(PNG).decode()}",
        "alt": "the loss",
        "title": "over steps",
    }


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (PNG, "png"),
        (b"\xff\xd8\xff\xe0 JFIF", "jpeg"),
        (b"GIF89a...", "gif"),
        (b"GIF87a...", "gif"),
        (b"RIFF\n\0\0\0WEBPVP8 ", "webp"),
    ],
)
def test_the_type_of_an_image_is_told_by_its_content(content, kind):
    (image,) = shown("![x](a.dat)", {"a.dat": content}).all("img")
    assert image["src"].startswith(f"data:image/{kind};base64,")


@pytest.mark.parametrize(
    "source",
    [
        *(
            "https://example.com/a.png",
            "//example.com/a.png",
            "http:a.png",
            "../a.png",
            "/a.png",
            "b.png",
            "",
        ),
        *("a.svg", "a.html", "empty", "data:image/png;base64,iVBORw0KGgo="),
    ],
)
def test_any_other_image_is_described(source):
    images = {
        "a.png": PNG,
        "a.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "a.html": b"<p>",
        "empty": b"",
    }
    read = shown(f"[![a\\_*b* <b>&lt;`plot`]({source})](https://x.org)", images)
    assert read.all("img") == []
    assert read.text("span") == "a_b <plot (not shown)"
    assert read.all("a")[0]["href"] == "https://x.org"


def test_an_image_without_a_description_is_told_too():
    assert shown("![](https://example.com/a.png)").text("span") == "image (not shown)"


def test_one_picture_named_a_thousand_times_does_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(module, "_MOST_IMAGE_BYTES", 3 * len(PNG))
    read = shown("![x](a.png)\n" * 1000, {"a.png": PNG})
    assert len(read.all("img")) == 3
    assert read.text("span").count("(not shown)") == 997


def test_one_long_address_used_a_thousand_times_does_not_fill_the_memory():
    read = shown(f"[a]: https://x.org/{'b' * 20_000} '{'c' * 20_000}'\n\n" + "[a] " * 1000)
    assert len(read.all("a")) == 1000
    assert len(read.page) < 100_000


SECTION = "<details><summary>a &amp; &lt;b&gt;</summary>\n\n```text\n</details>\n```\n\n</details>\n"


def test_a_section_that_folds_is_kept():
    read = shown(f"before\n\n{SECTION}\n{SECTION}\nbehind\n")
    assert len(read.all("details")) == len(read.all("summary")) == 2
    assert read.texts["summary"] == ["a & <b>"] * 2
    assert read.text("pre") == "</details>\n" * 2
    assert "behind" not in read.text("details")


@pytest.mark.parametrize("around", ["> ", "  "])
def test_a_section_folds_within_a_quote_or_an_item(around):
    inner = "".join(f"{around}{line}\n" for line in SECTION.splitlines())
    read = shown(f"- item\n\n{inner}\nbehind\n" if around == "  " else f"{inner}\nbehind\n")
    assert len(read.all("details")) == 1
    assert "behind" not in read.text("details")


def test_sections_may_be_nested_and_need_no_empty_lines():
    read = shown(
        "<details>\n<summary>outer</summary>\n\n*x*\n\n"
        "<details><summary>inner</summary>y\n</details>\n\n</details>\n"
    )
    assert read.texts["summary"] == ["outer", "inner"]
    assert [tag for tag, _ in read.tags][11:] == [
        *("details", "summary", "p", "em", "details", "summary", "pre", "code")
    ]
    assert read.text("pre") == "y"


@pytest.mark.parametrize(
    "card",
    [
        "<details><summary>a</summary>\n\nrest\n",
        "rest\n\n</details>\n",
        "> <details><summary>a</summary>\n\nrest\n\n</details>\n",
        "<details><summary>a</summary>\n\n> </details>\n\nrest\n",
        "- <details><summary>a</summary>\n- </details>\n\nrest\n",
    ],
)
def test_a_section_without_both_ends_hides_nothing(card):
    read = shown(card)
    assert read.all("details") == []
    assert "rest" in read.text()
    assert read.text().count("details>") == card.count("details>")


def test_headings_get_the_ids_that_the_hub_gives_them():
    read = shown("# Über `x_y` & Co.\n\n## A\n\n## A\n\n## A-1\n\n## ???\n\nA\n===\n\n# B-1\n# B\n# B\n")
    assert [attrs["id"] for tag, attrs in read.tags if tag in {"h1", "h2"}] == [
        *("über-x_y--co", "a", "a-1", "a-1-1", "section", "a-2", "b-1", "b", "b-2")
    ]


@pytest.mark.parametrize(
    "deep",
    [
        *(">" * 5000, "- " * 5000, "[" * 5000, "![" * 95 + "](a)" * 95, "*a **b " * 5000),
        *("<details><summary>x</summary>\n\n" * 2000, "<details><summary>" * 5000, "<!--" * 5000),
    ],
    ids=lambda text: text[:8],
)
def test_no_depth_brings_it_down(deep):
    shown(deep + "a\n")


def test_surrogates_do_not_reach_the_file():
    assert "?" in shown("# a\udc80\n", title="b\udcff").text()


HOSTILE = st.lists(
    st.sampled_from(
        [
            *(
                "<script>",
                "</script>",
                "<!--",
                "-->",
                "<details>",
                "<summary>",
                "</summary>",
                "</details>",
                "<",
            ),
            *(
                "<img src=x onerror=alert(1)>",
                "<a href='javascript:x'>",
                "[x](javascript:x)",
                "](",
                "![",
                "[",
            ),
            *(
                "<details><summary>",
                "</title>",
                "</style>",
                "]]>",
                "<![CDATA[",
                "&lt;",
                "&#60;",
                "&",
                '"',
                "'",
            ),
            *(
                "\n",
                "\n\n",
                "> ",
                "- ",
                "# ",
                "```",
                "`",
                "|",
                "|-|\n",
                "    ",
                "[a]: javascript:x\n",
                "---\n",
            ),
            *("tags: ", "{", "a.png", ")", "onload=x ", "\u2028", "\0", "\ud800", "\x0b"),
        ]
    )
    | st.text(st.characters(), max_size=8),
    max_size=30,
).map("".join)


@given(title=HOSTILE, body=HOSTILE)
def test_whatever_a_card_holds_only_our_tags_come_out(title, body):
    read = shown(body, {"a.png": PNG}, title)
    assert read.page == page(title, body, {"a.png": PNG})


@given(tags=st.lists(HOSTILE, max_size=4))
def test_whatever_the_tags_hold_they_are_words(tags):
    import yaml

    read = shown(f"---\n{yaml.safe_dump({'tags': tags, 'license': tags})}---\n# T\n")
    assert {tag for tag, _ in read.tags} <= FRAME | {"ul", "li", "span", "p", "h1"}
