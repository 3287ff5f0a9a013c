"""The model's page as a reader finds it: card, plots, reports and samples, proven like the rest."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from huggingface_hub import ModelCard
from PIL import Image

import agent
from agent import illustrations, publication
from agent.card import drawing, easel, read_metadata
from agent.errors import VerifyMismatchError
from agent.outcome import Outcome
from agent.sandbox.hub import Fault
from agent.sandbox.hub.readme import examine
from tests.conftest import FIXTURES
from tests.wire.test_finalize import JOB, commits, content_bytes

SCHEMA = json.loads((Path(agent.__file__).parent / "docs" / "finalize.schema.json").read_text())
PLOTS = {
    "sft_lora": {"loss", "optimizer", "tokens"},
    "dpo_lora": {"loss", "optimizer", "rewards"},
    "orpo_lora": {"loss", "optimizer", "rewards", "odds"},
}


def tree(hub):
    return set(hub.repo("ada/model").resolve("main").tree)


def assets(hub):
    return {path for path in tree(hub) if path.startswith("assets/")}


def card(hub):
    return hub.read("ada/model", "README.md").decode()


def manifest(hub):
    return json.loads(hub.read("ada/model", "finalize.json"))


@pytest.mark.parametrize("name", sorted(path.name for path in FIXTURES.iterdir()))
def test_card_and_manifest_of_every_kind_of_training_hold_to_their_schemas(name, pod, hub, trained):
    pod.finalize(trained(name), JOB_ID=JOB)
    jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker()).validate(manifest(hub))
    assert examine(card(hub)).errors == []
    metadata, parsed = read_metadata(card(hub))[0], ModelCard(card(hub))
    assert {key: parsed.data.get(key) for key in ("library_name", "tags", "base_model")} == {
        key: metadata.get(key) for key in ("library_name", "tags", "base_model")
    }
    results = [one for entry in metadata.get("model-index", ()) for one in entry["results"]]
    assert len(parsed.data.eval_results or ()) == sum(len(one["metrics"]) for one in results)
    assert "## About this model" in parsed.text


def test_the_schema_refuses_what_is_no_manifest(pod, hub, trained):
    pod.finalize(trained("sft_full"), JOB_ID=JOB)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for change in (
        {"schema": 2},
        {"finalize_id": "x"},
        {"seconds": 1.5},
        {"metrics": {"loss": None}},
        {"files": [{}]},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(manifest(hub) | change, SCHEMA)


@pytest.mark.parametrize("name", PLOTS)
def test_plots_of_the_training_are_published_and_shown(name, pod, hub, trained, plots, tmp_path):
    pod.finalize(trained(name), JOB_ID=JOB)
    assert assets(hub) == {f"assets/training-{topic}.png" for topic in PLOTS[name]}
    for path in assets(hub):
        picture = tmp_path / Path(path).name
        picture.write_bytes(hub.read("ada/model", path))
        assert picture.stat().st_size < 150_000
        with Image.open(picture) as image:
            assert image.size > (800, 300)
        assert f"]({path})" in card(hub)
    listed = {file["path"]: file for file in manifest(hub)["files"]}
    assert all(len(listed[path]["xet_hash"]) == 64 for path in assets(hub))
    assert [path for path in listed if "xet_hash" in listed[path]] == sorted(assets(hub))
    jsonschema.validate(manifest(hub), SCHEMA)


def test_the_same_inputs_make_the_same_bytes_anywhere(pod, hub, trained, plots):
    folder = trained("dpo_lora")
    pod.finalize(folder, JOB_ID=JOB, HF_REVISION="one")
    first = {path: hub.read("ada/model", path, "one") for path in hub.repo("ada/model").resolve("one").tree}
    hub.repos.clear()
    shutil.rmtree(pod.state_dir)
    pod.finalize(folder, JOB_ID=JOB, HF_REVISION="one")
    again = {path: hub.read("ada/model", path, "one") for path in hub.repo("ada/model").resolve("one").tree}
    assert again == first


def test_a_page_that_is_there_is_not_made_again(pod, hub, trained, plots, monkeypatch):
    folder = trained("dpo_lora")
    pod.finalize(folder, JOB_ID=JOB)

    def never(*_args, **_kwargs):
        raise AssertionError("rendered again")

    monkeypatch.setattr(publication, "make", never)
    monkeypatch.setattr(illustrations, "Drawing", never)
    before = len(hub.requests)
    assert pod.finalize(folder, JOB_ID=JOB).published
    assert content_bytes(hub, before) == 0
    assert len(commits(hub)) == 1
    assert not any(path in one.path for one in hub.requests[before:] for path in assets(hub)), (
        "plots are not read"
    )


@pytest.mark.parametrize("when", ["at once", "on a rerun"])
@pytest.mark.parametrize("lie", ["xet", "sha256", "size", "missing"])
def test_a_plot_that_is_not_what_was_drawn_is_caught(lie, when, pod, hub, trained, plots, monkeypatch):
    path = "assets/training-loss.png"
    make = publication.make

    def tamper():
        {
            "xet": lambda: hub.tamper.tree_xet_hash("ada/model", path, "1" * 64),
            "sha256": lambda: hub.tamper.tree_sha256("ada/model", path, "0" * 64),
            "size": lambda: hub.tamper.tree_size("ada/model", path, 17),
            "missing": lambda: hub.tamper.hide("ada/model", path),
        }[lie]()

    def then_lie(*args, **kwargs):
        tamper()
        return make(*args, **kwargs)

    folder = trained("sft_lora")
    if when == "at once":
        monkeypatch.setattr(publication, "make", then_lie)
    else:
        pod.finalize(folder, JOB_ID=JOB)
        tamper()
    outcome = Outcome()
    with pytest.raises(VerifyMismatchError, match=r"assets/training-loss\.png"):
        pod.finalize(folder, outcome, JOB_ID=JOB)
    assert not outcome.published


@pytest.mark.usefixtures("plots")
def test_a_dry_run_tells_of_plots_and_draws_none(pod, hub, trained):
    pod.finalize(trained("orpo_lora"))
    done = pod.command(trained("sft_lora"), "finalize", "--dry-run", "--json")
    plan = json.loads(done.communicate(timeout=60)[0])["plan"]
    ours = {f"assets/training-{topic}.png" for topic in PLOTS["sft_lora"]}
    assert set(plan["make"]) == {"README.md", "adapter_config.json", "finalize.json"} | ours
    assert plan["delete"] == ["assets/training-odds.png", "assets/training-rewards.png"]


def test_a_new_model_replaces_the_plots_of_the_one_before(pod, hub, trained, plots):
    pod.finalize(trained("orpo_lora"))
    assert "assets/training-odds.png" in tree(hub)
    pod.finalize(trained("sft_lora"))
    assert assets(hub) == {f"assets/training-{topic}.png" for topic in PLOTS["sft_lora"]}
    assert "training-odds" not in card(hub)


def test_without_xet_the_plots_go_up_by_lfs_and_are_proven_on_a_rerun(pod, hub, trained, plots, monkeypatch):
    monkeypatch.setattr("agent.hub.xet.available", lambda: False)
    folder = trained("sft_lora")
    assert pod.finalize(folder, JOB_ID=JOB).published
    assert assets(hub)
    assert pod.finalize(folder, JOB_ID=JOB).published
    assert len(commits(hub)) == 1


def test_nothing_is_left_behind_when_the_upload_fails(pod, hub, trained, plots, monkeypatch, tmp_path):
    from agent.hub import content

    started = []
    start = easel.Easel._start
    monkeypatch.setattr(easel.Easel, "_start", lambda self: started.append(start(self)) or started[-1])
    monkeypatch.setattr(easel.tempfile, "tempdir", str(tmp_path))

    def fail(*_args, **_kwargs):
        assert started[0].poll() is None, "it is not drawing"
        raise ZeroDivisionError

    monkeypatch.setattr(content, "deliver", fail)
    with pytest.raises(ZeroDivisionError):
        pod.finalize(trained("sft_lora"))
    assert started[0].returncode is not None
    assert list(tmp_path.glob("training-agent-plots-*")) == []


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", match="GET /api/models/ada/model/xet-write-token", status=503, nth=0),
        Fault("forget", match="POST /api/models/ada/model/commit", nth=0),
    ],
    ids=["503", "forgotten"],
)
def test_an_upload_that_is_repeated_draws_once(fault, pod, hub, trained, plots, monkeypatch):
    drawn = []
    start = easel.Easel._start
    monkeypatch.setattr(easel.Easel, "_start", lambda self: drawn.append(1) or start(self))
    hub.faults.add(fault)
    assert pod.finalize(trained("sft_lora")).published
    assert fault.fired == 1
    assert len(drawn) == 1
    assert len(assets(hub)) == 3


def test_a_process_waits_to_draw_before_it_is_known_what_but_not_for_a_job_that_is_done(
    pod, hub, trained, plots, monkeypatch
):
    known = []
    begin = easel.Easel.__init__
    monkeypatch.setattr(
        easel.Easel, "__init__", lambda self, figures=None: known.append(figures) or begin(self, figures)
    )
    folder = trained("sft_lora")
    assert pod.finalize(folder).published
    assert known == [None]
    assert len(assets(hub)) == 3
    assert pod.finalize(folder).published
    assert known == [None]


def broken(tmp_path, code):
    package = tmp_path / "broken" / "matplotlib"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(code)
    return str(tmp_path / "broken")


@pytest.mark.parametrize(
    "code", ["raise ImportError('no such library')", "import os; os.abort()", "import sys; sys.exit(0)"]
)
def test_plots_that_cannot_be_drawn_keep_no_model_back(code, pod, hub, trained, plots, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([broken(tmp_path, code), *sys.path]))
    outcome = pod.finalize(trained("sft_lora"))
    assert outcome.published
    assert assets(hub) == set()
    assert "assets/" not in card(hub)
    assert "### Training" in card(hub)


def test_a_file_of_the_users_is_never_taken_for_a_plot(pod, hub, trained, plots):
    folder = trained("sft_lora")
    (folder / "assets").mkdir()
    (folder / "assets" / "training-loss.png").write_bytes(b"my own picture\0")
    pod.finalize(folder)
    assert hub.read("ada/model", "assets/training-loss.png") == b"my own picture\0"
    assert len(assets(hub)) == 3


def test_without_matplotlib_the_card_works(pod, hub, trained):
    pod.finalize(trained("orpo_lora"))
    assert assets(hub) == set()
    assert "| `rewards/margins` |" in card(hub)


def test_reports_become_tables_results_and_files(pod, hub, trained, tmp_path):
    (tmp_path / "eval.json").write_text('{"accuracy": 0.8125, "per_task": {"math": {"f1": 0.5}}}')
    (tmp_path / "bench.json").write_text('{"results": {"mmlu": {"acc,none": 0.61, "acc_stderr,none": 0.01}}}')
    pod.finalize(
        trained("sft_full"),
        EVALUATION_REPORT=str(tmp_path / "eval.json"),
        BENCHMARK_REPORT=str(tmp_path / "bench.json"),
    )
    assert hub.read("ada/model", "evaluation/eval.json") == (tmp_path / "eval.json").read_bytes()
    assert {"evaluation/eval.json", "benchmarks/bench.json"} <= tree(hub)
    assert "### Evaluation\n" in card(hub)
    assert "### Benchmarks\n" in card(hub)
    assert "0.8125" in card(hub)
    results = read_metadata(card(hub))[0]["model-index"][0]["results"]
    values = {(one["dataset"]["name"], m["name"]): m["value"] for one in results for m in one["metrics"]}
    assert values["Evaluation", "accuracy"] == 0.8125
    assert values["Benchmarks", "mmlu/acc"] == 0.61


def test_another_report_is_another_publication(pod, hub, trained, tmp_path):
    folder, report = trained("sft_full"), tmp_path / "eval.json"
    for accuracy in (0.1, 0.2):
        report.write_text(json.dumps({"accuracy": accuracy}))
        pod.finalize(folder, JOB_ID=JOB, EVALUATION_REPORT=str(report))
    assert len(commits(hub)) == 2
    assert "0.2" in card(hub)


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "left out: "), ("{", None), ("[]", None), ('{"a": "b"}', None)],
)
def test_a_report_that_is_none_keeps_no_model_back(content, said, pod, hub, trained, tmp_path):
    report = tmp_path / "eval.json"
    if content is not None:
        report.write_text(content)
    outcome = pod.finalize(trained("sft_full"), EVALUATION_REPORT=str(report))
    assert outcome.published
    assert "### Evaluation" not in card(hub)
    assert (
        any(said in warning for warning in outcome.warnings) if said else "evaluation/eval.json" in tree(hub)
    )


def test_samples_become_a_gallery(pod, hub, trained, tmp_path):
    samples = tmp_path / "samples"
    samples.mkdir()
    Image.new("RGB", (8, 8)).save(samples / "a picture.png")
    (samples / "answer.txt").write_text("The future.\n<!-- training-agent:end -->\n")
    (samples / "page.svg").write_text("<svg/>")
    outcome = pod.finalize(trained("sft_full"), SAMPLES_DIR=str(samples))
    assert {path for path in tree(hub) if path.startswith("samples/")} == {
        "samples/a picture.png",
        "samples/answer.txt",
    }
    assert "](samples/a%20picture.png)" in card(hub)
    assert "The future." in card(hub)
    assert card(hub).count("<!-- training-agent:end -->") == 1
    assert pod.finalize(trained("sft_full", "again"), SAMPLES_DIR=str(samples)).commit == outcome.commit


def test_samples_and_reports_inside_the_output_folder_are_published_once(pod, hub, trained):
    folder = trained("sft_full")
    for name, content in (("samples/a.txt", "The future."), ("evaluation/e.json", '{"accuracy": 0.5}')):
        (folder / name).parent.mkdir()
        (folder / name).write_text(content)
    outcome = pod.finalize(
        folder, SAMPLES_DIR=str(folder / "samples"), EVALUATION_REPORT=str(folder / "evaluation" / "e.json")
    )
    assert outcome.warnings == [one for one in outcome.warnings if "left out" not in one]
    assert "The future." in card(hub)
    assert "### Evaluation" in card(hub)
    assert [one["path"] for one in manifest(hub)["files"]].count("samples/a.txt") == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("taken.json", "would both stand at evaluation/taken.json"),
        ("folder", "it is a folder"),
        ("back\\slash.json", "control character or a backslash"),
        (".env", "no file that may be published"),
    ],
)
def test_a_report_that_fits_nowhere_keeps_no_model_back(name, said, pod, hub, trained, tmp_path):
    folder = trained("sft_full")
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "taken.json").write_text('{"theirs": 1}')
    (tmp_path / "folder").mkdir()
    if name != "folder":
        (tmp_path / name).write_text('{"accuracy": 0.5}')
    outcome = pod.finalize(folder, EVALUATION_REPORT=str(tmp_path / name))
    assert outcome.published
    assert any(said in warning for warning in outcome.warnings)
    assert hub.read("ada/model", "evaluation/taken.json") == b'{"theirs": 1}'
    assert "### Evaluation" not in card(hub)


def test_a_token_in_a_report_or_a_sample_is_refused(pod, hub, trained, tmp_path):
    (tmp_path / "eval.json").write_text('{"accuracy": 1, "key": "hf_' + "Ab1Cd2" * 6 + '"}')
    with pytest.raises(agent.errors.ArtifactError, match=r"evaluation/eval\.json holds a credential"):
        pod.finalize(trained("sft_full"), EVALUATION_REPORT=str(tmp_path / "eval.json"))
    assert hub.repos == {}


@pytest.mark.parametrize(
    ("dataset", "known"), [("org/data", True), ("org/other", False), ("/data/my set.jsonl", False)]
)
def test_a_dataset_is_linked_if_the_hub_has_it(dataset, known, pod, hub, trained):
    hub.add_dataset("org/data")
    pod.finalize(trained("sft_full"), DATASET=dataset)
    metadata, body = read_metadata(card(hub))
    assert metadata.get("datasets") == (["org/data"] if known else None)
    assert (f"[org/data]({hub.endpoint}/datasets/org/data)" in body) == known
    assert "/data/" not in body.replace("datasets/", "")
    assert dataset.rsplit("/", 1)[-1] in body


def test_the_pod_and_the_configuration_are_told(pod, hub, trained, tmp_path):
    config = tmp_path / "config.json"
    config.write_text(
        json.dumps({"training": {"method": "dpo", "beta": 0.25, "api_key": "planted-secret-word"}})
    )
    folder = trained("dpo_lora")
    (folder / "training_args.bin").unlink()
    pod.finalize(
        folder, TRAINING_CONFIG=str(config), RUNPOD_GPU_NAME="NVIDIA+A100+80GB+PCIe", RUNPOD_GPU_COUNT="2"
    )
    assert "| Hardware | 2 x NVIDIA A100 80GB PCIe |" in card(hub)
    assert "| `beta` | `0.25` |" in card(hub)
    assert "planted" not in card(hub)


@pytest.mark.parametrize(
    ("dataset", "told"),
    [
        (
            "https://ada:planted-secret@example.org/data/set?sig=planted-secret",
            "https://example.org/data/set",
        ),
        ("/workspace/planted-folder/set.jsonl", "set.jsonl"),
        ("org/planted-secret", "org/[hidden]"),
    ],
)
def test_no_credential_in_a_name_reaches_card_or_manifest(dataset, told, pod, hub, trained):
    pod.finalize(
        trained("sft_full"), DATASET=dataset, RUNPOD_GPU_NAME="planted-secret", MY_TOKEN="planted-secret"
    )
    assert manifest(hub)["dataset"] == told
    assert "planted" not in card(hub) + json.dumps(manifest(hub))


def test_plots_are_not_waited_for_longer_than_for_anything_else(pod, hub, trained, plots, monkeypatch):
    asked = []
    finish = drawing.Drawing.finish
    monkeypatch.setattr(
        drawing.Drawing, "finish", lambda self, most_s: (asked.append(most_s), finish(self, 0.0))[1]
    )
    assert pod.finalize(trained("sft_lora"), AGENT_STALL_S="7").published
    assert max(asked) <= 7
    assert assets(hub) == set()


def test_hf_jobs_and_other_placeholders_of_trl_are_gone(pod, hub, trained):
    folder = trained("sft_lora_abs")
    readme = folder / "README.md"
    readme.write_text(readme.read_text().replace("- lora\n", "- lora\n- hf_jobs\n"))
    pod.finalize(folder, BASE_MODEL="org/base")
    metadata, body = read_metadata(card(hub))
    assert metadata["tags"] == ["lora", "sft", "transformers", "trl"]
    assert "licence" not in metadata
    assert metadata["base_model_relation"] == "adapter"
    assert "None" not in yaml.safe_dump(metadata) + body


@pytest.mark.usefixtures("plots")
def test_the_command_line_draws_within_fourteen_calls(pod, hub, trained):
    hub.add_dataset("org/data")
    done = pod.command(trained("orpo_lora"), HF_REPO_NAME="model", DATASET="org/data")
    out, err = done.communicate(timeout=120)
    assert done.returncode == 0, err
    assert json.loads(out)["published"]
    assert len(assets(hub)) == 4
    assert len([one for one in hub.requests if one.kind not in {"cas", "lfs"}]) <= 14
