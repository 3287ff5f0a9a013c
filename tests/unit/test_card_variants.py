"""Cards of two hundred trainings that nobody would plan: each is valid, stable, and words stay words."""

from __future__ import annotations

import json
import math
import random
import re

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from agent.card import (
    Facts,
    Picture,
    Report,
    Training,
    gallery,
    publish_card,
    read_metadata,
    read_report,
    report_table,
)
from agent.card.section import BEGIN, END
from agent.sandbox.hub.readme import examine

VARIANTS = 200
NAMES = [
    "plain", "a|b", "a`b``c", "---", "\n---\n", "<script>alert(1)</script>", "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))", "![x](https://evil.example/p.png)", "模型 ☃ ünï", "a\r\n| b | c |",
    "</details>", "<!-- x -->", END, BEGIN, "# heading", "**bold**", "https://evil.example", "\u202eRTL",
    "x" * 3000, "", " ", "\0\x07", "\ud800", "$x$", "{{ secret }}", "&lt;b&gt;", "~~s~~", "| --- |", "\\",
    "a\\", "```", "@all",
]  # fmt: skip
FILES = [name for name in NAMES if name and name.isprintable()]  # no others are published
NUMBERS = [
    0,
    1,
    -1,
    0.5,
    1e-9,
    1e300,
    -1e300,
    math.nan,
    math.inf,
    -math.inf,
    10**30,
    -(10**400),
    True,
    None,
    "1",
]
ENDINGS = ["/adapter_config.json", ".gguf", ".onnx", ".bin"]
KINDS = ["adapter", "adapters", "full", "sharded", "merged", "diffusers", "gguf", "onnx", "pytorch"]
ALLOWED = {
    "heading", "paragraph", "table", "thead", "tbody", "tr", "th", "td", "fence", "inline", "bullet_list",
    "list_item", "html_block", "text", "code_inline", "link", "image", "softbreak",
    "text_special",
}  # fmt: skip


def maybe(die, *values):
    return die.choice([None, *values])


def some(die, made, most=6):
    return [made() for _ in range(die.randrange(most))]


def history(die):
    metrics = die.sample(["loss", "eval_loss", "grad_norm", "rewards/margins", "learning_rate", *NAMES], 8)
    return tuple(
        {
            "step": die.choice([*NUMBERS, n]),
            **{metric: die.choice([*NUMBERS, die.random()]) for metric in metrics},
        }
        for n in range(die.randrange(12))
    )


def readme(die):
    keys = ["license", "language", "tags", "datasets", "base_model", "model-index", "pipeline_tag", "licence"]
    values = [
        *NAMES,
        [*die.sample(NAMES, 3)],
        {"a": 1},
        5,
        None,
        True,
        [None, 3],
        [{"name": "x", "results": [{}]}],
    ]
    front = {key: die.choice(values) for key in die.sample(keys, 4)}
    body = "\n\n".join(name.replace(BEGIN, "").replace(END, "") for name in die.sample(NAMES, 4))
    text = f"---\n{yaml.safe_dump(front, allow_unicode=True)}---\n{body}\n"
    text = maybe(die, text, body, "", "---\nbroken: [\n---\n")
    return text and text.encode(errors="replace").decode()  # as it is read from a file


def report(die):
    tasks = {
        name: {metric: die.choice(NUMBERS) for metric in die.sample(NAMES, 3)}
        for name in die.sample(NAMES, 4)
    }
    content = json.dumps({"results": tasks | {"fine": {"acc": 0.5}}}).encode()
    return Report(
        "Evaluation",
        "evaluation/r.json",
        report_table(read_report(content), "evaluation/r.json"),
        {"acc": 0.5},
    )


def variant(seed):
    die = random.Random(seed)
    name = lambda: die.choice(NAMES)  # noqa: E731 - drawn again each time
    steps = die.choice([0, 1, 10**9])
    training = Training(
        metrics={name(): die.random() for _ in range(4)} | {"eval_loss": die.random()},
        history=history(die),
        steps=steps, max_steps=steps + 1,
        epochs=maybe(die, 1, 0.1), runtime_s=maybe(die, 0.5, 61, 9e6), tokens=maybe(die, 5, 1e13),
        ended=die.choice(["finished", "cut-short", "early-stopping", "unknown"]),
        diverged=tuple(some(die, name, 3)), hardware=maybe(die, name()),
        hyperparameters={key: name() for key in ("learning_rate", "optim", "beta")},
    )  # fmt: skip
    facts = Facts(
        repo_id="ada/my-model", endpoint="https://huggingface.co", kind=die.choice(KINDS),
        method=maybe(die, "sft", "dpo", "orpo", name()), base_model=maybe(die, "org/base"),
        dataset=maybe(die, name()), job_id="6f1c2a54-9d0e-4a57-8c11-0123456789ab", tag="job-6f1c2a54",
        paths=frozenset(die.choice(FILES) + ending for ending in ENDINGS),
        adapter=maybe(die, {"r": die.choice(NUMBERS), "peft_type": name(), "target_modules": [name()]}) or {},
        model={"architectures": [name()], "quantization_config": maybe(die, {})},
        chat_template=die.random() < 0.5,
        versions={name(): name()}, git_revision=maybe(die, name()), training=training,
        pictures=(Picture("assets/training-loss.png", "Loss", "Loss over 5 steps."),),
        reports=tuple(some(die, lambda: report(die), 2)),
        gallery=gallery([
            (f"samples/{name()}.png", None), (f"samples/{name()}.txt", name().encode("utf-8", "replace")),
        ]),
        weights_read=maybe(die, "Read.") or "",
    )  # fmt: skip
    return readme(die), facts


@pytest.mark.parametrize("seed", range(VARIANTS))
def test_whatever_a_training_leaves_the_card_is_valid_and_words_stay_words(seed):
    text, facts = variant(seed)
    made = publish_card(text, facts)
    assert examine(made).errors == []
    assert publish_card(made, facts) == made, "publishing a published card changes it"
    made.encode()
    ModelCard(made)  # the library parses what it may publish
    metadata, body = read_metadata(made)
    assert metadata
    assert body.count(BEGIN) == body.count(END) == 1
    ours = body[body.index(BEGIN) + len(BEGIN) : body.index(END)]
    tokens = [
        one
        for token in MarkdownIt("commonmark").enable("table").parse(ours)
        for one in (token, *(token.children or ()))
    ]
    kinds = {re.sub(r"_(open|close)$", "", token.type) for token in tokens}
    assert kinds <= ALLOWED, kinds - ALLOWED
    addresses = [
        str(token.attrs.get("href") or token.attrs.get("src"))
        for token in tokens
        if token.type in {"link_open", "image"}
    ]
    local = ("assets/", "samples/", "evaluation/", "finalize.json", "https://huggingface.co/")
    assert all(address.startswith(local) for address in addresses), addresses
    for token in tokens:
        if token.type == "html_block":
            assert re.fullmatch(r"<details><summary>[^<]*</summary>\s*|</details>\s*", token.content), (
                token.content
            )
    rows = [token for token in tokens if token.type == "tr_open"]
    assert rows
    for table in re.findall(r"(?:^\|.*\n)+", ours, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table
