from __future__ import annotations

import dataclasses
import json

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from agent import card
from agent.card import Facts, choose_base, named_bases, plain_card, publish_card, read_metadata, with_base
from agent.card.base import is_model_id
from agent.errors import ArtifactError
from agent.sandbox.hub.readme import examine

JOB = "6f1c2a54-9d0e-4a57-8c11-0123456789ab"
ADAPTER = Facts(
    repo_id="ada/my-model",
    endpoint="https://huggingface.co",
    kind="adapter",
    method="sft",
    base_model="org/base",
    dataset="org/data",
    job_id=JOB,
    tag="job-6f1c2a54",
)
FULL = dataclasses.replace(ADAPTER, kind="full", base_model=None, dataset=None)
TREE = "https://huggingface.co/ada/my-model/tree/job-6f1c2a54"
SECTION = f"""<!-- training-agent:begin -->
## About this model

|  |  |
|---|---|
| Method | supervised fine-tuning (SFT) |
| Model | adapter |
| Base model | [org/base](https://huggingface.co/org/base) |
| Dataset | `org/data` |
| Job | `{JOB}` |
| Files | proven at [`job-6f1c2a54`]({TREE}), hashes in `finalize.json` |

### How to load

```python
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model = AutoPeftModelForCausalLM.from_pretrained("ada/my-model", device_map="auto")
tokenizer = AutoTokenizer.from_pretrained("org/base")

inputs = tokenizer("Once upon a time", return_tensors="pt").to(model.device)
output = model.generate(**inputs, max_new_tokens=256)
print(tokenizer.decode(output[0], skip_special_tokens=True))
```

### How it was verified

The tag `job-6f1c2a54` was set after every file at it had been read back from the Hub and found equal to the \
bytes on the training machine, by size and hash. The hashes are in [`finalize.json`](finalize.json).
<!-- training-agent:end -->
"""
OURS = {
    "library_name": "peft",
    "base_model": "org/base",
    "base_model_relation": "adapter",
    "tags": ["sft"],
}
FRONT = "library_name: peft\nbase_model: org/base\nbase_model_relation: adapter\ntags:\n- sft\n"
BEGIN, END = "<!-- training-agent:begin -->", "<!-- training-agent:end -->"


def facts(of=ADAPTER, **more):
    return dataclasses.replace(of, **more)


def published(text, of=ADAPTER, **more):
    """The card's metadata and its body, both with the checks that hold for every card."""
    shown = facts(of, **more)
    made = publish_card(text, shown)
    assert publish_card(made, shown) == made, "publishing a published card changes it"
    assert made.count(BEGIN) == made.count(END) == 1
    made.encode()
    _, front, body = made.split("---\n", 2)
    return yaml.safe_load(front), body


def with_front(front, body="# T\n"):
    return f"---\n{front}\n---\n{body}"


def test_without_a_readme_a_card_is_made():
    assert publish_card(None, ADAPTER) == (f"---\n{FRONT}---\n\n# my-model\n\n{SECTION}")


def test_what_is_unknown_is_not_mentioned():
    metadata, body = published(None, FULL, method=None)
    assert metadata == {"library_name": "transformers"}
    assert [row.split("|")[1].strip() for row in body.splitlines() if row.startswith("| ")] == [
        "",
        "Model",
        "Job",
        "Files",
    ]
    assert [line for line in body.splitlines() if line.startswith("##")] == [
        "## About this model",
        "### How to load",
        "### How it was verified",
    ]


def test_another_hub_is_linked_to_itself():
    _, body = published(None, endpoint="http://127.0.0.1:1234")
    assert "https://huggingface.co" not in body
    assert "(http://127.0.0.1:1234/ada/my-model/tree/job-6f1c2a54)" in body


@pytest.mark.parametrize("text", ["", "\n", "---\n---\n", "---\n---"])
def test_an_empty_readme_becomes_a_card(text):
    metadata, body = published(text)
    assert metadata == OURS
    assert body == "\n" + SECTION


@pytest.mark.parametrize("name", ["sft_lora", "sft_lora_abs", "dpo_lora", "orpo_lora", "sft_full"])
@pytest.mark.parametrize("base", ["org/base", None])
def test_a_real_card_keeps_every_line_but_those_that_mislead(real_output, name, base):
    text = (real_output(name) / "README.md").read_text()
    shown = facts(ADAPTER if "lora" in name else FULL, method=name.split("_")[0], base_model=base)
    made = publish_card(text, shown)
    assert publish_card(made, shown) == made
    before = read_metadata(text)[1].strip().splitlines()
    above, ours = read_metadata(made)[1].split(BEGIN + "\n")
    after = (above + ours.split(END + "\n\n")[1]).strip().splitlines()
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    now = "[org/base](https://huggingface.co/org/base)" if base else "a base model that is not on the Hub"
    assert changed == [
        (
            "This model is a fine-tuned version of [None](https://huggingface.co/None).",
            f"This model is a fine-tuned version of {now}.",
        ),
        (
            'generator = pipeline("text-generation", model="None", device_map="auto")',
            'generator = pipeline("text-generation", model="ada/my-model", device_map="auto")',
        ),
    ]


@pytest.mark.parametrize("name", ["sft_lora", "sft_lora_abs", "dpo_lora", "orpo_lora"])
def test_a_local_base_path_of_a_real_adapter_is_gone_from_its_card(real_output, name):
    text = (real_output(name) / "README.md").read_text()
    assert "o5/base" in text or "/workspace/base" in text
    made = publish_card(text, facts(base_model=None, method=name.split("_")[0]))
    assert "o5/base" not in made
    assert "/workspace" not in made
    assert "None" not in made
    metadata = read_metadata(made)[0]
    assert "base_model" not in metadata
    assert metadata["tags"] == sorted(["lora", name.split("_")[0], "transformers", "trl"])


def test_the_metadata_of_a_real_card_is_repaired_and_kept(real_output):
    text = (real_output("sft_lora_abs") / "README.md").read_text()
    assert read_metadata(publish_card(text, ADAPTER))[0] == {
        "library_name": "peft",
        "model_name": "sft_lora",
        "pipeline_tag": "text-generation",
        "base_model": "org/base",
        "base_model_relation": "adapter",
        "tags": ["lora", "sft", "transformers", "trl"],
    }


@pytest.mark.parametrize(
    ("kind", "said", "library"),
    [
        ("adapter", "transformers", "peft"),
        ("adapter", None, "peft"),
        ("full", "peft", "transformers"),
        ("sharded", "peft", "transformers"),
        ("full", None, "transformers"),
        ("full", "diffusers", "diffusers"),
        ("adapters", "transformers", "peft"),
        ("merged", "peft", "transformers"),
        ("diffusers", None, "diffusers"),
        ("gguf", "llama.cpp", "llama.cpp"),
    ],
)
def test_the_library_is_the_one_that_can_load_it(kind, said, library):
    text = with_front(f"library_name: {said}") if said else "# T\n"
    assert published(text, kind=kind)[0]["library_name"] == library


@pytest.mark.parametrize("said", ["peft", None])
@pytest.mark.parametrize("kind", ["gguf", "onnx", "pytorch"])
def test_a_model_that_no_library_of_the_hub_loads_names_none(kind, said):
    text = with_front(f"library_name: {said}") if said else "# T\n"
    assert "library_name" not in published(text, kind=kind)[0]


def test_metadata_that_is_the_authors_business_is_kept():
    front = (
        "license: mit\nlanguage:\n- de\n- en\npipeline_tag: text-generation\n"
        "license_name: Ünïcode ☃\nwidget:\n- text: hi"
    )
    metadata, _ = published(with_front(front))
    assert {
        name: metadata[name] for name in ("license", "language", "pipeline_tag", "license_name", "widget")
    } == {
        "license": "mit",
        "language": ["de", "en"],
        "pipeline_tag": "text-generation",
        "license_name": "Ünïcode ☃",
        "widget": [{"text": "hi"}],
    }


def test_metadata_stays_readable_in_every_script():
    assert "\nlicense_name: Ünïcode ☃ 模型\n" in publish_card(
        with_front("license_name: Ünïcode ☃ 模型"), ADAPTER
    )


@pytest.mark.parametrize(
    ("front", "base", "expected"),
    [
        ("base_model: org/base", "org/base", "org/base"),
        ("base_model: org/other", "org/base", "org/base"),
        ("base_model: /workspace/base", "org/base", "org/base"),
        ("base_model:\n- org/base\n- org/second", "org/base", ["org/base", "org/second"]),
        ("base_model:\n- org/base\n- /workspace/second", "org/base", "org/base"),
        ("base_model:\n- org/second", "org/base", "org/base"),
        ("base_model: 5", "org/base", "org/base"),
        ("base_model: {a: b}", "org/base", "org/base"),
        ("license: mit", "org/base", "org/base"),
        ("base_model: org/other", None, None),
        ("base_model: /workspace/base", None, None),
        ("base_model:\n- /workspace/base\n- org/other", None, None),
    ],
)
def test_the_card_names_the_base_that_was_chosen(front, base, expected):
    assert published(with_front(front), base_model=base)[0].get("base_model") == expected


@pytest.mark.parametrize(
    ("front", "method", "tags"),
    [
        ("tags: [trl, lora]", "sft", ["trl", "lora", "sft"]),
        ("tags: [trl, sft]", "sft", ["trl", "sft"]),
        ("tags: [trl]", None, ["trl"]),
        ("tags: []", None, None),
        ("tags: null", "dpo", ["dpo"]),
        ("tags:", "dpo", ["dpo"]),
        ("tags: ['base_model:adapter:/workspace/base', 'base_model:org/x', keep]", "sft", ["keep", "sft"]),
        ("tags: [1, null, {a: b}, [c], real]", "sft", ["real", "sft"]),
        ("license: mit", "orpo", ["orpo"]),
    ],
)
def test_tags_gain_the_method_and_lose_what_contradicts_the_base(front, method, tags):
    assert published(with_front(front), method=method)[0].get("tags") == tags


@pytest.mark.parametrize("front", ["- a\n- b", "just words", "5", "null", "[]"])
def test_metadata_that_is_no_mapping_counts_as_none(front):
    metadata, body = published(with_front(front))
    assert metadata == OURS
    assert body == f"\n# T\n\n{SECTION}"


@pytest.mark.parametrize(
    "front", ["a: [", "a: b: c", "\ta: b", "a: !!python/object:os.system x", "{", "a: \x07"]
)
def test_metadata_that_is_not_yaml_is_dropped_with_a_warning_and_the_prose_kept(front):
    with capture_logs() as logs:
        made = publish_card(with_front(front, "# My words\n"), ADAPTER)
    assert [line["event"] for line in logs] == ["dropped README metadata that is not YAML"]
    assert read_metadata(made)[0] == OURS
    assert "# My words\n" in made


def test_metadata_that_the_hub_refuses_can_be_left_out_and_the_prose_kept():
    text = with_front("license: no-such\nbase_model: /workspace/x\ntags: [x]", "# My words\n\nMore.\n")
    assert plain_card(text, ADAPTER) == (f"---\n{FRONT}---\n\n# My words\n\nMore.\n\n{SECTION}")
    assert plain_card(None, ADAPTER) == publish_card(None, ADAPTER)


def test_a_card_without_its_metadata_is_made_the_same_from_a_published_one():
    text = with_front("license: no-such", "# My words\n")
    assert plain_card(publish_card(text, ADAPTER), ADAPTER) == plain_card(text, ADAPTER)


@pytest.mark.parametrize(
    ("text", "metadata", "body"),
    [
        ("---\na: b\n---\nbody", {"a": "b"}, "body"),
        ("---\na: b\n---", {"a": "b"}, ""),
        ("---\na: b\n---\n", {"a": "b"}, ""),
        ("---\r\na: b\r\nc: d\r\n---\r\nbody\r\n", {"a": "b", "c": "d"}, "body\r\n"),
        ("\ufeff---\na: b\n---\nbody", {"a": "b"}, "body"),
        ("---  \na: b\n--- \t\nbody", {"a": "b"}, "body"),
        ("---\n---\nbody", {}, "body"),
        ("---\na: b\nbody without an end", {}, "---\na: b\nbody without an end"),
        ("# T\n---\na: b\n---\n", {}, "# T\n---\na: b\n---\n"),
        ("--- a: b\n---\n", {}, "--- a: b\n---\n"),
        ("", {}, ""),
        ("---\na: b\n---\nbody\n---\nc: d\n---\n", {"a": "b"}, "body\n---\nc: d\n---\n"),
    ],
)
def test_metadata_and_body_are_told_apart(text, metadata, body):
    assert read_metadata(text) == (metadata, body)


@pytest.mark.parametrize(
    ("metadata", "bases"),
    [
        ({}, []),
        ({"base_model": "org/a"}, ["org/a"]),
        ({"base_model": ["org/a", "org/b"]}, ["org/a", "org/b"]),
        ({"base_model": None}, []),
        ({"base_model": [None, 5, "org/a", ["x"]]}, ["org/a"]),
        ({"base_model": {"name": "org/a"}}, []),
    ],
)
def test_the_bases_a_card_names(metadata, bases):
    assert named_bases(metadata) == bases


PROSE = [
    "# Title\n\nWords.\n",
    "# Title\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n---\n\nAfter a rule.\n\n---\n",
    "Line with two spaces  \nand\ttabs\n\n\n\nand gaps\n",
    "Windows\r\nline ends\r\n\r\nhere\r\n",
    "Ünïcödé ☃ 模型 \u202eRTL\u202c \x0b \x85\n",
    "<script>alert(1)</script> <!-- a comment -->\n",
    "```yaml\n---\ntags: [x]\n---\n```\n",
    "a [None](x) model=None `model='None'` fine-tuned version of nothing\n",
    "trailing backslash \\1 \\g<0> \\\n",
]


@pytest.mark.parametrize("prose", PROSE)
@pytest.mark.parametrize("front", ["", "---\nlicense: mit\n---\n", "---\r\nlicense: mit\r\n---\r\n"])
def test_the_authors_prose_is_kept_byte_for_byte(front, prose):
    made = publish_card(front + prose, ADAPTER)
    assert publish_card(made, ADAPTER) == made
    assert read_metadata(made)[1] == f"\n{prose.rstrip()}\n\n{SECTION}"


@pytest.mark.parametrize("prose", PROSE)
def test_prose_on_both_sides_of_our_section_is_kept_byte_for_byte(prose):
    old = SECTION.replace("SFT", "old").replace("org/base", "org/old")
    made = publish_card(f"# Above\n\n{old}\n{prose}", ADAPTER)
    assert read_metadata(made)[1] == f"\n# Above\n\n{SECTION}\n{prose}"


def test_our_section_is_replaced_where_it_stands():
    first = publish_card("# T\n", ADAPTER)
    second = publish_card(
        first + "\nA word after it.\n", facts(method="dpo", dataset=None, tag="job-99999999")
    )
    assert second.count("## About this model") == 1
    assert "job-6f1c2a54" not in second
    assert second.endswith(f"{END}\n\nA word after it.\n")
    assert read_metadata(second)[0]["tags"] == ["sft", "dpo"]


def test_an_author_who_deletes_our_section_gets_it_at_the_end_again():
    assert publish_card("# T\n", ADAPTER).endswith("# T\n\n" + SECTION)


@pytest.mark.parametrize(
    ("said", "base", "now"),
    [
        ("[None](https://huggingface.co/None)", "org/base", "[org/base](https://huggingface.co/org/base)"),
        ("[None](https://huggingface.co/None)", None, "a base model that is not on the Hub"),
        (
            "[/workspace/b](https://huggingface.co//workspace/b)",
            "org/base",
            "[org/base](https://huggingface.co/org/base)",
        ),
        ("[/workspace/b](https://huggingface.co//workspace/b)", None, "a base model that is not on the Hub"),
        (
            "[org/base](https://huggingface.co/org/base)",
            "org/base",
            "[org/base](https://huggingface.co/org/base)",
        ),
        ("[org/base](https://elsewhere.example/)", "org/base", "[org/base](https://elsewhere.example/)"),
        (
            "[org/old](https://huggingface.co/org/old)",
            "org/base",
            "[org/base](https://huggingface.co/org/base)",
        ),
    ],
)
def test_the_sentence_about_the_base_names_the_base(said, base, now):
    _, body = published(f"It is a fine-tuned version of {said}. More.\n", base_model=base)
    assert f"\nIt is a fine-tuned version of {now}. More.\n" in body


HOSTILE = [
    "a|b",
    "a`b",
    "`a`",
    "a\nb",
    "a\r\n| Job | `other` |",
    "a\n---\nb",
    "a\n\n# Heading",
    "</td><script>alert(1)</script>",
    "[x](javascript:alert(1))",
    "a\x0b\x0c\x85\u2028\u2029b",
    "back\\1slash\\g<0>\\",
    "x" * 5000,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_dataset_name_cannot_break_out_of_its_cell(name):
    _, body = published(None, dataset=name)
    section = body[body.index(BEGIN) : body.index(END)]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    names = [row.split("|")[1].strip() for row in rows]
    assert names == ["", "Method", "Model", "Base model", "Dataset", "Job", "Files"]
    (row,) = [row for row in rows if row.startswith("| Dataset |")]
    assert row.count("`") == 2
    assert row.count("|") == 3
    assert row.endswith("` |")


@pytest.mark.parametrize("name", [name for name in HOSTILE if "---" not in name and "\x85" not in name])
def test_a_hostile_tag_stays_a_tag(name):
    metadata, _ = published(with_front(yaml.safe_dump({"tags": [name], "license": name})))
    assert metadata["license"] == name
    assert metadata["tags"] == [name, "sft"]


# PyYAML itself does not bring control characters and odd line ends back as they were.
PLAIN = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=12).filter(
    lambda text: "---" not in text
)
SCALAR = st.none() | st.booleans() | st.integers(-(10**12), 10**12) | PLAIN
VALUE = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PLAIN, inner, max_size=3),
    max_leaves=6,
)
RESULT = st.fixed_dictionaries(
    {
        "task": VALUE | st.just({"type": "text-generation"}),
        "dataset": VALUE | st.just({"type": "a/b", "name": "b"}),
        "metrics": VALUE | st.just([{"type": "f1", "value": 0.5}]),
    },
    optional={"source": VALUE | st.just({"url": "https://x/finalize.json"})},
)
KNOWN = {
    "base_model": VALUE,
    "license": VALUE,
    "library_name": st.none() | st.booleans() | PLAIN,
    "tags": st.none() | st.lists(VALUE, max_size=3),
    "datasets": VALUE,
    "language": VALUE,
    "licence": VALUE,
    "pipeline_tag": VALUE,
    "base_model_relation": VALUE,
    "model-index": VALUE
    | st.lists(
        st.fixed_dictionaries({"name": VALUE, "results": st.lists(RESULT, max_size=3)}),
        min_size=1,
        max_size=2,
    ),
}


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(
    metadata=st.dictionaries(PLAIN, VALUE, max_size=3),
    known=st.fixed_dictionaries({}, optional=KNOWN),
    base=st.sampled_from([None, "org/base"]),
    kind=st.sampled_from(["adapter", "full"]),
)
def test_whatever_the_metadata_holds_the_card_is_valid_and_stable(metadata, known, base, kind):
    given_ = metadata | known
    text = with_front(yaml.safe_dump(given_, allow_unicode=True), "# T\n")
    after, body = published(text, base_model=base, kind=kind)
    assert {key: value for key, value in after.items() if key not in KNOWN} == {
        key: value for key, value in given_.items() if key not in KNOWN
    }
    assert examine(with_front(yaml.safe_dump(after, allow_unicode=True))).errors == []
    assert base in named_bases(after) if base else "base_model" not in after
    assert "sft" in after["tags"]
    assert body.startswith("\n# T\n\n" + BEGIN)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="-\ufeff"), max_size=80))
def test_any_text_without_metadata_is_kept(text):
    assume("None" not in text)  # what TRL writes for a name it does not know is repaired
    made = publish_card(text, ADAPTER)
    assert publish_card(made, ADAPTER) == made
    assert text.strip() in made


@pytest.mark.parametrize(
    "text",
    ["gpt2", "org/base", "meta-llama/Llama-3.2-1B", "org/_private", "0rg/a.b-c_d", "a", "o5/base"],
)
def test_a_model_id_is_recognised(text):
    assert is_model_id(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/workspace/base",
        "./base",
        "../base",
        "~/base",
        "org/a/b",
        "org/",
        "/a",
        "org//a",
        "C:\\models\\base",
        "org/base\n",
        "org/ba se",
        "örg/base",
        "orgä/base",
        "org/bäse",
        "模型",
        "https://huggingface.co/org/base",
        "-org/base",
        ".hidden/base",
        "org/-base",
        "org/.base",
        "[x](y)",
        "org/base@main",
    ],
)
def test_a_path_or_anything_else_is_no_model_id(text):
    assert not is_model_id(text)


def asked(*existing):
    def exists(base):
        exists.calls.append(base)
        return base in existing

    exists.calls = []
    return exists


def test_the_configured_base_wins_without_asking():
    exists = asked("org/found")
    assert choose_base("org/configured", ["org/found"], exists) == "org/configured"
    assert exists.calls == []


def test_a_configured_path_is_said_to_be_one_and_passed_over():
    exists = asked("org/found")
    with capture_logs() as logs:
        assert choose_base("/workspace/base", ["org/found"], exists) == "org/found"
    assert [(line["event"], line["base_model"]) for line in logs] == [
        ("BASE_MODEL is a path, which no reader can follow", "/workspace/base")
    ]


def test_the_first_found_base_that_exists_is_named():
    exists = asked("org/second", "org/third")
    with capture_logs():
        assert choose_base(None, ["o5/base", "org/second", "org/third"], exists) == "org/second"
    assert exists.calls == ["o5/base", "org/second"]


def test_a_local_path_is_never_asked_for_nor_named():
    exists = asked("/workspace/base")
    with capture_logs() as logs:
        assert choose_base(None, ["/workspace/base"], exists) is None
    assert exists.calls == []
    assert [line["event"] for line in logs] == ["left out a local base path; set BASE_MODEL to name the base"]


def test_what_looks_like_an_id_but_is_not_on_the_hub_is_left_out_with_a_warning():
    with capture_logs() as logs:
        assert choose_base(None, ["o5/base"], asked()) is None
    assert [line["base_model"] for line in logs] == ["o5/base"]


def test_a_base_named_twice_is_asked_for_once():
    exists = asked()
    with capture_logs():
        choose_base(None, ["o5/base", "o5/base"], exists)
    assert exists.calls == ["o5/base"]


@pytest.mark.parametrize("configured", [None, ""])
def test_nothing_named_is_no_base(configured):
    assert choose_base(configured, [], asked()) is None


@pytest.mark.parametrize("name", ["sft_lora", "sft_lora_abs", "dpo_lora", "orpo_lora"])
def test_a_real_adapter_config_changes_its_base_and_nothing_else(real_output, name):
    content = (real_output(name) / "adapter_config.json").read_bytes()
    config = card.read_adapter_config(content, name)
    for base in ("org/base", None):
        repaired = with_base(content, config, base)
        assert json.loads(repaired) == config | {"base_model_name_or_path": base}
        assert b"/workspace" not in repaired
        assert with_base(repaired, json.loads(repaired), base) == repaired


@pytest.mark.parametrize(
    ("content", "base"),
    [
        (b'{ "base_model_name_or_path" : "org/base",\r\n\t"r":8 }\n\n', "org/base"),
        (b'{"r": 8}', None),
        (b'{"base_model_name_or_path": null}', None),
        (b'\xef\xbb\xbf{"base_model_name_or_path": "org/base"}', "org/base"),
    ],
)
def test_an_adapter_config_with_nothing_to_repair_is_byte_for_byte_the_same(content, base):
    assert with_base(content, card.read_adapter_config(content, "x"), base) == content


def test_a_good_adapter_config_of_a_real_run_is_byte_for_byte_the_same(real_output):
    content = (real_output("sft_lora") / "adapter_config.json").read_bytes()
    assert with_base(content, card.read_adapter_config(content, "x"), "o5/base") == content


@pytest.mark.parametrize(
    ("content", "base"),
    [(b'{"base_model_name_or_path": ["a"]}', None), (b'{"base_model_name_or_path": 5}', "org/base")],
)
def test_a_base_of_the_wrong_type_is_repaired(content, base):
    assert json.loads(with_base(content, json.loads(content), base)) == {"base_model_name_or_path": base}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe\xff", "is not JSON"),
        (b"[]", "is not a JSON object"),
        (b"null", "is not a JSON object"),
        (b'"x"', "is not a JSON object"),
    ],
)
def test_an_adapter_config_that_nobody_could_load_is_refused_with_its_place(content, said):
    with pytest.raises(ArtifactError) as raised:
        card.read_adapter_config(content, "/out/adapter_config.json")
    assert raised.value.message.startswith(f"/out/adapter_config.json {said}")
    assert raised.value.hint == "Save the adapter again."
