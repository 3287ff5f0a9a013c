"""The row of a job, wherever it lives."""

from agent.jobs.local import LocalStore
from agent.jobs.row import CANCELLED, COMPLETED, JobStore, Row

__all__ = ["CANCELLED", "COMPLETED", "JobStore", "LocalStore", "Row"]
