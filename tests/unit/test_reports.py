from __future__ import annotations

import json
import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from agent.card.reports import Figure, metrics, read_report, report_table

HOSTILE = [
    "a|b",
    "`code`",
    "```",
    "<script>alert(1)</script>",
    "](javascript:alert(1))",
    "[x](javascript:alert(1))",
    "![x](https://example.com/x.png)",
    "<https://example.com>",
    "https://example.com",
    "line\nbreak",
    "\n\n# heading",
    "\r| x | y |\u2028z",
    "---",
    "-->",
    "<!-- comment",
    "<!-- training-agent:end -->",
    "a\\",
    "\\|",
    "&lt;b&gt;&#124;",
    "**bold** _it_ ~~gone~~ $x$",
    "\u202eevil\u200f",
    "\x00\x1b[31m",
    "\ud800",
    "🤗" * 40,
    "x" * 10_000,
    "",
]

# The shape of what lm-evaluation-harness 0.4 saves; the numbers are made up, the keys are its own.
LM_EVAL = {
    "results": {
        "mmlu": {"acc,none": 0.5, "acc_stderr,none": 0.004, "alias": "mmlu"},
        "arc_easy": {
            "name": "arc_easy",
            "alias": "arc_easy",
            "sample_len": 2376,
            "acc,none": 0.51,
            "acc_stderr,none": 0.03543,
            "acc_norm,none": 0.545,
            "acc_norm_stderr,none": "N/A",
        },
    },
    "groups": {
        "mmlu": {"acc,none": 0.5, "acc_stderr,none": 0.004, "alias": "mmlu"},
        "other": {" ": " ", "acc,none": 0.25, "alias": "other"},
    },
    "group_subtasks": {"arc_easy": []},
    "configs": {"arc_easy": {"task": "arc_easy", "num_fewshot": 0, "metadata": {"version": 1.0}}},
    "versions": {"arc_easy": 1.0, "mmlu": 2},
    "n-shot": {"arc_easy": 0},
    "higher_is_better": {"arc_easy": {"acc": True}},
    "n-samples": {"arc_easy": {"original": 2376, "effective": 2376}},
    "config": {"model": "hf", "batch_size": 8, "random_seed": 0, "bootstrap_iters": 100000},
    "date": 1730000000.5,
    "total_evaluation_time_seconds": "12.5",
}

# Of lighteval; `all` is its own mean over the tasks.
LIGHTEVAL = {
    "config_general": {"num_fewshot_seeds": 1, "start_time": 3474876.77, "model_size": "4.68 GB"},
    "results": {
        "leaderboard|arc:challenge|25": {"acc": 0.39, "acc_stderr": 0.0142, "acc_norm": 0.4},
        "all": {"acc": 0.39, "acc_stderr": 0.0142, "acc_norm": 0.4},
    },
    "versions": {"leaderboard|arc:challenge|25": 0},
    "config_tasks": {"leaderboard|arc:challenge": {"generation_size": 1}},
    "summary_general": {"truncated": 0, "padded": 4687},
}


def read(document):
    return read_report(json.dumps(document).encode())


def figures(document):
    return [figure[:3] for figure in read(document)]


def rendered(text):
    return MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)


def cells(text):
    """The one table of a Markdown text, as rows of the words a reader sees."""
    tokens = rendered(text)
    assert [token.type for token in tokens].count("table_open") == 1
    table = []
    for before, token in pairwise(tokens):
        if token.type == "tr_open":
            table.append([])
        if before.type in {"th_open", "td_open"}:
            table[-1].append("".join(child.content for child in token.children))
    return table


def kinds(text):
    """Every kind of token, inside of lines too."""
    tokens = rendered(text)
    return {token.type for token in tokens} | {
        child.type for token in tokens for child in token.children or ()
    }


def shown(document):
    return cells(report_table(read(document), "evaluation/report.json"))


def test_a_flat_report_is_a_table_of_two_columns():
    assert shown({"accuracy": 0.8, "loss": 1.25}) == [
        ["Metric", "Value"],
        ["accuracy", "0.8"],
        ["loss", "1.25"],
    ]


def test_the_eval_results_of_a_trainer_are_read(real_output):
    path = real_output("sft_lora") / "eval_results.json"
    found = read_report(path.read_bytes())
    assert metrics(found) == json.loads(path.read_text())
    assert ["eval_loss", "4.49"] in cells(report_table(found, "evaluation/eval_results.json"))


def test_lm_evaluation_harness_is_a_row_a_task_with_standard_errors():
    assert shown(LM_EVAL) == [
        ["What", "acc", "acc_norm"],
        ["mmlu", "0.5 ± 0.004", ""],
        ["arc_easy", "0.51 ± 0.03543", "0.545"],
        ["other", "0.25", ""],
    ]


def test_lm_evaluation_harness_keeps_the_names_of_its_filters():
    task = {
        "exact_match,strict-match": 0.5,
        "exact_match_stderr,strict-match": 0.01,
        "exact_match,flexible-extract": 0.75,
        "exact_match_stderr,flexible-extract": 0.02,
    }
    assert read({"results": {"gsm8k": task}, "versions": {}}) == [
        Figure(("gsm8k",), "exact_match,strict-match", 0.5, 0.01),
        Figure(("gsm8k",), "exact_match,flexible-extract", 0.75, 0.02),
    ]


def test_lighteval_is_a_row_a_task_with_its_bars_kept():
    assert shown(LIGHTEVAL) == [
        ["What", "acc", "acc_norm"],
        ["leaderboard|arc:challenge|25", "0.39 ± 0.0142", "0.4"],
        ["all", "0.39 ± 0.0142", "0.4"],
    ]


def test_results_of_nobody_known_lose_nothing_that_stands_beside_them():
    assert figures({"overall": 0.5, "results": {"mmlu": {"acc": 0.25}}}) == [
        ((), "overall", 0.5),
        (("results", "mmlu"), "acc", 0.25),
    ]


def test_results_that_hold_all_numbers_need_not_say_so_in_each_row():
    assert figures({"model": "x", "results": [{"task": "mmlu", "score": 0.5}]}) == [(("mmlu",), "score", 0.5)]


@pytest.mark.parametrize("key", ["task", "name", "benchmark", "metric", "dataset", "id"])
def test_a_list_of_objects_is_labelled_by_its_names(key):
    document = [{"score": 0.5, key: "one"}, {"score": 0.25, key: "two"}]
    assert shown(document) == [["What", "score"], ["one", "0.5"], ["two", "0.25"]]


def test_several_metrics_of_one_task_are_told_apart():
    document = [
        {"task": "mmlu", "metric": "acc", "value": 0.5},
        {"task": "mmlu", "metric": "f1", "value": 0.25},
    ]
    assert shown(document) == [["What", "value"], ["mmlu / acc", "0.5"], ["mmlu / f1", "0.25"]]
    assert metrics(read(document)) == {"mmlu/acc": 0.5, "mmlu/f1": 0.25}


def test_entries_of_the_same_name_are_told_apart_by_their_position():
    document = [{"name": "run", "acc": 0.5}, {"name": "run", "acc": 0.25}]
    assert figures(document) == [(("run",), "acc", 0.5), (("run", "2"), "acc", 0.25)]


def test_entries_without_a_name_are_told_by_their_position():
    assert figures([{"id": 7, "acc": 0.5}, 3, [1, 2]]) == [
        (("1",), "id", 7),
        (("1",), "acc", 0.5),
        ((), "2", 3),
        (("3",), "1", 1),
        (("3",), "2", 2),
    ]


def test_a_series_of_measurements_stands_behind_what_is_said_about_it():
    document = {"latency_ms": [3, 5], "runs": [{"ms": 1}], "p50_ms": 4}
    assert figures(document) == [
        ((), "p50_ms", 4),
        (("latency_ms",), "1", 3),
        (("latency_ms",), "2", 5),
        (("runs", "1"), "ms", 1),
    ]


def test_tasks_that_share_their_metrics_are_rows_and_the_metrics_columns():
    document = {"mmlu": {"acc": 0.5, "f1": 0.25}, "arc": {"acc": 0.75, "f1": 1}}
    assert shown(document) == [["What", "acc", "f1"], ["mmlu", "0.5", "0.25"], ["arc", "0.75", "1"]]


@pytest.mark.parametrize(
    "document",
    [
        {"a": {"x": 1}, "b": {"y": 2}, "c": {"z": 3}},
        {"a": dict.fromkeys("tuvwxyz", 1)},
        {"overall": 1, "a": {"x": 2}},
        {"a": {"acc": 1, "acc,none": 2}},
    ],
    ids=["nothing-shared", "seven-columns", "one-without-a-task", "two-of-one-name"],
)
def test_other_reports_have_a_row_for_each_figure(document):
    table = shown(document)
    assert table[0] == ["What", "Metric", "Value"]
    assert len(table) == 1 + len(read(document))


def test_the_levels_of_a_deep_report_are_one_label():
    assert shown({"gpu": {"batch 1": {"ms": 5, "mb": 6}}}) == [
        ["What", "ms", "mb"],
        ["gpu / batch 1", "5", "6"],
    ]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("NaN", "NaN"),
        ("Infinity", "∞"),
        ("-Infinity", "-∞"),
        ("1e400", "∞"),
        ("9007199254740993", "9.007e15"),
        ("1" + "0" * 400, "∞"),
        ("-1" + "0" * 4000, "-∞"),
        ("1234567", "1,234,567"),
    ],
)
def test_every_number_that_json_can_write_is_shown(value, said):
    found = read_report(b'{"x": %s}' % value.encode())
    assert cells(report_table(found, "r.json")) == [["Metric", "Value"], ["x", said]]
    assert all(map(math.isfinite, metrics(found).values()))


def test_what_is_no_number_is_passed_over():
    document = {"a": True, "b": "0.5", "c": None, "d": ["x", False], "e": {}, "f": [], "g": 1}
    assert figures(document) == [((), "g", 1)]


@pytest.mark.parametrize("document", [{}, [], {"a": "0.5"}, [True], {"results": {}, "config": {"seed": 1}}])
def test_a_report_without_a_number_is_refused(document):
    with pytest.raises(ValueError, match=r"^holds no number$"):
        read(document)


def test_a_number_deeper_than_nine_levels_is_passed_over():
    nine, ten = (b'{"a":' * depth + b"1" + b"}" * depth for depth in (9, 10))
    assert read_report(nine) == [Figure(("a",) * 8, "a", 1)]
    with pytest.raises(ValueError, match=r"^holds no number$"):
        read_report(ten)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "^is damaged: not JSON: "),
        (b'{"a": 1', "^is damaged: not JSON: "),
        (b"\xff\xfe\x00", "^is damaged: not JSON that can be read$"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "^is damaged: not JSON that can be read$"),
        (b"[" * 100_000, "^is damaged: nested too deep$"),
        (b"0.5", "^holds neither an object nor a list$"),
        (b"NaN", "^holds neither an object nor a list$"),
        (b"null", "^holds neither an object nor a list$"),
        (b" " * 5_000_001, "^has more than 5,000,000 bytes, too many for a report$"),
    ],
)
def test_what_is_no_report_is_refused_with_the_reason(content, message):
    with pytest.raises(ValueError, match=message):
        read_report(content)


@pytest.mark.parametrize(
    ("document", "left"),
    [
        ({f"m{index}": index for index in range(60)}, None),
        ({f"m{index}": index for index in range(61)}, "and 1 more in `evaluation/report.json`"),
        (
            {f"t{index}": {"acc": 1, "f1": 2} for index in range(183)},
            "and 123 more in `evaluation/report.json`",
        ),
        (
            [0] * 1_000_000,
            "and at least 9,940 more in `evaluation/report.json`",
        ),
    ],
    ids=["sixty", "flat", "tasks", "series"],
)
def test_at_most_sixty_rows_are_shown_and_the_others_counted(document, left):
    text = report_table(read(document), "evaluation/report.json")
    assert len(cells(text)) == 61
    assert text.endswith(f"|\n\n{left}\n" if left else "|\n")
    assert ("paragraph_open" in kinds(text)) == bool(left)


def test_a_level_of_a_megabyte_costs_no_more_than_a_short_one():
    document = {"k" * 2_000_000: {f"m{index}": index for index in range(20_000)}}
    found = read(document)
    assert len(report_table(found, "r.json")) < 40_000
    assert max(map(len, metrics(found))) < 300


def test_the_metadata_gets_the_first_thirty_finite_figures():
    document = {"a": math.nan, "b": math.inf} | {f"m{index}": index for index in range(40)}
    assert metrics(read(document)) == {f"m{index}": index for index in range(30)}


def test_the_metadata_names_the_task_and_the_metric():
    assert metrics(read(LM_EVAL)) == {
        "mmlu/acc": 0.5,
        "arc_easy/acc": 0.51,
        "arc_easy/acc_norm": 0.545,
        "other/acc": 0.25,
    }


def test_the_first_of_two_figures_of_one_name_is_kept():
    assert metrics([Figure(("a",), "b", 1), Figure((), "a/b", 2)]) == {"a/b": 1}


LAYOUTS = {
    "flat": lambda key: {key: 1, "other": 2},
    "task": lambda key: {key: {"acc": 1}, "other": {"acc": 2}},
    "metric": lambda key: {"task": {key: 1, "other metric": 2}},
    "long": lambda key: {"overall": 1, key: {key: 2}},
    "named": lambda key: [{"task": key, "acc": 1}, {"task": "other", "acc": 2}],
}
KEPT = {"table_open", "table_close", "thead_open", "thead_close", "tbody_open", "tbody_close"} | {
    f"{cell}_{end}" for cell in ("tr", "th", "td") for end in ("open", "close")
}


def assert_only_a_table(document):
    text = report_table(read(document), "r.json")
    assert kinds(text) <= KEPT | {"inline", "text", "text_special"}
    head, *rows = cells(text)
    assert rows
    assert {len(row) for row in rows} == {len(head)}
    assert len(text.splitlines()) == len(rows) + 2
    return rows


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("key", HOSTILE, ids=range(len(HOSTILE)))
def test_no_key_breaks_the_table_or_adds_markup(layout, key):
    assert_only_a_table(LAYOUTS[layout](key))


@pytest.mark.parametrize("key", ["a|b", "`code`", "<b>", "[x](y)", "a\\", "&lt;", "**bold**"])
def test_a_key_is_read_as_it_was_written(key):
    assert assert_only_a_table({key: 1}) == [[key, "1"]]


@pytest.mark.parametrize("key", HOSTILE, ids=range(len(HOSTILE)))
def test_a_name_in_the_metadata_is_one_line_that_can_be_written(key):
    for name in metrics(read({key: {key: 1}})):
        assert name.encode()
        assert len(name.splitlines()) <= 1


FIGURES = st.dictionaries(st.text(), st.floats() | st.integers(), min_size=1, max_size=7)


@given(st.dictionaries(st.text(), FIGURES, min_size=1, max_size=8))
@settings(deadline=None)
def test_any_report_of_two_levels_keeps_its_columns(document):
    assert_only_a_table(document)


@given(
    st.recursive(
        st.none() | st.booleans() | st.text() | st.floats() | st.integers(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["name", "results"]), inner)
        ),
    )
)
@settings(deadline=None)
def test_any_json_is_a_table_or_refused_in_words(document):
    try:
        found = read(document)
    except ValueError as refused:
        assert str(refused) in {"holds no number", "holds neither an object nor a list"}  # noqa: PT017 - both ends
    else:
        assert_only_a_table(document)
        assert all(map(math.isfinite, metrics(found).values()))
