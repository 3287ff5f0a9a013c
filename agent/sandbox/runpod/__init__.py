"""An embedded RunPod: the three APIs that show, stop and terminate a pod, over HTTP on loopback.

It refuses what the real ones refuse, and counts what really ended a pod. It can be told to fail
(`RunPodApi.faults`), to retire an API, to lock a pod, or to take its time.
"""

from agent.sandbox.loopback.faults import Fault
from agent.sandbox.loopback.traffic import Request
from agent.sandbox.runpod.pods import Pod
from agent.sandbox.runpod.server import RunPodApi

__all__ = ["Fault", "Pod", "Request", "RunPodApi"]
