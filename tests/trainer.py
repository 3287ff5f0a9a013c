"""A stand-in for a training: `python trainer.py DIARY [DEED...]`, with OUTPUT_DIR in its environment.

It writes into its diary, a file, when it starts and ends and each step it makes. A deed is one of

    steps=N          make N checkpoints, going on from the last one that is there
    wait=FILE        wait until there is such a file; with `{step}` in it, before each step
    save=FOLDER      copy a trained model into OUTPUT_DIR, with its checkpoints
    report=JSON      report progress as the callback does
    saved=FOLDER     report a complete checkpoint as the callback does
    print=N          print N bytes
    say=TEXT         print a line
    mute             close stdout and stderr
    daemon=FILE      leave a process of another session behind; it holds the pipes until there is such a file
    deaf             ignore SIGTERM and SIGINT
    gentle           on SIGTERM write "gentle" into the diary and end with 0
    env=NAME         write the variable into the diary
    exit=N           end with that exit code
    kill=N           end by that signal
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

OUTPUT = Path(os.environ["OUTPUT_DIR"])


class Trainer:
    """Does what it is told, in order."""

    def __init__(self, diary: Path) -> None:
        self._diary = diary
        self._gate = ""

    def note(self, line: str) -> None:
        with self._diary.open("a") as stream:
            stream.write(f"{line}\n")

    def steps(self, number: str) -> None:
        made = [int(path.name.split("-")[1]) for path in OUTPUT.glob("checkpoint-*")]
        for step in range(max(made, default=0) + 1, int(number) + 1):
            if self._gate:
                _await(Path(self._gate.format(step=step)))
            self.note(f"step {step}")
            half = OUTPUT / f".checkpoint-{step}"
            half.mkdir(parents=True, exist_ok=True)
            (half / "trainer_state.json").write_text(f'{{"global_step": {step}, "max_steps": {number}}}')
            half.rename(OUTPUT / f"checkpoint-{step}")

    @staticmethod
    def saved(folder: str) -> None:
        with (Path(os.environ["TRAINING_AGENT_REPORTS"]) / "checkpoints.jsonl").open("a") as stream:
            stream.write(f'{{"step": 1, "path": "{folder}"}}\n')

    def wait(self, path: str) -> None:
        if "{step}" in path:
            self._gate = path
        else:
            _await(Path(path))

    @staticmethod
    def save(folder: str) -> None:
        shutil.copytree(folder, OUTPUT, dirs_exist_ok=True, copy_function=shutil.copyfile)

    @staticmethod
    def report(document: str) -> None:
        (Path(os.environ["TRAINING_AGENT_REPORTS"]) / "progress.json").write_text(document)

    @staticmethod
    def print(size: str) -> None:
        line = b"step 17 loss 0.25 and what else a training says\n" * 1000
        left = int(size)
        while left > 0:
            left -= os.write(1, line[:left])

    @staticmethod
    def say(text: str) -> None:
        print(text, flush=True)

    @staticmethod
    def mute(_: str) -> None:
        os.close(1)
        os.close(2)

    def daemon(self, path: str) -> None:
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                self.note(f"daemon {os.getpid()}")
                _await(Path(path))
            os._exit(0)
        os.wait()

    @staticmethod
    def deaf(_: str) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def gentle(self, _: str) -> None:
        def stop(*_: object) -> None:
            self.note("gentle")
            os._exit(0)

        signal.signal(signal.SIGTERM, stop)

    def env(self, name: str) -> None:
        self.note(f"{name}={os.environ.get(name)}")

    def exit(self, code: str) -> None:
        self.note("end")
        os._exit(int(code))

    @staticmethod
    def kill(signum: str) -> None:
        os.kill(os.getpid(), int(signum))


def _await(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)


def main() -> None:
    """Train."""
    trainer = Trainer(Path(sys.argv[1]))
    OUTPUT.mkdir(parents=True, exist_ok=True)
    trainer.note("start")
    for deed in sys.argv[2:]:
        name, _, value = deed.partition("=")
        getattr(trainer, name)(value)
    trainer.note("end")


main()
