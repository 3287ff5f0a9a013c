"""`python -m agent`, from any Python of the container: hand over to the agent in its own environment.

This folder has no __init__.py on purpose. Python prefers any package or module that is called `agent`
and has one, wherever it stands on the path, and joins this folder to other folders of that name: nothing
of anybody's is shadowed. Standard library only, and nothing that Python 3.6 would not read.
"""

import os
import sys

AGENT = "/opt/agent/bin/python"


def main() -> None:
    """Become the agent; its interpreter runs isolated from what the environment says to Python."""
    try:
        os.execv(AGENT, [AGENT, "-I", "-m", "agent", *sys.argv[1:]])
    except OSError as error:
        sys.exit(f"The agent cannot be started: {AGENT}: {error.strerror}.")


if __name__ == "__main__":
    main()
