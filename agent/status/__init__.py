"""How the jobs on a volume stand: what their files say, what is going on, what is left to do."""

from agent.status.jobs import Status, look

__all__ = ["Status", "look"]
