"""What every stand-in on 127.0.0.1 shares: a server thread, faults, limits, the record of requests."""

from agent.sandbox.loopback.faults import Fault
from agent.sandbox.loopback.server import LoopbackServer
from agent.sandbox.loopback.traffic import Request

__all__ = ["Fault", "LoopbackServer", "Request"]
