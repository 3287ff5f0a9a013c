"""What a user's folder, environment or volume may hold without a traceback, a lie or a leak."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import logging
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from agent import log
from agent.artifact import Training, read_training, take_stock
from agent.card import Facts, publish_card, read_metadata
from agent.config import load
from agent.durable import write_durably
from agent.errors import AgentError, ArtifactError, ConfigError, Interrupted, JobRefusedError
from agent.hashes import HashMemory
from agent.hub.repo import Commit
from agent.identity import Identity
from agent.jobs import LocalStore
from agent.publication import message

FACTS = Facts("ada/m", "https://huggingface.co", "full", "sft", None, None, "j", "job-1")


def front(text, body="# T\n"):
    return f"---\n{text}\n---\n{body}"


@pytest.mark.parametrize(
    "text",
    [
        "date: 2024-02-30",
        "library_name: [transformers]",
        "library_name: {a: b}",
        "tags: 5",
        "tags: true",
        "tags: 1.5",
        "tags: 2024-01-01",
        'a: !!int ""',
        'a: !!float ""',
        'a: !!bool ""',
        'a: !!timestamp "x"',
        "a: " + "9" * 5000,
        "a: " + "[" * 3000 + "]" * 3000,
    ],
    ids=lambda text: text[:20],
)
def test_no_metadata_makes_the_card_crash(text):
    assert "# T\n" in publish_card(front(text), FACTS)


def test_one_tag_as_text_is_one_tag():
    assert read_metadata(publish_card(front("tags: trl"), FACTS))[0]["tags"] == ["trl", "sft"]


@pytest.mark.parametrize(
    "text", ["language: no", "license: off", "a: 12:30:45", "a: 0o17", "version: 2024-01-01"]
)
def test_a_scalar_is_still_the_same_text_for_a_yaml_1_2_reader(text):
    key, value = text.split(": ")
    made = publish_card(front(text), FACTS).split("---\n")[1]
    assert yaml.load(made, yaml.BaseLoader)[key] == value


def test_metadata_ends_at_a_line_of_its_own():
    made = publish_card(front("title: a---\nlicense: mit", "# T\n"), FACTS)
    metadata, body = read_metadata(made)
    assert (metadata["title"], metadata["license"]) == ("a---", "mit")
    assert body.startswith("\n# T\n")


def test_metadata_with_a_rule_inside_a_value_is_stable():
    made = publish_card(front(yaml.safe_dump({"license": "a\n---\nb"})), FACTS)
    assert publish_card(made, FACTS) == made
    assert read_metadata(made)[0]["license"] == "a\n---\nb"


def test_prose_that_mentions_our_marker_is_never_deleted():
    text = "# T\n\nWe keep `<!-- training-agent:begin -->` alone.\n\nProse.\n"
    once = publish_card(text, FACTS)
    assert publish_card(once, FACTS) == once
    assert "Prose." in publish_card(once, FACTS)


def test_a_dataset_called_like_our_marker_is_harmless():
    facts = dataclasses.replace(FACTS, dataset="<!-- training-agent:end -->")
    once = publish_card("# T\n", facts)
    assert publish_card(once, facts) == once


def test_the_method_cannot_break_out_of_its_cell():
    made = publish_card("# T\n", dataclasses.replace(FACTS, method="a|b\n<script>"))
    assert "| Method | a&#124;b &lt;script&gt; |" in made
    assert read_metadata(made)[0].get("tags") is None


def test_an_authors_true_sentence_about_the_base_is_not_made_false():
    said = "fine-tuned version of [meta-llama/Llama-3.2-1B](https://huggingface.co/meta-llama/Llama-3.2-1B)"
    assert said in publish_card(f"# T\n\nA {said}.\n", FACTS)


@pytest.mark.parametrize("text", ["    indented code\n\n# T\n"])
def test_the_first_line_keeps_its_indentation(text):
    assert text.rstrip() in publish_card(text, FACTS)


def test_a_byte_order_mark_does_not_end_in_the_middle_of_the_card():
    assert "\ufeff" not in publish_card("\ufeff# T\n", FACTS)


def state(root, text):
    (root / "trainer_state.json").write_text(text if isinstance(text, str) else json.dumps(text))
    return root


@pytest.mark.parametrize(
    "text",
    [
        {"log_history": None},
        {"log_history": 5},
        {"log_history": [{"loss": 10**400}]},
        "[" * 200_000,
    ],
    ids=["null", "number", "huge int", "deep"],
)
def test_no_trainer_state_makes_the_agent_crash(tmp_path, text):
    assert read_training(state(tmp_path, text), None).metrics == {}


def test_true_is_no_number_of_steps(tmp_path):
    assert read_training(state(tmp_path, {"global_step": True, "log_history": []}), None).steps is None


def make(root, files):
    for name, content in files.items():
        path = root / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def test_a_folder_whose_name_is_not_utf8_is_left_out(tmp_path):
    stock = take_stock(make(tmp_path, {"model.safetensors": b"w", b"sub\xff/x.txt": b"x"}))
    assert [file.path for file in stock.files] == ["model.safetensors"]


@pytest.mark.parametrize("target", ["nowhere.safetensors", "/etc/hostname"])
def test_the_cure_fits_weights_that_are_a_link(tmp_path, target):
    make(tmp_path, {"config.json": b"{}"})
    (tmp_path / "model.safetensors").symlink_to(target)
    with pytest.raises(ArtifactError) as raised:
        take_stock(tmp_path)
    assert "link" in raised.value.hint
    assert "training state" not in raised.value.hint


@pytest.mark.parametrize(
    "index",
    [b"[" * 200_000, json.dumps({"weight_map": {"a": "x" * 300}}).encode()],
    ids=["deep", "long name"],
)
def test_no_index_makes_the_agent_crash(tmp_path, index):
    make(
        tmp_path,
        {
            "model.safetensors": b"w",
            "merged_model/config.json": b"{}",
            "merged_model/model.safetensors.index.json": index,
        },
    )
    assert take_stock(tmp_path).root == tmp_path


def test_an_output_folder_with_too_long_a_name_is_an_artifact_error():
    with pytest.raises(ArtifactError):
        take_stock(Path("/tmp") / ("a" * 300))


def test_an_output_folder_below_one_we_may_not_enter_is_an_artifact_error(tmp_path, monkeypatch):
    def stat(self, **_):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "stat", stat)  # what a user without rights sees below a 0700 folder
    with pytest.raises(ArtifactError):
        take_stock(tmp_path / "locked" / "out")


def test_a_link_does_not_publish_what_must_not_be_published(tmp_path):
    make(
        tmp_path, {"model.safetensors": b"w", "training_args.bin": b"hf_token inside", ".env": b"HF_TOKEN=x"}
    )
    (tmp_path / "extra.bin").symlink_to("training_args.bin")
    (tmp_path / "settings.txt").symlink_to(".env")
    assert [file.path for file in take_stock(tmp_path).files] == ["model.safetensors"]


def test_a_merged_model_in_bin_shards_is_whole_too(tmp_path):
    shard = "pytorch_model-00001-of-00001.bin"
    make(
        tmp_path,
        {
            "adapter_model.safetensors": b"a",
            "merged_model/config.json": b"{}",
            f"merged_model/{shard}": b"w",
            "merged_model/pytorch_model.bin.index.json": json.dumps({"weight_map": {"a": shard}}).encode(),
        },
    )
    assert take_stock(tmp_path).root == tmp_path / "merged_model"


def test_a_file_that_vanishes_while_stock_is_taken_is_no_traceback(tmp_path, monkeypatch):
    from agent.artifact import walk

    make(tmp_path, {"model.safetensors": b"w", "tmp123": b"x"})
    real = walk.why_not

    def why_not(path):
        (tmp_path / "tmp123").unlink(missing_ok=True)
        return real(path)

    monkeypatch.setattr(walk, "why_not", why_not)
    assert [file.path for file in take_stock(tmp_path).files] == ["model.safetensors"]


@pytest.mark.parametrize(
    "row",
    ['{"progress": NaN}', '{"started_at": 1e999}', '{"status": []}', '{"status": {}}', "[" * 100_000],
    ids=lambda row: row[:20],
)
@pytest.mark.parametrize("write", ["start", "complete", "fail"])
def test_no_row_makes_the_agent_crash(tmp_path, row, write):
    (tmp_path / "row.json").write_text(row)
    store = LocalStore(tmp_path, "j")
    more = {"complete": {"model_url": "u", "note": None}, "fail": {"message": "m", "stage": "publish"}}
    getattr(store, write)(**more.get(write, {}))


def test_a_row_that_cannot_be_read_now_is_not_overwritten(tmp_path, monkeypatch):
    (tmp_path / "row.json").write_text('{"status": "cancelled"}')
    real, failed = Path.read_bytes, []

    def read_bytes(self):
        if self.name == "row.json" and not failed:
            failed.append(self)
            raise OSError(5, "Input/output error")
        return real(self)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with contextlib.suppress(JobRefusedError):
        LocalStore(tmp_path, "j").complete(model_url="u", note=None)
    monkeypatch.undo()
    assert failed
    assert json.loads((tmp_path / "row.json").read_text())["status"] == "cancelled"


def test_a_secret_does_not_get_into_the_row(tmp_path):
    log.hide(["correct-horse-battery"])
    LocalStore(tmp_path, "j").fail(message="refused correct-horse-battery", stage="publish")
    assert "correct-horse" not in (tmp_path / "row.json").read_text()


def test_a_training_failure_is_final(tmp_path):
    store = LocalStore(tmp_path, "j")
    store.fail(message="CUDA out of memory", stage="training")
    with contextlib.suppress(JobRefusedError):
        store.start()
    assert store.read().status == "failed"


def test_a_signal_right_after_the_rename_stays_a_signal(tmp_path, monkeypatch):
    real = Path.replace

    def replace(self, target):
        real(self, target)
        raise Interrupted(15)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(Interrupted):
        write_durably(tmp_path / "doc.json", {})


def test_a_file_rewritten_while_it_is_read_is_not_remembered(tmp_path):
    """The volume's clock may be far behind ours: the stamp of before the read must count."""
    from agent.artifact import digest

    (tmp_path / "model.safetensors").write_bytes(b"old")
    stock = take_stock(tmp_path)
    memory = HashMemory(tmp_path / ".hashes.json", now_ns=lambda: 10**20)  # our clock is far ahead
    source = stock.files[0].source

    class Rewritten(io.BytesIO):
        def close(self):
            source.write_bytes(b"a new and longer file")
            super().close()

    opened = SimpleNamespace(done=False)

    def open_regular(path):
        assert path == source
        opened.done = True
        return Rewritten(b"old")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys.modules["agent.artifact.digest"], "open_regular", open_regular)
        digest(stock.files, memory)
    assert opened.done
    assert memory.recall(source, "sha256") is None


SECRETS = {"repr": 'pass"wo\\rd-99', "not ascii": 'pä"sswörd-99', "both": "it's\"pass"}


@pytest.mark.parametrize("style", ["console", "json"])
@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_no_spelling_of_a_secret_gets_out(logged, style, secret):
    logged.configure(style)
    log.hide([secret])
    log.get_logger().info("it is", secret=secret)
    log.get_logger().info("it is", secret=[secret])
    assert logged.text.count("[hidden]") == 2


@pytest.mark.parametrize("secret", ["eyJhbGciOiJIUzI1NiJ9." + "A" * 200 + "." + "s" * 80, "A1b2" * 60])
def test_an_exception_on_the_console_shows_no_part_of_a_long_secret(logged, secret):
    logged.configure("console")
    log.hide([secret])
    try:
        raise ValueError(f"bad {secret}")  # noqa: TRY301 - its trace is what we look at
    except ValueError:
        log.get_logger().exception("it failed")
    assert secret[:20] not in logged.text


def test_a_librarys_broken_log_call_does_not_write_past_the_redaction(logged, capsys):
    logged.configure("json")
    log.hide(["correct-horse-battery"])
    logging.getLogger("some.library").warning("%d items", "correct-horse-battery")
    assert "correct-horse" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    ["https://huggingface.co/ada/hf_finetune_v2", "in hf_raise_for_status", "hf_transfer", "Bearer of news"],
)
def test_ordinary_words_survive(text):
    assert log.redact(text) == text


JOB = "6f1c2a54-9d0e-4a57-8c11-0123456789ab"


@pytest.mark.parametrize(
    ("name", "value"),
    [("JOB_ID", JOB), ("HF_REPO_PRIVATE", "true"), ("AGENT_LOG_LEVEL", "info"), ("AGENT_LOG_FORMAT", "json")],
)
def test_a_line_break_after_a_value_is_not_part_of_it(name, value):
    assert load({name: f" {value}\n"}) == load({name: value})


@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_flag_is_an_unset_one(value):
    """`--output-dir "$OUT"` with OUT unset publishes the current folder today."""
    assert load({"OUTPUT_DIR": "/data/out"}, {"OUTPUT_DIR": value}).output_dir == Path("/data/out")
    assert load({}, {"OUTPUT_DIR": value}).output_dir != Path()
    assert load({"JOB_ID": JOB}, {"JOB_ID": value}) == load({"JOB_ID": JOB})


def test_a_user_without_a_home_is_no_traceback(monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    assert load({"AGENT_STATE_DIR": "/s"}).state_dir == Path("/s")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("[" * 200_000, "c.json"),
        ("[" * 3000 + "]" * 3000, "c.yaml"),
        ('a: !!int ""', "c.yaml"),
        ('a: !!bool ""', "c.yaml"),
    ],
    ids=["deep json", "deep yaml", "int", "bool"],
)
def test_no_training_config_makes_the_agent_crash(tmp_path, text, name):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError):
        load({"TRAINING_CONFIG": str(tmp_path / name)})


def test_a_broken_training_config_does_not_show_its_lines(tmp_path):
    (tmp_path / "c.yaml").write_text('api_key: "correct-horse-battery\nx: y\n')
    with pytest.raises(ConfigError) as raised:
        load({"TRAINING_CONFIG": str(tmp_path / "c.yaml")})
    assert "correct-horse" not in raised.value.message


def test_a_workspace_we_may_not_enter_is_no_traceback(monkeypatch):
    def is_file(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_file", is_file)
    with contextlib.suppress(AgentError):
        load({})


def test_a_commit_message_of_several_lines_cannot_carry_trailers():
    made = message(
        load({"AGENT_COMMIT_MESSAGE": "x\n\nFinalize-Id: forged"}), Training(), Identity(None, "c", "f1")
    )
    assert "\n" not in made.title
    on_hub = f"{made.title}\n\n{made.description}".split("\n", 1)[1]
    assert Commit("o", "x", on_hub, None).finalize_id == "f1"


def test_the_method_of_the_commit_is_one_line():
    made = message(load({"TRAINING_METHOD": "a\nb"}), Training(method="a\nb"), Identity(None, "c", "f1"))
    assert "\n" not in made.title
