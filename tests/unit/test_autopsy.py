"""Why a training ended, in the words of its row."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.pod.autopsy import autopsy, message, sentence

LOG = Path("/state/training.log")


@pytest.mark.parametrize(
    ("code", "lines", "said"),
    [
        (1, [], "exit code 1"),
        (137, [], "killed, probably because the machine ran out of memory (ended by SIGKILL)"),
        (143, [], "ended by SIGTERM"),
        (139, [], "ended by SIGSEGV"),
        (255, [], "exit code 255"),
        (127, ["python9: No such file or directory"], "the command cannot be run (exit code 127)"),
        (126, [], "the command cannot be run (exit code 126)"),
        (
            1,
            ["Traceback", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."],
            "the GPU ran out of memory (exit code 1)",
        ),
        (1, ["RuntimeError: CUDA error: out of memory"], "the GPU ran out of memory (exit code 1)"),
        (1, ["OSError: [Errno 28] No space left on device"], "the disk is full (exit code 1)"),
        (1, ["OSError: [Errno 122] Disk quota exceeded: 'x'"], "the disk is full (exit code 1)"),
        (1, ["MemoryError"], "the machine ran out of memory (exit code 1)"),
        (
            137,
            ["CUDA out of memory"],
            "the GPU ran out of memory (ended by SIGKILL)",
        ),
        (1, ["loss went from 28 to 122"], "exit code 1"),
    ],
)
def test_the_cause_is_told_from_the_exit_code_and_the_last_lines(code, lines, said):
    found = autopsy(code, lines, LOG)
    assert sentence(found, code, 11_531) == f"The training failed after 3 h 12 min: {said}."
    assert found.hint.endswith(".")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h 0 min"),
        (90_061, "25 h 1 min"),
    ],
)
def test_durations_are_for_people(seconds, said):
    assert f"after {said}:" in sentence(autopsy(1, [], LOG), 1, seconds)


def test_what_cannot_be_explained_names_the_log():
    assert str(LOG) in autopsy(3, [], LOG).hint


def test_a_message_keeps_its_reason_and_the_end_of_the_output():
    told = message("the reason.", ["x" * 5000, "y" * 5000, "the last words"])
    assert told.startswith("the reason. Its last lines:\n…")
    assert told.endswith("the last words\n")
    assert len(told) < 8000


def test_a_silent_training_has_no_last_lines():
    assert message("the reason.", []) == "the reason."
