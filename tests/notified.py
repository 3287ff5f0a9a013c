"""A job that is over, on a volume of its own, and everybody who hears of it."""

from __future__ import annotations

from structlog.testing import capture_logs

from agent import notify
from agent.config import load
from agent.errors import HubAuthError
from agent.outcome import Outcome
from tests.conftest import Clock

JOB = "6f1c2a54-9d0e-4a57-8c11-0123456789ab"
GITHUB_TOKEN = "ghp_PlantedTokenOfTheAgent0123456789ab"
SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7"
REPO = "ada/training"
REFUSED = HubAuthError("HF_TOKEN is read-only.", hint="Set another HF_TOKEN.")


class Job:
    """A job on one volume, told of with a clock that only our waits move."""

    def __init__(self, home, **environ):
        self.home, self.environ = home, {"JOB_ID": JOB, "OUTPUT_DIR": "/workspace/out", **environ}
        self.clock = Clock()

    def config(self, **more):
        environ = self.environ | {"AGENT_STATE_DIR": str(self.home)} | more
        return load({name: value for name, value in environ.items() if value})

    def tell(self, outcome, exit_code, **more):
        with capture_logs() as logs:
            notify.tell(self.config(**more), outcome, exit_code, clock=self.clock, sleep=self.clock.sleep)
        return [line for line in logs if line["event"] != "step done"]

    def succeed(self, **more):
        return self.tell(completed(), 0, **more)

    def fail(self, error=REFUSED, **more):
        return self.tell(failed(error), error.exit_code, **more)


def completed():
    return Outcome(
        "completed", published=True, model_url="https://huggingface.co/ada/model", repo_id="ada/model",
        commit="06bafaf64c6fc215e71ac3ae0f5e1759b09a991d", files=10, size_bytes=12_600_000, job_id=JOB,
        job_status="completed",
        training={"method": "sft", "base_model": "meta/llama", "metrics": {"eval_loss": 1.25}},
    )  # fmt: skip


def failed(error, **more):
    outcome = Outcome(job_id=JOB, job_status="failed", **more)
    outcome.failed(error, code=error.code, message=error.message, hint=error.hint)
    return outcome
