"""Fuzz the safetensors reader against the official library; every file on which they differ is kept.

    python -m tests.fuzz.fuzz_safetensors FOLDER --seconds 600 --seed 1
    python -m tests.fuzz.fuzz_safetensors FOLDER --seconds 600 --atheris

The second form is guided by coverage and needs atheris (3.0.0 was tried) beside the test requirements. Both
begin with the corpus beside this file and the real fixtures. FOLDER receives `crash-…` for every
disagreement or exception, and in `corpus/` the smallest file for each pair of answers (ours, the library's)
that was seen; those that are worth keeping go into the corpus, which a unit test runs through both readers.
The exit code is 1 if there was a crash.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import os
import random
import re
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from agent.artifact import safetensors as reader
from tests.conftest import FIXTURES
from tests.unit.tensors import difference, framed, official, ours

if TYPE_CHECKING:
    from tests.unit.tensors import Reading

    Answers = tuple[str, str]

HERE = Path(__file__).parent
LARGEST = 4096
NUMBERS = b"-1 -0 0 0 1 2 3 4 8 1.0 1e1 255 256 4294967296 9223372036854775808 18446744073709551615".split()
WORDS = [
    *NUMBERS,
    *(b'{ } [ ] : , " \\ \\u0000 \\ud800 \\udfff null true NaN Infinity 1E400 18446744073709551616'.split()),
    *(b'"dtype" "shape" "data_offsets" "__metadata__" "format" "pt" "" [0] [0,0] [0,1] {} []'.split()),
    *(b'"BOOL" "F4" "F6_E2M3" "F6_E3M2" "U8" "F8_E8M0" "BF16" "F32" "C64" "F64" "I4"'.split()),
    *(b'"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]} {"U8":null} ["U8",[1],[0,1]]'.split()),
    *(b" ", b"\n", b"\0", b"\x7f", b"\x80", b"\xff", b"\xc3\xa9", b"\xef\xbb\xbf", b"\xed\xa0\x80"),
]


def mutated(data: bytes, noise: random.Random, others: list[bytes]) -> bytes:
    """Change a file in a few places; its length field is mostly put right, so that the header is parsed."""
    length = int.from_bytes(data[:8], "little")
    header, rest = bytearray(data[8 : 8 + length]), bytearray(data[8 + length :])
    for _ in range(noise.choice((0, 1, 1, 1, 2, 3, 5))):
        _change(header, noise, others)
    if noise.random() < 0.3:
        del rest[noise.randrange(len(rest) + 1) :]
        rest += bytes(noise.choice((0, 0, 1, 2, 4, 8, 16)))
    if noise.random() < 0.9:
        return framed(bytes(header), bytes(rest))[:LARGEST]
    broken = bytearray(framed(bytes(header), bytes(rest)))
    broken[noise.randrange(8)] ^= 1 << noise.randrange(8)
    del broken[noise.randrange(len(broken) + 1) if noise.random() < 0.5 else len(broken) :]
    return bytes(broken[:LARGEST])


def _change(header: bytearray, noise: random.Random, others: list[bytes]) -> None:
    at = noise.randrange(len(header) + 1)
    kind = noise.randrange(8)
    if kind == 0 and at < len(header):
        header[at] ^= 1 << noise.randrange(8)
    elif kind == 1:
        del header[at : at + noise.choice((1, 1, 2, 8, 40))]
    elif kind == 2:
        header[at:at] = noise.choice(WORDS)
    elif kind == 3:
        again = noise.randrange(len(header) + 1)
        header[at:at] = header[again : again + noise.choice((1, 4, 20, 60))]
    elif kind == 4:
        other = noise.choice(others)
        begin = noise.randrange(8, max(9, len(other)))
        header[at:at] = other[begin : begin + noise.choice((4, 20, 60, 200))]
    elif kind == 5:
        _repeat_a_member(header, noise)
    else:
        _replace_a_word(header, noise)


def _repeat_a_member(header: bytearray, noise: random.Random) -> None:
    members = list(re.finditer(rb'"[^"]*":(\{[^{}]*\}|\[[^][]*\]|"[^"]*")', header))
    if members:
        at = noise.choice(members).start()
        header[at:at] = noise.choice(members)[0] + b","


def _replace_a_word(header: bytearray, noise: random.Random) -> None:
    words = list(re.finditer(rb'"[^"]*"|[0-9]+|[\[\]{}:,]', header))
    if words:
        word = noise.choice(words)
        numbers = b",".join(noise.choices(NUMBERS, k=noise.choice((1, 1, 2, 3))))
        is_number = word[0].isdigit() and noise.random() < 0.7
        header[word.start() : word.end()] = numbers if is_number else noise.choice(WORDS)


def general(reading: Reading) -> str:
    """What a reader says, without the names and numbers of this very file."""
    said = reading if isinstance(reading, str) else ("nothing", "a tensor", "tensors")[min(len(reading), 2)]
    said = re.sub(r"(type: string|expected|of shape|unknown variant|field) .*", "…", said, flags=re.DOTALL)
    return re.sub(r"\d[\d,.e]*|`.*`|\".*\"", "…", said, flags=re.DOTALL)


class Fuzzer:
    """Tries files, keeps those that crash, and the smallest for each pair of answers."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.executions, self.crashes = folder, 0, 0
        self.kept: dict[Answers, bytes] = {}
        memory = Path("/dev/shm")
        self._scratch = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None), "file")
        (folder / "corpus").mkdir(parents=True, exist_ok=True)

    def run(self, data: bytes) -> None:
        self.executions += 1
        try:
            we, they = ours(data, self._scratch), official(data)
            why = difference(data, we, they)
        except Exception:  # noqa: BLE001 - whatever comes out of a reader is what we look for
            self._crash(data, traceback.format_exc())
            return
        if why:
            self._crash(data, why)
        elif len(data) < len(self.kept.get(pair := (general(we), general(they)), bytes(LARGEST + 1))):
            self.kept[pair] = data

    def _crash(self, data: bytes, why: str) -> None:
        self.crashes += 1
        name = f"crash-{hashlib.sha256(data).hexdigest()[:16]}"
        (self.folder / name).write_bytes(data)
        print(name, why, flush=True)

    def finish(self) -> int:
        """Write down the smallest file for each pair of answers; say how it went."""
        for pair, data in self.kept.items():
            small = self._shrunk(data, pair)
            (self.folder / "corpus" / f"{hashlib.sha256(repr(pair).encode()).hexdigest()[:16]}").write_bytes(
                small
            )
        print(f"{self.executions:,} executions, {len(self.kept)} pairs of answers, {self.crashes} crashes")
        return 1 if self.crashes else 0

    def _answers(self, data: bytes) -> Answers:
        return general(ours(data, self._scratch)), general(official(data))

    def _shrunk(self, data: bytes, pair: Answers) -> bytes:
        step = len(data) // 2
        while step:
            at = 8
            while at < len(data):
                length = int.from_bytes(data[:8], "little")
                header, rest = data[8 : 8 + length], data[8 + length :]
                shorter = data[:at] + data[at + step :]
                if at < 8 + length == len(data) - len(rest):
                    shorter = framed(header[: at - 8] + header[at - 8 + step :], rest)
                if len(shorter) < len(data) and self._answers(shorter) == pair:
                    data = shorter
                else:
                    at += step
            step //= 2
        return data


def seeds() -> list[bytes]:
    """The corpus, and real files without most of their data."""
    kept = [path.read_bytes() for path in sorted((HERE / "corpus" / "safetensors").iterdir())]
    real = [path.read_bytes() for path in sorted(FIXTURES.glob("*/*.safetensors"))]
    one = {"t": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]}, "__metadata__": {"format": "pt"}}
    last = {"dtype": "U8", "shape": [], "data_offsets": [4, 5]}
    two = {"a": last, "b": {"dtype": "F4", "shape": [2, 4], "data_offsets": [0, 4]}}
    small = [framed(one, bytes(8)), framed(two, bytes(5)), framed(b"{}      ")]
    return [*kept, *small, *(data for data in real if len(data) <= 2 * LARGEST)]


def guess(fuzzer: Fuzzer, seconds: float, noise: random.Random) -> None:
    """Mutate the seeds and what gave a new pair of answers, until the time is over."""
    pool = seeds()
    for data in pool:
        fuzzer.run(data)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = list(fuzzer.kept.values())
        for _ in range(1000):
            data = noise.choice(found if found and noise.random() < 0.5 else pool)
            fuzzer.run(mutated(data, noise, pool))


def guided(fuzzer: Fuzzer, seconds: float, seed: int) -> None:
    """Let libFuzzer choose what to mutate, by the coverage of our reader."""
    import atheris

    for function in filter(inspect.isfunction, vars(reader).values()):
        atheris.instrument_func(function)
    pool = seeds()
    start = fuzzer.folder / "seeds"
    start.mkdir(exist_ok=True)
    for data in pool:
        (start / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data[:LARGEST])

    def mutate(data: bytes, largest: int, seed: int) -> bytes:
        noise = random.Random(seed)
        return mutated(data, noise, pool)[:largest] if noise.random() < 0.7 else atheris.Mutate(data, largest)

    until = time.monotonic() + seconds

    def run(data: bytes) -> None:
        fuzzer.run(data)
        if time.monotonic() > until:
            code = fuzzer.finish()
            sys.stdout.flush()
            os._exit(code)  # libFuzzer never gives the control back

    options = [f"-seed={seed}", f"-max_len={LARGEST}", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, str(start)], run, custom_mutator=mutate)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where crashes and the new corpus go")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--atheris", action="store_true", help="guided by coverage")
    arguments = parser.parse_args()
    fuzzer = Fuzzer(arguments.folder)
    if arguments.atheris:
        guided(fuzzer, arguments.seconds, arguments.seed)
    guess(fuzzer, arguments.seconds, random.Random(arguments.seed))
    return fuzzer.finish()


if __name__ == "__main__":
    sys.exit(main())
