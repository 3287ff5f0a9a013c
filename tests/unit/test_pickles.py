"""Pickles that import more than tensors, and containers over which readers would disagree."""

from __future__ import annotations

import io
import logging
import os
import pickle
import pickletools
import struct
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.artifact.files import LocalFile
from agent.artifact.pickles import check_pickles
from agent.hashes import Stamp
from tests.conftest import ROOT
from tests.layouts import LAYOUTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from agent.artifact.findings import Finding

TORCH = ROOT / "tests" / "fixtures" / "torch"
STATE_DICT = (TORCH / "state_dict.bin").read_bytes()
LEGACY = (TORCH / "legacy.bin").read_bytes()
CLEAN = pickle.dumps({"lr": 0.1, "steps": [1, 2]}, protocol=2)
GLOBAL_SYSTEM = b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."


class Runs:
    """Whoever unpickles this runs a command."""

    def __reduce__(self) -> Any:
        return os.system, ("true",)


EVIL = pickle.dumps(Runs(), protocol=2)


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., list[Finding]]:
    def check(name: str, content: bytes, *, allowed: bool = False) -> list[Finding]:
        source = tmp_path / name
        source.write_bytes(content)
        return list(check_pickles([LocalFile(name, source, Stamp.of(source))], allowed=allowed))

    return check


def kinds(findings: list[Finding]) -> list[tuple[str, bool]]:
    return [(finding.kind, finding.refuses) for finding in findings]


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return stream.getvalue()


def container(**members: bytes) -> bytes:
    """A torch container with these pickles beside its usual members."""
    named = {f"m/{name.replace('__', '.')}": content for name, content in members.items()}
    return zipped(named | {"m/byteorder": b"little", "m/data/0": bytes(64), "m/version": b"3\n"})


@pytest.mark.parametrize("name", ["state_dict.bin", "every_kind.bin"])
def test_state_dicts_that_torch_wrote_are_clean(check, name):
    content = (TORCH / name).read_bytes()
    assert check("pytorch_model.bin", content) == []
    assert check("model.pt", content) == []


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
@pytest.mark.parametrize("run", ["sft_lora", "sft_full", "orpo_lora"])
def test_the_state_of_a_real_training_is_clean(check, real_output, run, name):
    assert check(name, (real_output(run) / "checkpoint-4" / name).read_bytes()) == []


def test_the_arguments_of_a_real_training_are_unsafe(check, real_output):
    [finding] = check("training_args.bin", (real_output("sft_lora") / "training_args.bin").read_bytes())
    assert (finding.kind, finding.refuses) == ("unsafe-pickle", True)
    assert finding.message == (
        'imports "accelerate.state.PartialState", "accelerate.utils.dataclasses.DistributedType", '
        '"transformers.trainer_pt_utils.AcceleratorConfig", … and 6 more'
    )
    assert "AGENT_ALLOW_PICKLE" in finding.hint
    assert "safetensors" in finding.hint


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_known_tools_leave_behind_is_clean(tmp_path, name):
    LAYOUTS[name].make(tmp_path)
    published = [
        LocalFile(path.relative_to(tmp_path).as_posix(), path, Stamp.of(path))
        for path in tmp_path.rglob("*")
        if path.is_file() and path.name != "training_args.bin"
    ]
    assert list(check_pickles(published, allowed=False)) == []


def test_what_is_allowed_is_told_and_published(check):
    assert kinds(check("x.pkl", EVIL, allowed=True)) == [("unsafe-pickle", False)]


def test_a_damaged_container_is_refused_even_where_pickles_are_allowed(check):
    assert kinds(check("pytorch_model.bin", STATE_DICT[:-1], allowed=True)) == [("damaged", True)]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ["x.pkl", "x.pickle", "x.joblib", "X.PKL"])
def test_a_command_is_found_in_every_protocol(check, name, protocol):
    [finding] = check(name, pickle.dumps(Runs(), protocol=protocol))
    assert finding.kind == "unsafe-pickle"
    assert finding.message == 'imports "posix.system"'


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_are_clean_in_every_protocol(check, protocol):
    values = {"a": [1, 2.5, None, True], "b": ("x", 10**30), "c": {"d": "é\n"}}
    assert check("x.pkl", pickle.dumps(values, protocol=protocol)) == []


ATTACKS = {
    "memo": b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x30\x30h\x00h\x01\x93\x8c\x04true\x85R.",
    "inst": b"(S'true'\nios\nsystem\n.",
    "dotted": b"\x80\x04\x8c\x05torch\x8c\x13storage.os.system.x\x93.",
    "text protocol": b"cos\nsystem\n(S'true'\ntR.",
    "appended": CLEAN + GLOBAL_SYSTEM,
    "appended thrice": CLEAN * 3 + GLOBAL_SYSTEM + CLEAN,
    "broken behind the import": GLOBAL_SYSTEM[:-1] + b"\xff",
    "no end": GLOBAL_SYSTEM[:-1],
    "broken before the import": b"\x80\x02I0x\n0" + GLOBAL_SYSTEM[2:],
    "no strings to import by": b"\x80\x04NN\x93.",
    "nothing to import by": b"\x80\x04\x93.",
    "number instead of a name": b"\x80\x02\x82\x01)R.",
    "garbage behind a clean one": CLEAN + b"garbage",
    "empty": b"",
    "text": b"not a pickle at all",
    # The second pickle would be misread by whoever keeps the first one's memo.
    "memo of another": (
        b"\x80\x04\x8c\x0bcollections\x94\x8c\x0bOrderedDict\x94."
        b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x30\x30h\x00h\x01\x93\x8c\x04true\x85R."
    ),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_what_may_run_code_or_cannot_be_read_is_unsafe(check, attack):
    assert kinds(check("x.pkl", attack)) == [("unsafe-pickle", True)]
    assert kinds(check("m.pt", container(data__pkl=attack))) == [("unsafe-pickle", True)]


def test_a_global_of_a_harmless_module_is_judged_by_its_own_name(check):
    content = b"\x80\x02ctorch\nFloatStorage\n0ctorch\nload\n0ctorch._utils\n_rebuild_tensor_v2\n."
    [finding] = check("x.pkl", content)
    assert finding.message == 'imports "torch.load"'


@pytest.mark.parametrize(
    "name",
    ["torch.hub.load", "torch.FloatStorages", "torch.float_power", "builtins.eval", "numpy.load", "os.set"],
)
def test_a_name_that_only_looks_like_a_tensors_is_unsafe(check, name):
    module, _, attribute = name.rpartition(".")
    assert kinds(check("x.pkl", b"\x80\x02c" + f"{module}\n{attribute}\n".encode() + b".")) == [
        ("unsafe-pickle", True)
    ]


def test_a_name_out_of_a_hostile_file_stays_short_and_on_one_line(check):
    content = b"\x80\x04\x8c\x08\x1b[31mo\ns\x8d" + struct.pack("<Q", 5000) + b"x" * 5000 + b"\x93."
    [finding] = check("x.pkl", content)
    assert finding.message.isprintable()
    assert len(finding.message) < 200


@pytest.mark.parametrize(
    "member", ["data__pkl", "weights", "constants__pkl", "extra__pickle", "data__1", "data__0__pkl"]
)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_pickle_is_found_under_any_name_in_a_zip(check, member, method):
    members = {"m/data.pkl": CLEAN, f"m/{member.replace('__', '.')}": EVIL}
    for name in ("m.pt", "adapter_model.bin", "training_args.bin", "x.zip", "x.npz"):
        assert kinds(check(name, zipped(members, method))) == [("unsafe-pickle", True)]


def test_a_tensors_storage_is_no_pickle(check):
    assert check("m.pt", zipped({"m/data.pkl": CLEAN, "m/data/0": EVIL})) == []


def test_a_zip_in_a_zip_is_looked_into(check):
    nested = zipped({"pytorch_model.bin": container(data__pkl=EVIL)}, zipfile.ZIP_DEFLATED)
    [finding] = check("backup.zip", nested)
    assert finding.message == 'imports "posix.system"'
    assert check("backup.zip", zipped({"pytorch_model.bin": STATE_DICT})) == []


@pytest.mark.parametrize(
    ("inner", "why"),
    [
        (zipped({"a.zip": container(data__pkl=CLEAN)}), "a zip in a zip in a zip"),
        (STATE_DICT[:-1], "cut short"),
    ],
)
def test_a_zip_in_a_zip_that_cannot_be_read_is_unsafe(check, inner, why):
    [finding] = check("backup.zip", zipped({"inner.zip": inner}))
    assert finding.kind == "unsafe-pickle"
    assert why in finding.message


@pytest.mark.parametrize("name", ["torchscript.pt", "module.pt"])
def test_programs_and_whole_modules_are_unsafe(check, name):
    content = (TORCH / name).read_bytes()
    assert (
        kinds(check("model.pt", content)) == kinds(check("model.bin", content)) == [("unsafe-pickle", True)]
    )


def test_torchscript_is_said_to_carry_code(check):
    [finding] = check("model.pt", (TORCH / "torchscript.pt").read_bytes())
    assert finding.message.startswith('carries code ("torchscript/code/__torch__/torch/jit/_script.py"')


def test_sources_in_a_container_are_code_but_not_in_any_zip(check):
    content = zipped({"m/model.py": b"import os"})
    assert kinds(check("package.pt", content)) == [("unsafe-pickle", True)]
    assert check("sources.zip", content) == []


def test_torchs_older_format_is_told_and_its_imports_are_judged(check):
    [finding] = check("pytorch_model.bin", LEGACY)
    assert (finding.kind, finding.refuses) == ("legacy-pickle", False)
    assert kinds(check("optimizer.bin", LEGACY)) == [("legacy-pickle", False)]


@pytest.mark.parametrize("which", range(1, 5))
def test_no_pickle_of_torchs_older_format_is_passed_over(check, which):
    stream = io.BytesIO(LEGACY)
    pickles = []
    for _ in range(5):
        begin = stream.tell()
        list(pickletools.genops(stream))
        pickles.append(LEGACY[begin : stream.tell()])
    pickles[which] = EVIL
    assert kinds(check("pytorch_model.bin", b"".join(pickles) + bytes(50))) == [
        ("legacy-pickle", False),
        ("unsafe-pickle", True),
    ]


def test_a_file_that_promises_pickles_is_looked_through_to_its_end(check):
    content = LEGACY[: LEGACY.rindex(b".") + 1] + CLEAN * 9
    assert kinds(check("x.pkl", content + EVIL)) == [("unsafe-pickle", True)]


def test_a_large_file_in_torchs_older_format_is_read_in_part_only(check):
    assert kinds(check("pytorch_model.bin", LEGACY + bytes(20 << 20))) == [("legacy-pickle", False)]


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model-00001-of-00002.bin", "a.pt", "b.pth", "c.ckpt"])
@pytest.mark.parametrize("content", [b"", b"\x00" * 500, b"<html>429 Too Many Requests</html>", b"\x80\x06."])
def test_a_container_that_is_neither_zip_nor_pickle_is_damaged(check, name, content):
    assert kinds(check(name, content)) == [("damaged", True)]


def test_an_empty_container_is_said_to_be_empty(check):
    [finding] = check("pytorch_model.bin", b"")
    assert finding.sentence == "pytorch_model.bin is empty"


@pytest.mark.parametrize("name", ["vocab.bin", "openvino.bin", "data.dat", "x.zip", "x.npz"])
@pytest.mark.parametrize("content", [b"", b"anything else", b"\x00\x80\x02"])
def test_other_files_may_hold_anything_that_is_no_pickle(check, name, content):
    assert check(name, content) == []


@pytest.mark.parametrize("name", ["vocab.bin", "index.dat"])
def test_other_files_that_begin_like_a_pickle_are_judged(check, name):
    assert kinds(check(name, EVIL)) == [("unsafe-pickle", True)]


def test_files_whose_names_promise_no_pickle_are_not_opened(check, tmp_path):
    missing = LocalFile("model.safetensors", tmp_path / "missing", Stamp(1, 0, 0, 0, 0))
    assert list(check_pickles([missing], allowed=False)) == []


@given(length=st.integers(0, len(STATE_DICT) - 1))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_container_cut_anywhere_is_damaged(check, length):
    assert kinds(check("pytorch_model.bin", STATE_DICT[:length])) == [("damaged", True)]


@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
@given(data=st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_content_makes_the_check_crash(check, data):
    content = bytearray(data.draw(st.sampled_from([STATE_DICT, LEGACY, EVIL, container(data__pkl=EVIL)])))
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)))):
        content[at] = value
    check(data.draw(st.sampled_from(["m.pt", "x.pkl", "y.bin", "z.zip"])), bytes(content))


def _patched(content: bytes, old: bytes, new: bytes, count: int = 1) -> bytes:
    assert old in content
    return content.replace(old, new, count)


def _with_sizes(content: bytes, name: bytes, sizes: tuple[int, int]) -> bytes:
    """Change (packed, unpacked) of a member in the directory."""
    at = content.rindex(name) - 46
    return content[: at + 20] + struct.pack("<2L", *sizes) + content[at + 28 :]


def _moved(content: bytes, name: bytes, offset: int) -> bytes:
    at = content.rindex(name) - 46
    return content[: at + 42] + struct.pack("<L", offset) + content[at + 46 :]


def _twice() -> bytes:
    """One member is called like the other, in its header and in the directory."""
    return _patched(container(data__pkl=CLEAN, daxa__pkl=EVIL), b"daxa", b"data", 2)


PLAIN = container(data__pkl=CLEAN)
DAMAGES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "a name twice": ("names a member twice", _twice),
    "another name in the member's own header": (
        'two names for "m/data.pkl"',
        lambda: _patched(PLAIN, b"m/data.pkl", b"m/data.pkX"),
    ),
    "another zip in front": ("not where it should be", lambda: container(data__pkl=EVIL) + PLAIN),
    "bytes behind": ("not where it should be", lambda: PLAIN + b"\0"),
    "a member outside": ('misses "m/data.pkl"', lambda: _moved(PLAIN, b"m/data.pkl", 1 << 30)),
    "a member amid another": ('misses "m/version"', lambda: _moved(PLAIN, b"m/version", 9)),
    "a member where another is": ('two names for "m/version"', lambda: _moved(PLAIN, b"m/version", 0)),
    "a member longer than the file": (
        '"m/version" is cut short',
        lambda: _with_sizes(PLAIN, b"m/version", (1 << 20, 1 << 20)),
    ),
    "members that overlap": ("overlaps another", lambda: _with_sizes(PLAIN, b"m/byteorder", (60, 60))),
    "two sizes of a stored member": (
        'two sizes for "m/data.pkl"',
        lambda: _with_sizes(PLAIN, b"m/data.pkl", (3, len(CLEAN))),
    ),
    "a name with a NUL": ("two names for", lambda: _patched(PLAIN, b"m/data.pkl", b"m/data.pk\0", 2)),
    "a wrong size of the directory": (
        "not where it should be",
        lambda: PLAIN[:-10] + struct.pack("<L", 7) + PLAIN[-6:],
    ),
    "no directory": ("has no directory at its end", lambda: PLAIN[: PLAIN.index(b"PK\x01\x02")]),
    "a directory of 9 MB": (
        "too large a directory: 9,437,184 bytes",
        lambda: (
            b"PK\x03\x04" + bytes(9 << 20) + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, 9 << 20, 4, 0)
        ),
    ),
    "a locator that points elsewhere": (
        "damaged directory",
        lambda: _patched(STATE_DICT, STATE_DICT[-34:-26], struct.pack("<Q", 100)),
    ),
    "two directories": (
        "damaged directory",
        lambda: STATE_DICT[:-98] + PLAIN[PLAIN.index(b"PK\x01\x02") : -22] + STATE_DICT[-98:],
    ),
}


@pytest.mark.parametrize(("why", "make"), DAMAGES.values(), ids=DAMAGES)
def test_a_container_that_readers_would_see_differently_is_damaged(check, why, make):
    [finding] = check("pytorch_model.bin", make())
    assert (finding.kind, finding.refuses) == ("damaged", True)
    assert why in finding.message


def test_a_wrong_checksum_is_no_damage_for_torch_can_leave_them_out(check):
    crc = struct.pack("<L", zipfile.crc32(CLEAN))
    assert check("m.pt", _patched(PLAIN, crc, bytes(4), 2)) == []


def test_a_comment_behind_the_directory_is_fine(check):
    stream = io.BytesIO(PLAIN)
    with zipfile.ZipFile(stream, "a") as archive:
        archive.comment = b"made by hand"
    assert check("m.pt", stream.getvalue()) == []


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_that_torch_could_not_unpack_are_not_looked_into(check, method):
    [finding] = check("x.zip", zipped({"data.pkl": CLEAN}, method))
    assert (
        finding.message
        == '"data.pkl" in it cannot be looked through: it is packed in a way that torch does not read'
    )


def test_an_encrypted_member_is_unsafe(check):
    at = PLAIN.index(b"PK\x01\x02") + 8
    [finding] = check("m.pt", PLAIN[:at] + b"\x01" + PLAIN[at + 1 :])
    assert "it is encrypted" in finding.message


def test_a_damaged_packed_member_is_unsafe(check):
    content = zipped({"m/data.pkl": CLEAN * 5}, zipfile.ZIP_DEFLATED)
    at = 30 + len("m/data.pkl")
    [finding] = check("m.pt", content[:at] + b"\xff\xff\xff" + content[at + 3 :])
    assert "it cannot be unpacked" in finding.message


BOMBS = {
    "opcodes": (b"\x80\x02" + b"N0" * 300_001 + b"N.", "opcodes"),
    "pickles": (b"\x80\x02N." * 1001, "pickles"),
    "bytes": (b"\x80\x02B" + struct.pack("<L", 8 << 20) + bytes(8 << 20) + b".", "8,388,608 bytes"),
}


@pytest.mark.parametrize(("bomb", "why"), BOMBS.values(), ids=BOMBS)
def test_a_pickle_too_large_to_be_looked_through_is_unsafe(check, bomb, why):
    for name, content in (("x.pkl", bomb), ("m.pt", zipped({"m/data.pkl": bomb}, zipfile.ZIP_DEFLATED))):
        [finding] = check(name, content)
        assert (finding.kind, finding.refuses) == ("unsafe-pickle", True)
        assert why in finding.message


def test_many_packed_members_do_not_expand_without_bound(check):
    bomb = {
        f"{number}.pkl": b"\x80\x02B" + struct.pack("<L", 7 << 20) + bytes(7 << 20) + b"."
        for number in range(11)
    }
    [finding] = check("x.zip", zipped(bomb, zipfile.ZIP_DEFLATED))
    assert '"9.pkl" in it cannot be looked through: it is larger than' in finding.message


NUMBERS = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }".ljust(
    128
) + bytes(8)
OBJECTS = NUMBERS.replace(b"'<f4'", b"'|O'") + EVIL


def test_arrays_of_objects_are_pickles_and_arrays_of_numbers_are_not(check):
    assert check("x.npy", NUMBERS) == check("x.npz", zipped({"a.npy": NUMBERS})) == []
    for name, content in (("x.npy", OBJECTS), ("x.npz", zipped({"a.npy": OBJECTS}))):
        [finding] = check(name, content)
        assert "holds pickled objects, not numbers" in finding.message


def test_nothing_out_of_a_file_is_logged_or_printed(check, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    check("x.pkl", EVIL)
    check("y.pkl", b"\x80\x02cos\nsystem\n")
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_findings_are_told_in_the_same_order_every_time(check):
    content = b"\x80\x02" + b"".join(b"cmodule%d\nname\n0" % number for number in range(20)) + b"N."
    [finding] = check("x.pkl", content)
    assert finding.message == 'imports "module0.name", "module1.name", "module10.name", … and 17 more'
