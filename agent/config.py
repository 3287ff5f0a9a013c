"""The environment, read once: every problem reported together, every secret kept out of sight."""

from __future__ import annotations

import difflib
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import unquote_plus
from uuid import UUID  # noqa: TC003 - pydantic reads the annotation

from pydantic import (
    AfterValidator,
    AliasChoices,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)

from agent import log
from agent.artifact_config import ArtifactSettings
from agent.database_config import DATABASE_FIELDS, JobDatabase, database_warnings, filled_in, project_url
from agent.errors import ConfigError
from agent.notify_config import NotifySettings, header_safe, secrets_in
from agent.pod_config import UNDER_RUN, PodSettings
from agent.ranks import other_rank
from agent.telemetry import tracing
from agent.training_config import DEFAULT_PATH, TrainingConfig, read_training_config

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_ENDPOINT = "https://huggingface.co"
DEFAULT_OUTPUT_DIR = Path("/workspace/fine_tuned_model")
_SECRET_FILES = (
    "HF_TOKEN", "JOB_TOKEN", "SUPABASE_ANON_KEY", "SUPABASE_SERVICE_ROLE_KEY",
)  # fmt: skip
_SECRET_NAME = re.compile(r"(TOKEN|SECRET|PASSWORD|_KEY|API_KEY)$")


def _no_slash(url: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", url):
        raise ValueError("must be a URL such as https://huggingface.co")
    return url.rstrip("/")


def _filled_in(key: SecretStr) -> SecretStr:
    filled_in(key.get_secret_value())
    return key


_Token = Annotated[SecretStr, AfterValidator(header_safe)]
_Key = Annotated[SecretStr, AfterValidator(_filled_in)]


def _names(*names: str) -> Any:  # noqa: ANN401 - pydantic's FieldInfo
    return Field(default=None, validation_alias=AliasChoices(*names))


class Config(ArtifactSettings, PodSettings, NotifySettings):
    """What one finalize was asked to do; frozen, its secrets hidden in `repr`."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
        str_strip_whitespace=True,
        arbitrary_types_allowed=True,
    )

    hf_token: _Token | None = _names("HF_TOKEN")
    repo_name: str | None = _names("HF_REPO_NAME")
    hf_username: str | None = _names("HF_USERNAME")
    revision: str = Field("main", validation_alias="HF_REVISION", pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")
    endpoint: Annotated[str, AfterValidator(_no_slash)] = Field(
        DEFAULT_ENDPOINT, validation_alias="HF_ENDPOINT"
    )
    private: bool | None = _names("HF_REPO_PRIVATE")
    output_dir: Path = Field(DEFAULT_OUTPUT_DIR, validation_alias="OUTPUT_DIR")
    commit_message: str | None = _names("AGENT_COMMIT_MESSAGE")
    job_id: UUID | None = _names("JOB_ID", "AGENT_JOB_ID")
    job_token: _Token | None = _names("JOB_TOKEN")
    supabase_url: Annotated[str, AfterValidator(project_url)] | None = _names(
        "SUPABASE_URL", "NEXT_PUBLIC_SUPABASE_URL"
    )
    supabase_anon_key: _Key | None = _names(
        "SUPABASE_ANON_KEY", "SUPABASE_PUBLISHABLE_KEY", "NEXT_PUBLIC_SUPABASE_ANON_KEY"
    )
    supabase_service_key: _Key | None = _names(
        "SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_SERVICE_KEY", "SUPABASE_SECRET_KEY"
    )
    jobs_table: str = Field(
        "local_training_jobs", validation_alias="JOBS_TABLE", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"
    )
    training_method: str | None = _names("TRAINING_METHOD")
    training_config_name: str | None = _names("TRAINING_CONFIG_NAME", "CONFIG_NAME")
    training_config_id: str | None = _names("TRAINING_CONFIG_ID")
    base_model: str | None = _names("BASE_MODEL", "MODEL_NAME")
    dataset: str | None = _names("DATASET")
    gpu_name: str | None = _names("RUNPOD_GPU_NAME")
    gpu_count: str | None = _names("RUNPOD_GPU_COUNT")
    git_revision: str | None = _names("GITHUB_SHA")
    git_ref: str | None = _names("GITHUB_REF")
    state_dir: Path = Field(Path(), validation_alias="AGENT_STATE_DIR")
    stall_s: float = Field(900.0, validation_alias="AGENT_STALL_S", gt=0)
    deadline_s: float | None = Field(None, validation_alias="AGENT_DEADLINE_S", gt=0)
    log_format: Literal["console", "json"] | None = _names("AGENT_LOG_FORMAT")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", validation_alias="AGENT_LOG_LEVEL"
    )
    hyperparameters: dict[str, str | bool | float] = Field(default_factory=dict)
    other_rank: str | None = None
    under_run: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def hardware(self) -> str | None:
        """The GPUs of the pod, as RunPod names them."""
        if not self.gpu_name:
            return None
        name = unquote_plus(self.gpu_name)
        return f"{self.gpu_count} x {name}" if self.gpu_count and self.gpu_count.isdecimal() else name

    @property
    def origin(self) -> dict[str, str]:
        """Where a job comes from, for its audit trail: the code, who started the workflow, its page."""
        known = {"git_revision": self.git_revision, "actor": self.github_actor, "run": self.run_url}
        return {name: value for name, value in known.items() if value}

    @property
    def token(self) -> str | None:
        """The Hub token in clear, for the one place that sends it."""
        return self.hf_token.get_secret_value() if self.hf_token else None

    @property
    def job_database(self) -> JobDatabase | None:
        """Where the job's row is; None when it is a local file. The weaker of two keys is the right one."""
        key = self.supabase_anon_key or self.supabase_service_key
        if not (self.supabase_url and key and self.job_id):
            return None
        token = self.job_token.get_secret_value() if self.job_token else None
        return JobDatabase(self.supabase_url, key.get_secret_value(), token, self.jobs_table)


def variables() -> dict[str, tuple[str, ...]]:
    """Field name to its variables, the canonical one first: what README's table must list."""
    found = {}
    for name, field in Config.model_fields.items():
        alias = field.validation_alias
        if isinstance(alias, AliasChoices):
            found[name] = tuple(str(choice) for choice in alias.choices)
        elif alias:
            found[name] = (str(alias),)
    return found


def load(environ: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None) -> Config:
    """Turn the environment and the flags (by canonical variable name) into a Config.

    Every secret value seen is registered with the log's redaction before anything can be printed.

    Raises:
        ConfigError: naming every variable that is wrong, all in one message.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {name: value.strip() for name, value in environ.items() if value.strip()}
    log.hide(value for name, value in values.items() if _SECRET_NAME.search(name))
    log.hide(secrets_in(values.get("AGENT_NOTIFY_URLS", "")))
    log.hide(tracing.secrets_in(values))
    problems: list[str] = []
    for name in _SECRET_FILES:
        _read_secret_file(name, values, problems)
    if _given("supabase_url", values) and not (
        _given("supabase_anon_key", values) or _given("supabase_service_key", values)
    ):
        problems.append("SUPABASE_ANON_KEY: missing; SUPABASE_URL alone opens no database")
    training = _training(values, problems)
    given = {name: value for name, value in (flags or {}).items() if value is not None and str(value).strip()}
    of_database = {field: _given(field, values | given) for field in DATABASE_FIELDS}
    warned = (*_warnings(values), *database_warnings(of_database, values | given))
    found = {
        "warnings": warned,
        "hyperparameters": training.hyperparameters,
        "other_rank": other_rank(values),
        "under_run": UNDER_RUN in values,
    }
    values = _defaults(values, training) | values | given | found
    try:
        config = _validated(values)
    except ValidationError as error:
        problems += [_sentence(detail) for detail in _details(error)]
    if problems:
        raise ConfigError(
            "; ".join(problems), hint="Correct the named variables; the README's table lists them all."
        )
    return config


def _validated(values: dict[str, Any]) -> Config:
    """A Config of these values; who only wants to hear of a job is left out when the address is wrong.

    Raises:
        ValidationError: something that the job itself needs is wrong.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        wrong = {str(detail["loc"][0]): _sentence(detail) for detail in _details(error)}
    ours = {name for field in NotifySettings.model_fields for name in variables()[field]}
    ignored = tuple(f"ignored, {said}" for name, said in wrong.items() if name in ours)
    left = {name: value for name, value in values.items() if name not in wrong.keys() & ours}
    return Config.model_validate(left | {"warnings": (*values["warnings"], *ignored)})


def _details(error: ValidationError) -> list[Any]:
    return error.errors(include_url=False, include_input=False)


def asked_log_format(environ: Mapping[str, str] | None = None) -> str | None:
    """The log format as far as it is known before the configuration is: its errors are logged, too."""
    asked = (os.environ if environ is None else environ).get("AGENT_LOG_FORMAT", "").strip()
    return asked if asked in {"console", "json"} else None


def _defaults(values: Mapping[str, Any], training: TrainingConfig) -> dict[str, Any]:
    found: dict[str, Any] = {
        "AGENT_STATE_DIR": _state_dir(values),
        "OUTPUT_DIR": training.output_dir or DEFAULT_OUTPUT_DIR,
    }
    # Names that have an alias are only filled in when no alias was given.
    for names, value in (
        (("TRAINING_METHOD",), training.method),
        (("BASE_MODEL", "MODEL_NAME"), training.base_model),
        (("DATASET",), training.dataset),
    ):
        if value and not any(name in values for name in names):
            found[names[0]] = value
    return found


def _state_dir(values: Mapping[str, Any]) -> Path:
    if Path("/workspace").is_dir():
        return Path("/workspace/.agent")
    home = values.get("HOME") or tempfile.gettempdir()  # some containers run users who have no home
    return Path(values.get("XDG_STATE_HOME") or f"{home}/.local/state") / "training-agent"


def _training(values: Mapping[str, Any], problems: list[str]) -> TrainingConfig:
    path = Path(values.get("TRAINING_CONFIG", DEFAULT_PATH))
    try:
        if "TRAINING_CONFIG" not in values and not path.is_file():
            return TrainingConfig()
        return read_training_config(path)
    except (OSError, ValueError) as error:
        problems.append(f"TRAINING_CONFIG: {path} cannot be used: {error}")
        return TrainingConfig()


def _read_secret_file(name: str, values: dict[str, Any], problems: list[str]) -> None:
    path = values.get(f"{name}_FILE")
    if path is None or name in values:
        return
    try:
        secret = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{name}_FILE: {path} cannot be read: {error}")
        return
    if secret:
        log.hide([secret])
        values[name] = secret


def _warnings(values: Mapping[str, Any]) -> tuple[str, ...]:
    known = {name for names in variables().values() for name in names}
    said = []
    for name in sorted(name for name in values if name.startswith("AGENT_")):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            said.append(
                f"{name} is not a variable of this agent" + (f"; did you mean {near[0]}?" if near else "")
            )
    return tuple(said)


def _given(field: str, values: Mapping[str, Any]) -> list[str]:
    return [name for name in variables()[field] if name in values]


def _sentence(detail: Any) -> str:  # noqa: ANN401 - pydantic's ErrorDetails
    name = str(detail["loc"][0]) if detail["loc"] else "?"
    return f"{name}: {str(detail['msg']).removeprefix('Value error, ')}"
