"""The platform's alert API, as the web app of the first user speaks it.

It terminates the pod of a job that it is told is over, completed or failed, and sets the row's status
itself. So it is told last, only what the row says already, and only what the law of the only copy permits.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from agent.log import get_logger
from agent.pod.line import Line, NoAnswerError
from agent.retry import RemoteFailure

if TYPE_CHECKING:
    from agent.config import Config
    from agent.jobs import Row

TYPES = {"completed": "job_completed", "failed": "job_failed"}  # by the status of the row
_BUDGET_S = 60.0
_PAUSES_S = (2.0, 5.0)
_OK = range(200, 300)


def is_asked_for(config: Config) -> bool:
    """Whether the platform is to be told, and may be: an explicit keep or stop is less than it does."""
    if config.alert_url is None or config.other_rank or config.under_run:
        return False
    if config.on_finish in {"keep", "stop"}:
        get_logger().info(
            f"ALERT_API_URL is not told: it terminates the pod, and AGENT_ON_FINISH={config.on_finish}"
        )
        return False
    if config.user_id is None or config.job_id is None:
        get_logger().warning("ALERT_API_URL is not told: it needs JOB_ID and USER_ID")
        return False
    return True


def message(config: Config, row: Row, *, repo_id: str | None) -> dict[str, Any] | None:
    """What the platform is told of a row; None if the job is not over, or was cancelled."""
    kind = TYPES.get(row.status)
    if kind is None:
        return None
    told = {
        "type": kind,
        "job_id": row.id,
        "user_id": config.user_id,
        "model_name": repo_id or config.base_model,
        "base_model": config.base_model,
        "status": row.status,
        "progress": row.progress,
        "error_message": row.error_message,
    }
    return {name: value for name, value in told.items() if value is not None}


def send(config: Config, document: dict[str, Any]) -> bool:
    """Tell the platform; True when it took it. Told twice it does no more than once.

    The answer may never come: the pod may be gone by then.
    """
    assert config.alert_url
    key = config.alert_key.get_secret_value() if config.alert_key else ""
    over = time.monotonic() + _BUDGET_S
    with Line(lambda: over - time.monotonic()) as line:
        for pause_s in (*_PAUSES_S, None):
            try:
                answer = line.send("POST", config.alert_url, key, document, key_header="X-API-Key")
            except NoAnswerError as error:
                said, status = str(error), None
            else:
                if answer.status in _OK:
                    get_logger().info("the platform was told", alert=document["type"])
                    return True
                said, status = answer.words, answer.status
            if pause_s is None or not RemoteFailure(said, status=status).transient:
                break
            time.sleep(pause_s)
    get_logger().error("the platform could not be told", alert=document["type"], because=said)
    return False
