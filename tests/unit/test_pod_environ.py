from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.pod.environ import complete

POD = {"RUNPOD_POD_ID": "pod1", "RUNPOD_DC_ID": "EU-1", "HF_TOKEN": "hf_ofThePod", "JOB_ID": "7"}
SETTINGS = [("HF_TOKEN",), ("JOB_ID", "AGENT_JOB_ID"), ("OUTPUT_DIR",)]
SHELL = {"PATH": "/bin", "HOME": "/root"}


@pytest.fixture
def pod(tmp_path):
    """What a pod leaves behind: `pod(process, exports)` writes either, or neither."""

    def write(process=None, exports=None):
        proc, file = tmp_path / "environ", tmp_path / "rp_environment"
        if process is not None:
            proc.write_bytes(b"".join(f"{name}={value}\0".encode() for name, value in process.items()))
        if exports is not None:
            # As start.sh writes it: nothing is escaped, and a value ends with its first line.
            lines = [f'export {name}="{value.splitlines()[0]}"\n' for name, value in exports.items() if value]
            file.write_text("".join(lines))
        return {"proc": str(proc), "file": str(file)}

    return write


def test_a_shell_is_told_what_the_main_process_knows(pod):
    assert complete(SHELL, SETTINGS, **pod(POD)) == SHELL | POD


def test_nothing_but_settings_and_runpods_own_variables_is_taken(pod):
    process = POD | {
        "PATH": "/theirs",
        "LD_PRELOAD": "/x.so",
        "PYTHONPATH": "/x",
        "SHELL": "/x",
        "OTHER": "1",
    }
    assert complete({}, SETTINGS, **pod(process)) == POD


def test_what_the_shell_says_stands_also_when_it_says_nothing(pod):
    shell = SHELL | {"HF_TOKEN": "", "JOB_ID": "8"}
    found = complete(shell, SETTINGS, **pod(POD))
    assert found == SHELL | {"RUNPOD_POD_ID": "pod1", "RUNPOD_DC_ID": "EU-1", "HF_TOKEN": "", "JOB_ID": "8"}


@pytest.mark.parametrize("name", ["AGENT_JOB_ID", "JOB_ID_FILE", "AGENT_JOB_ID_FILE"])
def test_a_setting_that_the_shell_gives_by_another_name_is_not_filled_in(pod, name):
    found = complete({name: "8"}, SETTINGS, **pod(POD))
    assert found[name] == "8"
    assert "JOB_ID" not in found


def test_a_secret_that_the_pod_keeps_in_a_file_is_found(pod):
    process = {"RUNPOD_POD_ID": "pod1", "HF_TOKEN_FILE": "/run/token"}
    assert complete({}, SETTINGS, **pod(process)) == process


@pytest.mark.parametrize("value", ["pod1", ""])
def test_an_environment_with_a_pod_is_taken_as_it_is(pod, value):
    shell = SHELL | {"RUNPOD_POD_ID": value}
    assert complete(shell, SETTINGS, **pod(POD | {"RUNPOD_POD_ID": "other"})) == shell


def test_outside_a_pod_nothing_changes(pod):
    process = {"HF_TOKEN": "hf_ofSomebody", "RUNPOD_POD_ID": ""}
    assert complete(SHELL, SETTINGS, **pod(process, process)) == SHELL


def test_the_file_is_asked_when_the_process_tells_nothing(pod):
    assert complete(SHELL, SETTINGS, **pod(None, POD)) == SHELL | POD
    assert complete(SHELL, SETTINGS, **pod({"PATH": "/sbin"}, POD)) == SHELL | POD


def test_the_process_is_believed_before_the_file(pod):
    stale = POD | {"HF_TOKEN": "hf_old", "OUTPUT_DIR": "/old"}
    assert complete(SHELL, SETTINGS, **pod(POD, stale)) == SHELL | POD


def test_an_unreadable_process_and_no_file_change_nothing(tmp_path):
    assert complete(SHELL, SETTINGS, proc=str(tmp_path), file=str(tmp_path / "none")) == SHELL
    assert complete(SHELL, SETTINGS, proc="a\0b", file="c\0d") == SHELL


def test_values_of_the_file_are_taken_as_they_are(pod):
    value = r'a"b" $HOME `id` \n \" = x" '
    assert complete({}, SETTINGS, **pod(None, POD | {"HF_TOKEN": value}))["HF_TOKEN"] == value


def test_lines_of_the_file_that_are_no_exports_are_passed_over(tmp_path):
    file = tmp_path / "rp_environment"
    file.write_text(
        '# hello\nexport RUNPOD_POD_ID="pod1"\nexport HF_TOKEN=bare\nexport JOB_ID="cut\n'
        'alias x="y"\n export OUTPUT_DIR="/indented"\nexport AGENT_JOB_ID="7" && true\n'
    )
    assert complete({}, SETTINGS, proc="/nowhere", file=str(file)) == {"RUNPOD_POD_ID": "pod1"}


def test_several_lines_and_equals_signs_in_a_value_of_the_process_survive(pod):
    value = "one\ntwo=2\nthree"
    assert complete({}, SETTINGS, **pod(POD | {"HF_TOKEN": value}))["HF_TOKEN"] == value


def test_bytes_that_are_no_text_are_kept_as_python_keeps_them(tmp_path):
    proc = tmp_path / "environ"
    proc.write_bytes(b"RUNPOD_POD_ID=pod1\0HF_TOKEN=\xff\xfe\0\0JUNK\0")
    found = complete({}, SETTINGS, proc=str(proc), file="/nowhere")
    assert found == {"RUNPOD_POD_ID": "pod1", "HF_TOKEN": "\udcff\udcfe"}


@given(process=st.binary(), exports=st.binary())
def test_whatever_is_found_there_nothing_of_the_shell_changes(tmp_path_factory, process, exports):
    folder = tmp_path_factory.mktemp("pod")
    (folder / "proc").write_bytes(process)
    (folder / "file").write_bytes(exports)
    found = complete(SHELL, SETTINGS, proc=str(folder / "proc"), file=str(folder / "file"))
    assert found.items() >= SHELL.items()
