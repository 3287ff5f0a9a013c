"""An embedded Hugging Face Hub: API, Git LFS and xet storage over HTTP on loopback.

It refuses what the real Hub refuses, rebuilds every xet file before it believes its hash, and can be told to
fail (`Hub.faults`) or to lie (`Hub.tamper`). It holds no more than one run: repositories live in memory,
content on disk under `root`.
"""

from agent.sandbox.hub.server import Hub
from agent.sandbox.loopback.faults import Fault
from agent.sandbox.loopback.traffic import Request

__all__ = ["Fault", "Hub", "Request"]
