"""What a training in a pod is told beside what finalize is: its child, its patience, how the pod ends."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, SecretStr

# A training needs none of these, and can do harm with each. Whoever may tell the platform's alert API that
# the job is done ends the pod with it, before the model is safe.
WITHHELD = (
    "SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_SERVICE_KEY", "SUPABASE_SECRET_KEY",
    "SUPABASE_SERVICE_ROLE_KEY_FILE", "GITHUB_TOKEN", "AGENT_NOTIFY_URLS", "ALERT_API_URL",
    "INTERNAL_API_KEY", "RUNPOD_API_KEY", "RUNPOD_TERMINATE_API_KEY",
)  # fmt: skip

# The folder that the callback reports to; `run` sets it, and knows by it what belongs to its training.
UNDER_RUN = "TRAINING_AGENT_REPORTS"

OnFinish = Literal["keep", "stop", "terminate"]


def _names(text: object) -> object:
    if not isinstance(text, str):
        return text
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    strange = [name for name in names if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)]
    if strange:
        raise ValueError(f"{strange[0]!r} is no name of a variable; names are separated by commas")
    return names


def _optional(name: str) -> Any:  # noqa: ANN401 - pydantic's FieldInfo
    return Field(default=None, validation_alias=name)


class PodSettings(BaseModel):
    """The part of Config that `run` and the release of the pod read; durations are seconds.

    `on_finish` is None where nobody said: what that means depends on who asks. `stop_after_s` is None
    where the moment depends on how the job ended.
    """

    pod_id: str | None = _optional("RUNPOD_POD_ID")
    volume_id: str | None = _optional("RUNPOD_VOLUME_ID")
    pod_key: SecretStr | None = _optional("RUNPOD_API_KEY")
    own_pod_key: SecretStr | None = _optional("RUNPOD_TERMINATE_API_KEY")
    on_finish: OnFinish | None = _optional("AGENT_ON_FINISH")
    stop_after_s: float | None = Field(None, validation_alias="AGENT_STOP_AFTER_S", ge=0, allow_inf_nan=False)
    give_up_s: float = Field(86400.0, validation_alias="AGENT_GIVE_UP_S", gt=0, allow_inf_nan=False)
    withheld: Annotated[tuple[str, ...], BeforeValidator(_names)] = Field(
        WITHHELD, validation_alias="AGENT_CHILD_ENV"
    )
    publish_on_failure: Literal["no", "checkpoint"] = Field("no", validation_alias="AGENT_PUBLISH_ON_FAILURE")
    warm: Literal["on", "off"] = Field("on", validation_alias="AGENT_WARM")
    warm_mb_s: float | None = Field(None, validation_alias="AGENT_WARM_MBPS", gt=0, allow_inf_nan=False)
