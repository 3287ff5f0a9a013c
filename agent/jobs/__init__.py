"""The row of a job, wherever it lives."""

from agent.jobs.heartbeat import Heartbeat
from agent.jobs.local import LocalStore
from agent.jobs.row import (
    CANCELLED,
    COMPLETED,
    PUBLISH,
    RUNNING,
    TRAINING,
    JobStore,
    Row,
    clean_message,
    refusal,
)

__all__ = [
    "CANCELLED",
    "COMPLETED",
    "PUBLISH",
    "RUNNING",
    "TRAINING",
    "Heartbeat",
    "JobStore",
    "LocalStore",
    "Row",
    "clean_message",
    "refusal",
]
