"""Stage what depends on the base image: `python stage.py LAYER`, to be copied over its root.

Every Python of the image gets a line in a .pth file, so that it finds the launcher behind everything that
is its own. The base image's own /post_start.sh makes room for the agent's, which calls it.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

LAUNCHER = Path("/opt/agent-launcher")
HOOK = Path("/post_start.sh")
PYTHON = re.compile(r"python(3(\.\d+)?)?")
SITE = "import site, sys; print(sys.version_info >= (3, 6) and site.getsitepackages()[0] or '')"


def main(layer: Path) -> None:
    """Fill `layer` and say what is in it."""
    for folder in sorted(site_folders()):
        target = staged(layer, folder / "training-agent.pth")
        target.write_text(f"{LAUNCHER}\n")
        print(f"python -m agent is found through {folder}")
    if HOOK.exists() and not LAUNCHER.exists():  # else the base is an image of ours
        target = staged(layer, HOOK.with_suffix(".base.sh"))
        shutil.copy2(HOOK, target)
        print(f"the base image's {HOOK} is called as {HOOK.with_suffix('.base.sh')}")


def site_folders() -> set[Path]:
    """Where the Pythons on PATH look for packages of the machine."""
    found = set()
    for name in os.get_exec_path():
        for python in sorted(Path(name).glob("python*")):
            if PYTHON.fullmatch(python.name):
                asked = subprocess.run([python, "-c", SITE], capture_output=True, text=True, check=False)
                if asked.returncode == 0 and asked.stdout.strip():
                    found.add(Path(os.path.realpath(asked.stdout.strip())))
                else:
                    print(f"{python} is left out: {asked.stderr.strip() or 'older than 3.6'}")
    return found


def staged(layer: Path, path: Path) -> Path:
    """`path` below the layer; folders that the image has keep their owner and mode."""
    for folder in reversed(path.parents[:-1]):
        copy = layer / folder.relative_to("/")
        if copy.exists():
            continue
        copy.mkdir(parents=True)
        if folder.exists():
            shutil.copystat(folder, copy)
            owner = folder.stat()
            os.chown(copy, owner.st_uid, owner.st_gid)
    return layer / path.relative_to("/")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
