from __future__ import annotations

import io
import json
import logging
import os
import urllib.parse
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import log
from agent.log import get_logger

SECRET = "correct-horse-battery"
AWKWARD = 'pass"word with/signs+and=more'

STYLES = ("console", "json")


def as_event(secret):
    get_logger().info(f"it is {secret}")


def as_value(secret):
    get_logger().info("it is", secret=secret)


def inside_a_value(secret):
    get_logger().info("it is", request={"headers": [("x-job-token", secret)]})


def as_argument(secret):
    get_logger().info("it is %s", secret)


def refused(secret):
    raise ValueError(secret)


def as_exception(secret):
    try:
        refused(secret)
    except ValueError:
        get_logger().exception("it failed")


def in_a_url(secret):
    get_logger().info("asked", url=f"https://hub.example/?token={urllib.parse.quote(secret, safe='')}")


def in_json(secret):
    get_logger().info("answered " + json.dumps({"token": secret}))


def by_a_library(secret):
    logging.getLogger("some.library").warning("it is %s", secret)


def as_extra_of_a_library(secret):
    logging.getLogger("some.library").warning("it is", extra={"secret": secret})


def as_exception_of_a_library(secret):
    try:
        refused(secret)
    except ValueError:
        logging.getLogger("some.library").exception("it failed")


def as_a_warning(secret):
    warnings.warn(f"it is {secret}", UserWarning, stacklevel=1)


WAYS_OUT = [
    as_event,
    as_value,
    inside_a_value,
    as_argument,
    as_exception,
    in_a_url,
    in_json,
    by_a_library,
    as_extra_of_a_library,
    as_exception_of_a_library,
    as_a_warning,
]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("way_out", WAYS_OUT)
def test_a_known_secret_leaves_by_no_way_out(logged, style, way_out):
    logged.configure(style)
    log.hide([SECRET])
    way_out(SECRET)
    assert SECRET not in logged.text
    assert "[hidden]" in logged.text


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("way_out", [as_event, as_value, as_argument, in_a_url, by_a_library, as_exception])
def test_a_secret_with_quotes_and_signs_leaves_in_no_spelling(logged, style, way_out):
    logged.configure(style)
    log.hide([AWKWARD])
    way_out(AWKWARD)
    assert AWKWARD not in logged.text
    assert json.dumps(AWKWARD)[1:-1] not in logged.text
    assert urllib.parse.quote(AWKWARD, safe="") not in logged.text
    assert "[hidden]" in logged.text


@pytest.mark.parametrize("style", STYLES)
def test_without_a_secret_told_the_same_lines_do_come_out(logged, style):
    """Guards the tests above: every way out really ends in the stream they look at."""
    logged.configure(style)
    for way_out in WAYS_OUT:
        logged.stream.seek(0)
        logged.stream.truncate()
        way_out(SECRET)
        assert SECRET in logged.text, way_out.__name__


def test_a_variable_of_any_bytes_is_hidden_and_does_no_harm():
    secret = os.fsdecode(b"pass\xffword\xfe")
    log.hide([secret])
    assert log.redact(f"a {secret} b") == "a [hidden] b"
    assert log.redact("a=pass%FFword%FE") == "a=[hidden]"


def test_the_three_spellings_of_a_secret_are_hidden():
    secret = 'pass"word\\with/signs+and=more'
    log.hide([secret])
    assert log.redact(f"<{secret}>") == "<[hidden]>"
    assert log.redact('<pass\\"word\\\\with/signs+and=more>') == "<[hidden]>"
    assert log.redact("<pass%22word%5Cwith%2Fsigns%2Band%3Dmore>") == "<[hidden]>"


def test_the_longest_secret_is_hidden_first():
    log.hide(["abcdef", "abcdefghijkl"])
    assert log.redact("abcdefghijkl abcdefghi") == "[hidden] [hidden]ghi"


def test_what_is_too_short_to_be_a_secret_does_not_blank_ordinary_words():
    log.hide(["", "a", "main1"])
    assert log.redact("a main1 plain") == "a main1 plain"
    log.hide(["main12"])
    assert log.redact("a main12 plain") == "a [hidden] plain"


@pytest.mark.parametrize(
    "token",
    [
        "hf_" + "aB3" * 11 + "x",
        "hf_PlantedTokenOfAda0123456789",
        "sb_secret_Planted0123456789_abcdefghij",
        "ghp_" + "a1B2c3D4e5" * 3 + "f6G7h8",
        "gho_" + "a1B2c3D4e5" * 3 + "f6G7h8",
        "ghs_" + "a1B2c3D4e5" * 3 + "f6G7h8",
        "github_pat_11ABCDEFG0" + "a1B2c3D4e5" * 5,
        "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoic2VydmljZV9yb2xlIn0.dBjftJeZ4CVPmB92K27uhbUJU1p1r_wW1gFWFOEjXk",
    ],
)
def test_what_looks_like_a_token_is_hidden_without_being_told(token):
    assert log.redact(f'sent "{token}", refused') == 'sent "[hidden]", refused'
    assert log.redact(f"https://user:{token}@hub.example") == "https://user:[hidden]@hub.example"


def test_whatever_follows_bearer_is_hidden():
    assert (
        log.redact("{'Authorization': 'Bearer some.opaque-thing'}") == "{'Authorization': 'Bearer [hidden]'}"
    )


@pytest.mark.parametrize(
    "text",
    [
        "took stock folder=/workspace/fine_tuned_model files=7 kind=adapter method=sft",
        "HF_TOKEN is not set: the model is NOT uploaded",
        "HF_HUB_ENABLE_HF_TRANSFER is set; cleared it",
        "hf_xet sent 3 MB",
        "https://huggingface.co/ada/my-model/tree/job-0b0b0b0b",
        "commit 3f786850e387550fdab836ed7e6dc881de23001b",
        "sha256 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "job 6f1c2a54-9d0e-4a57-8c11-0123456789ab eyJ is short",
        "github_patience ghp_short sb_secret_x",
    ],
)
def test_ordinary_words_survive(text):
    log.hide(["something-else-entirely"])
    assert log.redact(text) == text


def test_a_redacted_stream_offers_what_the_stream_offers():
    inner = io.StringIO()
    stream = log.RedactedStream(inner)
    log.hide([SECRET])
    stream.write(f"a {SECRET} b\n")
    stream.flush()
    assert inner.getvalue() == "a [hidden] b\n"
    assert stream.isatty() is False


def test_a_json_line_is_one_object_with_the_facts(logged):
    logged.configure("json", "info")
    get_logger().info("took stock", files=3, path="/a b", odd="ä\n")
    logging.getLogger("some.library").warning("said %d", 5)
    ours, theirs = logged.lines
    assert {name: ours[name] for name in ("event", "level", "files", "path", "odd")} == {
        "event": "took stock",
        "level": "info",
        "files": 3,
        "path": "/a b",
        "odd": "ä\n",
    }
    assert (theirs["event"], theirs["level"]) == ("said 5", "warning")
    assert ours["timestamp"].endswith("Z")
    assert '"odd": "ä\\n"' in logged.text


def test_a_json_line_stays_one_object_when_a_secret_is_taken_out(logged):
    logged.configure("json")
    log.hide([AWKWARD])
    get_logger().info("it is", secret=AWKWARD, after="x")
    assert [(line["secret"], line["after"]) for line in logged.lines] == [("[hidden]", "x")]


def test_an_exception_is_told_in_json_with_its_trace(logged):
    logged.configure("json")
    as_exception("some words")
    (line,) = logged.lines
    assert "ValueError: some words" in line["exception"]


def test_a_console_line_has_no_colours_unless_a_person_watches(logged):
    logged.configure("console")
    get_logger().info("took stock", files=3)
    assert "\x1b" not in logged.text
    assert "took stock files=3" in logged.text


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_what_is_below_the_level_is_not_shown(logged, level, shown):
    logged.configure("json", level)
    for name in ("debug", "info", "warning", "error"):
        getattr(get_logger(), name)("said")
    assert [line["level"] for line in logged.lines] == shown


def test_libraries_are_quiet_unless_everything_is_asked_for(logged):
    logged.configure("json", "info")
    logging.getLogger("httpx2").info("request")
    logging.getLogger("huggingface_hub").warning("chatter")
    assert logged.lines == []
    logging.getLogger("huggingface_hub").error("trouble")
    assert [line["event"] for line in logged.lines] == ["trouble"]
    logged.configure("json", "debug")
    logging.getLogger("httpx2").info("request")
    assert [line["event"] for line in logged.lines] == ["trouble", "request"]


def test_configuring_twice_does_not_say_things_twice(logged):
    logged.configure("json").configure("json")
    get_logger().info("once")
    logging.getLogger("some.library").warning("once")
    assert len(logged.lines) == 2


def test_a_library_that_brought_its_own_handler_is_brought_under_the_redaction(logged):
    theirs = io.StringIO()
    library = logging.getLogger("huggingface_hub")
    library.addHandler(logging.StreamHandler(theirs))
    library.propagate = False
    logged.configure("json", "info")
    log.hide([SECRET])
    log.adopt("huggingface_hub")
    library.error("it is %s", SECRET)
    assert theirs.getvalue() == ""
    assert [line["event"] for line in logged.lines] == ["it is [hidden]"]


# A secret whose own text overlaps the placeholder cannot be told from it.
A_SECRET = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="[]\\"), min_size=6, max_size=60
).filter(lambda text: text not in log.HIDDEN)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(secret=A_SECRET, before=st.text(max_size=5), style=st.sampled_from(STYLES))
def test_no_secret_ever_appears_in_the_output(secret, before, style):
    log._known.clear()
    stream = io.StringIO()
    log.configure(style=style, level="info", stream=stream)
    log.hide([secret])
    get_logger().info(f"it is {before}{secret}", key=secret, keys=[secret])
    by_a_library(secret)
    text = stream.getvalue()
    assert secret not in text
    assert json.dumps(secret)[1:-1] not in text


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(secrets=st.lists(A_SECRET, min_size=1, max_size=4), text=st.text(max_size=30))
def test_redaction_leaves_nothing_to_redact(secrets, text):
    log._known.clear()
    log.hide(secrets)
    once = log.redact(f"{text} {' '.join(secrets)} {text}")
    assert not [secret for secret in secrets if f" {secret} " in once]
