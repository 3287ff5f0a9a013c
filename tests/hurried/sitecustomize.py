"""On the path of a `run`, this makes its heart and the warm upload that it starts hurry.

What settles in seconds settles in a moment, and nothing is less important than others: a test waits for it.
The modules' own constants are changed when they are imported; there is no switch for it in the agent. Python
imports one sitecustomize only, so this one runs the next on the path.
"""

import importlib.util
import os
import runpy
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path

CONSTANTS = {"agent.jobs.heartbeat": {"INTERVAL_S": 0.2}}
OF_WARM = {
    "agent.warm.settled": {"SETTLED_NS": 50_000_000},
    "agent.warm.story": {
        "LOOK_EVERY_S": 0.02, "GO_ON_EVERY_S": 0.02, "FIRST_PAUSE_S": 0.2, "LONGEST_PAUSE_S": 0.5,
    },
    "agent.warm.restraint": {"SHARE": 100.0, "PAUSE_S": 0.01},
    "agent.hashes": {"RACY_NS": 10_000_000},
}  # fmt: skip


class _Hurried(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name not in CONSTANTS:
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        load = spec.loader.exec_module

        def load_and_hurry(module):
            load(module)
            vars(module).update(CONSTANTS[name])

        spec.loader.exec_module = load_and_hurry
        return spec


if "agent.warm" in sys.orig_argv:
    CONSTANTS |= OF_WARM
    os.nice = lambda _: 0
sys.meta_path.insert(0, _Hurried())
for _folder in map(Path, sys.path):
    if (_folder / "sitecustomize.py").is_file() and _folder.resolve() != Path(__file__).resolve().parent:
        runpy.run_path(str(_folder / "sitecustomize.py"))
        break
