"""What our section of a card says, and leaves unsaid."""

from __future__ import annotations

import ast
import dataclasses
import math
import re

import pytest

from agent.card import Facts, Picture, Report, Training, framework_versions, publish_card, read_metadata
from agent.card.markdown import code, link, number, plain, table, words
from agent.card.section import duration

FACTS = Facts(
    repo_id="ada/my-model",
    endpoint="https://huggingface.co",
    kind="full",
    method="sft",
    base_model="org/base",
    dataset=None,
    job_id="6f1c2a54-9d0e-4a57-8c11-0123456789ab",
    tag="job-6f1c2a54",
    paths=frozenset({"tokenizer.json"}),
)
HISTORY = (
    {"step": 10, "loss": 2.5, "rewards/accuracies": 0.25, "logps/chosen": -3.0},
    {"step": 20, "loss": 1.5, "rewards/accuracies": 0.75, "grad_norm": math.nan},
    {"step": 30, "loss": 2.0, "rewards/accuracies": 0.5, "grad_norm": math.inf, "logps/chosen": -5.0},
)


def body(of=FACTS, **more):
    return read_metadata(publish_card(None, dataclasses.replace(of, **more)))[1]


def trained(**more):
    return body(training=Training(**more))


def limits(**more):
    found = body(**more).partition("### Limits\n\n")[2]
    return [line[2:] for line in found.splitlines() if line.startswith("- ")]


KINDS = ["adapter", "adapters", "full", "sharded", "merged", "diffusers", "onnx", "pytorch"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("base", ["org/base", None])
@pytest.mark.parametrize("chat_template", [True, False])
@pytest.mark.parametrize("revision", ["main", "dev"])
@pytest.mark.parametrize("paths", [{"tokenizer.json", "a b.onnx", "w's.bin"}, {"model_index.json"}])
def test_the_code_that_loads_a_model_is_python_and_names_the_repo(kind, base, chat_template, revision, paths):
    said = body(
        kind=kind, base_model=base, chat_template=chat_template, revision=revision, paths=frozenset(paths)
    )
    for block in re.findall(r"```python\n(.*?)```", said, re.DOTALL):
        tree = ast.parse(block)
        texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
        assert "ada/my-model" in texts
        assert ("dev" in texts) == (revision == "dev")
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        imported = {name.asname or name.name for node in ast.walk(tree)
                    if isinstance(node, ast.Import | ast.ImportFrom) for name in node.names}  # fmt: skip
        assigned = {node.id for node in ast.walk(tree)
                    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}  # fmt: skip
        assert names <= imported | assigned | {"print"}
    assert ("```python" in said) == (kind != "adapters")


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"kind": "adapter"}, "AutoPeftModelForCausalLM.from_pretrained"),
        ({"kind": "adapter", "adapter": {"task_type": "SEQ_CLS"}}, "AutoPeftModelForSequenceClassification"),
        ({"kind": "adapter", "base_model": None}, 'PeftModel.from_pretrained(base, "ada/my-model")'),
        ({"kind": "sharded"}, "AutoModelForCausalLM.from_pretrained"),
        ({"model": {"architectures": ["BertForTokenClassification"]}}, "AutoModelForTokenClassification"),
        ({"kind": "gguf", "paths": frozenset({"m.gguf"})}, "llama-cli -hf ada/my-model -cnv"),
        ({"kind": "gguf", "paths": frozenset({"a b.gguf", "c.gguf"})}, "--hf-file 'a b.gguf' -cnv"),
        (
            {"kind": "diffusers", "paths": frozenset({"model_index.json"})},
            "DiffusionPipeline.from_pretrained",
        ),
        ({"kind": "diffusers"}, 'load_lora_weights("ada/my-model")'),
        ({"kind": "onnx", "paths": frozenset({"onnx/model.onnx"})}, "'onnx/model.onnx'"),
        ({"kind": "adapters", "paths": frozenset({"en/adapter_config.json"})}, "an adapter for PEFT: `en`"),
        ({"kind": "adapter", "paths": frozenset()}, 'AutoTokenizer.from_pretrained("org/base")'),
        ({"chat_template": True}, "apply_chat_template"),
        ({}, 'tokenizer("Once upon a time"'),
    ],
)
def test_how_to_load_fits_the_artifact(more, expected):
    assert expected in body(**more).partition("### How to load")[2].partition("###")[0]


@pytest.mark.parametrize(
    ("model", "adapter", "tag"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, {}, "text-generation"),
        ({"architectures": ["GPT2LMHeadModel"]}, {}, "text-generation"),
        ({}, {"task_type": "SEQ_CLS"}, "text-classification"),
        ({"architectures": ["BertForQuestionAnswering"]}, {}, "question-answering"),
        ({"architectures": ["BertModel"]}, {}, None),
        ({"architectures": "x"}, {}, None),
        ({"architectures": []}, {"task_type": 5}, None),
    ],
)
def test_the_task_is_told_from_the_architecture(model, adapter, tag):
    facts = dataclasses.replace(FACTS, model=model, adapter=adapter)
    assert read_metadata(publish_card(None, facts))[0].get("pipeline_tag") == tag


@pytest.mark.parametrize(
    ("text", "more", "relation"),
    [
        (None, {"kind": "adapter"}, "adapter"),
        (None, {}, "finetune"),
        (None, {"kind": "gguf"}, "quantized"),
        (None, {"model": {"quantization_config": {}}}, "quantized"),
        ("---\nbase_model: [org/base, org/b]\n---\n", {}, "merge"),
        ("---\nbase_model_relation: merge\n---\n", {}, "merge"),
        ("---\nbase_model_relation: cousin\n---\n", {}, "finetune"),
        ("---\nbase_model_relation: merge\n---\n", {"base_model": None}, None),
    ],
)
def test_the_relation_to_the_base(text, more, relation):
    made = publish_card(text, dataclasses.replace(FACTS, **more))
    assert read_metadata(made)[0].get("base_model_relation") == relation


@pytest.mark.parametrize(
    ("adapter", "shown"),
    [
        ({"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["v", "q"]},
         "LoRA adapter, rank 8, alpha 16, on `q` `v`"),
        ({"peft_type": "IA3", "target_modules": "all-linear"}, "IA3 adapter"),
        ({"peft_type": "LORA", "r": "x", "target_modules": [f"m{n:02}" for n in range(20)]},
         "LoRA adapter, on " + " ".join(f"`m{n:02}`" for n in range(12)) + " …"),
    ],
)  # fmt: skip
def test_what_kind_of_adapter_it_is(adapter, shown):
    assert f"| Model | {shown} |\n" in body(kind="adapter", adapter=adapter)


def test_metrics_show_how_they_began_ended_and_how_good_they_got():
    metrics = {"loss": 2.0, "rewards/accuracies": 0.5, "logps/chosen": -5.0, "num_tokens": 7.0}
    said = trained(history=HISTORY, metrics=metrics, diverged=("grad_norm",))
    rows = [line for line in said.splitlines() if line.startswith("| `")]
    assert rows == [
        "| `loss` | 2.5 | 2 | 1.5 | 20 |",
        "| `grad_norm` | NaN | NaN |  |  |",
        "| `logps/chosen` | -3 | -5 |  |  |",
        "| `rewards/accuracies` | 0.25 | 0.5 | 0.75 | 20 |",
    ]


def test_evaluation_comes_first_and_a_metric_without_a_log_has_one_value():
    rows = [line for line in trained(metrics={"loss": 1.0, "eval_x": 2.5}).splitlines() if line[:3] == "| `"]
    assert rows == ["| `eval_x` | 2.5 | 2.5 |  |  |", "| `loss` | 1 | 1 |  |  |"]


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({"ended": "cut-short", "steps": 500, "max_steps": 2000},
         ["The training was stopped early, at step 500 of 2,000."]),
        ({"ended": "early-stopping", "steps": 5, "max_steps": 20},
         ["Early stopping ended the training at step 5 of 20."]),
        ({"ended": "finished", "steps": 20, "max_steps": 20}, []),
        ({"diverged": ("loss",)},
         ["The last `loss` that was logged is not a number: the training diverged."]),
        ({"history": HISTORY, "metrics": {"eval_loss": 1.0}},
         ["`grad_norm` was logged as NaN or infinite 2 times."]),
        ({"history": HISTORY[:2], "metrics": {"eval_loss": 1.0}},
         ["`grad_norm` was logged as NaN or infinite once."]),
        ({"history": HISTORY[:1], "metrics": {"loss": 1.0}},
         ["It was not evaluated: all figures above are of the data it was trained on."]),
    ],
)  # fmt: skip
def test_limits_that_the_run_shows_are_said(training, said):
    assert limits(training=Training(**training)) == said


def test_an_evaluation_somebody_made_is_one():
    report = Report("Evaluation", "evaluation/r.json", "| a |\n|---|\n| 1 |\n")
    assert limits(training=Training(history=HISTORY[:1]), reports=(report,)) == []


def test_a_base_that_is_not_on_the_hub_is_a_limit_of_an_adapter_only():
    assert limits(kind="adapter", base_model=None) == [
        "It was trained on a base model that is not on the Hub."
    ]
    assert limits(base_model=None) == []


def test_results_of_evaluation_and_reports_stand_in_the_metadata_once():
    report = Report("Evaluation", "evaluation/r.json", "", {"f1": 0.5, "broken": math.nan, "\ud800\n": 1.0})
    metrics = {
        "eval_loss": 1.5,
        "eval_logps/chosen": -3.0,
        "eval_runtime": 9.0,
        "loss": 1.0,
        "eval_\ud800": 2.0,
    }
    facts = dataclasses.replace(FACTS, reports=(report,), training=Training(metrics=metrics))
    theirs = {
        "task": {"type": "x"},
        "dataset": {"type": "y", "name": "z"},
        "metrics": [{"type": "m", "value": 1}],
    }
    text = "---\nmodel-index: " + str([{"name": "mine", "results": [theirs]}]) + "\n---\n"
    made = publish_card(publish_card(text, facts), facts)
    [entry] = read_metadata(made)[0]["model-index"]
    named = [
        (one["dataset"]["name"], m.get("name"), m["value"])
        for one in entry["results"]
        for m in one["metrics"]
    ]
    assert named == [
        ("z", None, 1),
        ("evaluation split of the training", "eval_loss", 1.5),
        ("evaluation split of the training", "eval_?", 2.0),
        ("Evaluation", "f1", 0.5),
        ("Evaluation", "?", 1.0),
    ]


def test_plots_have_their_captions_and_hyperparameters_their_order():
    said = body(
        pictures=(Picture("assets/training-loss.png", "Loss", "Loss of 5 steps."),),
        training=Training(
            hyperparameters={"seed": 42, "learning_rate": 2e-4, "bf16": True, "optim": "adamw"}
        ),
    )
    assert "![Loss of 5 steps.](assets/training-loss.png)\n" in said
    given = said.partition("#### Hyperparameters")[2].partition("###")[0]
    assert re.findall(r"\| `(\w+)` \| `(.+)` \|", given) == [
        ("learning_rate", "0.0002"), ("optim", "adamw"), ("bf16", "yes"), ("seed", "42"),
    ]  # fmt: skip


def test_the_training_in_figures():
    said = trained(
        steps=1200, max_steps=1500, epochs=2.5, runtime_s=15_000, tokens=3_000_000, hardware="2 x A<b>"
    )
    assert re.findall(r"\| ([A-Z][\w ]+) \| (.+) \|", said.partition("### Training")[2]) == [
        ("Optimizer steps", "1,200 of 1,500"), ("Epochs", "2.5"), ("Training time", "4 h 10 min"),
        ("Tokens", "3,000,000"), ("Hardware", "2 x A&lt;b&gt;"),
    ]  # fmt: skip


def test_how_it_was_verified_names_the_tag_and_never_a_commit():
    said = body(weights_read="Before that, 5 MB were read.").partition("### How it was verified")[2]
    assert "`job-6f1c2a54`" in said
    assert "Before that, 5 MB were read." in said
    assert not re.search(r"\b[0-9a-f]{40}\b", said)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.3052, "0.3052 s"),
        (59, "59 s"),
        (61, "1 min 01 s"),
        (3599.6, "1 h 00 min"),
        (90_000, "25 h 00 min"),
        (3_600_000, "1,000 h 00 min"),
    ],
)
def test_durations(seconds, shown):
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (1234567, "1,234,567"), (0.5, "0.5"), (1.23456, "1.235"), (123456.789, "123,457"),
     (2e-4, "0.0002"), (1e-5, "1e-5"), (1.5e20, "1.5e20"), (-3.25, "-3.25"), (math.nan, "NaN"),
     (math.inf, "∞"),
     (-math.inf, "-∞")],
)  # fmt: skip
def test_figures(value, shown):
    assert number(value) == shown


def test_words_are_one_short_line_and_a_table_without_rows_is_nothing():
    assert words("a\n\t b\0\u200bc") == "a b c"
    assert len(words("x" * 10**7)) == 120
    assert plain("[a](b) <c> | www.d.e https://f") == r"\[a\](b) &lt;c&gt; &#124; www\.d.e https\://f"
    assert code("a`b|<!--c-->") == "`a b c`"
    assert code("") == "` `"
    assert link("x", "https://a/b c)\n") == "[x](https://a/b%20c%29%0A)"
    assert table(("a",), []) == ""


def test_versions_are_read_from_the_list_that_trainers_generate():
    listed = "- PEFT 0.21.2\n- TRL: 1.16.0\n- Pytorch: 2.13.0+cpu\n- <b> 1\n"
    text = f"# T\n- Wrong 1.0\n### Framework versions\n\n{listed}\n## More\n- Later 2.0\n"
    assert framework_versions(text) == {"peft": "0.21.2", "trl": "1.16.0", "pytorch": "2.13.0+cpu"}
    assert framework_versions(None) == {}
