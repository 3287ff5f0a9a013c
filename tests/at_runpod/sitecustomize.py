"""On the path of a process, this lets it take the embedded RunPod at FAKE_RUNPOD for the real one.

The module that asks RunPod is changed when it is imported; a process that never asks pays nothing. Python
imports one sitecustomize only, so this one runs the next on the path.
"""

import importlib.util
import os
import runpy
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path

MODULE = "agent.pod.runpod"


class _AtFake(MetaPathFinder):
    def __init__(self, origin):
        self._origin = origin

    def find_spec(self, name, path=None, target=None):
        if name != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def load_and_point(module):
            load(module)
            here = self._origin.rstrip("/")
            module.APIS = module.Apis(f"{here}/v2", f"{here}/graphql", f"{here}/v1")

        spec.loader.exec_module = load_and_point
        return spec


if origin := os.environ.get("FAKE_RUNPOD"):
    sys.meta_path.insert(0, _AtFake(origin))
for _folder in map(Path, sys.path):
    if (_folder / "sitecustomize.py").is_file() and _folder.resolve() != Path(__file__).resolve().parent:
        runpy.run_path(str(_folder / "sitecustomize.py"))
        break
