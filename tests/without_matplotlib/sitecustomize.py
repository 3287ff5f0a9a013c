"""On the path of a process, this hides matplotlib from it: no plots are drawn, which take two seconds."""

import sys

sys.modules["matplotlib"] = None  # type: ignore[assignment]
