"""What of the configuration holds for a folder that is sent ahead: as finalize takes it, in less time."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config import load
from agent.warm.candidates import Candidate
from agent.warm.carrier import _config_of

ASKED = {
    "OUTPUT_DIR": "/o", "HF_REPO_NAME": "ada/model", "AGENT_FILES": "/x/model.onnx:onnx/model.onnx",
    "EVALUATION_REPORT": "/o/report.json", "BENCHMARK_REPORT": "/o/bench.json", "SAMPLES_DIR": "/o/samples",
    "AGENT_EXCLUDE": "*.txt", "AGENT_ALLOW_PICKLE": "true",
}  # fmt: skip
CHECKPOINT = Candidate(Path("/o/checkpoint-10"), is_checkpoint=True)
FINAL = Candidate(Path("/o"), is_checkpoint=False)


@pytest.mark.parametrize("one", [CHECKPOINT, FINAL])
@pytest.mark.parametrize(
    ("asked", "meant"), [("full", "sample"), ("sample", "sample"), ("headers", "headers")]
)
def test_weights_are_not_read_as_a_whole_to_be_checked_while_it_trains(one, asked, meant):
    assert _config_of(load({**ASKED, "AGENT_CHECK_WEIGHTS": asked}), one).check_weights == meant


def test_the_final_model_is_what_finalize_publishes():
    config = load({**ASKED, "AGENT_CHECKPOINT": "best"})
    assert _config_of(config, FINAL) == config


def test_a_checkpoint_is_a_folder_of_its_own_that_need_not_be_finished():
    config = _config_of(load({**ASKED, "AGENT_CHECKPOINT": "best"}), CHECKPOINT)
    assert (config.output_dir, config.checkpoint, config.allow_partial) == (CHECKPOINT.folder, "last", True)
    assert (config.repo_name, config.allow_pickle, bool(config.exclude)) == ("ada/model", True, True)


def test_what_is_added_from_elsewhere_is_no_part_of_a_checkpoint():
    config = _config_of(load(ASKED), CHECKPOINT)
    assert (config.files, config.reports, config.samples_dir) == ((), (), None)
