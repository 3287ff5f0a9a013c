"""Who hears how a job ended, beside its row: their addresses and keys, and what their messages link to."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, Field, SecretStr

# An address may hold commas and spaces of its own; the next one begins with its scheme.
_BETWEEN_URLS = re.compile(r"[\s,]+(?=[A-Za-z][A-Za-z0-9+.-]*://)")
_REPO = r"^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$"


def _urls(text: object) -> object:
    if not isinstance(text, str):
        return text
    urls = [url.strip().rstrip(",") for url in _BETWEEN_URLS.split(text.strip())]
    if any("://" not in url for url in urls):
        raise ValueError("must be addresses such as slack://… or mailto://…, separated by commas")
    return tuple(SecretStr(url) for url in urls)


def header_safe(token: SecretStr) -> SecretStr:
    """Return a token that can travel in a header.

    Raises:
        ValueError: it cannot.
    """
    if not re.fullmatch(r"[!-~]+", token.get_secret_value()):
        raise ValueError("contains characters that no token has; was it copied whole, without a line break?")
    return token


def web_address(url: str) -> str:
    """Return the address of a web service, without a slash at its end.

    Raises:
        ValueError: it is none.
    """
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", url):
        raise ValueError("must be a URL such as https://app.example.com/api")
    return url.rstrip("/")


_Address = Annotated[str, AfterValidator(web_address)]
_Token = Annotated[SecretStr, AfterValidator(header_safe)]


def _optional(*names: str) -> Any:  # noqa: ANN401 - pydantic's FieldInfo
    return Field(default=None, validation_alias=AliasChoices(*names))


class NotifySettings(BaseModel):
    """The part of Config that notifications read."""

    notify_urls: Annotated[tuple[SecretStr, ...], BeforeValidator(_urls)] = Field(
        (), validation_alias="AGENT_NOTIFY_URLS"
    )
    alert_url: _Address | None = _optional("ALERT_API_URL")
    alert_key: _Token | None = _optional("INTERNAL_API_KEY")
    user_id: str | None = _optional("USER_ID", "JOB_USER_ID")
    github_token: _Token | None = _optional("GITHUB_TOKEN")
    github_repository: Annotated[str, Field(pattern=_REPO)] | None = _optional("GITHUB_REPOSITORY")
    github_api: _Address = Field("https://api.github.com", validation_alias="GITHUB_API_URL")
    github_server: _Address = Field("https://github.com", validation_alias="GITHUB_SERVER_URL")
    github_run: Annotated[str, Field(pattern=r"^\d+$")] | None = _optional("GITHUB_RUN_ID")
    github_actor: str | None = _optional("GITHUB_ACTOR")

    @property
    def run_url(self) -> str | None:
        """The page of the workflow run that this is part of; its log is there."""
        if not (self.github_run and self.github_repository):
            return None
        return f"{self.github_server}/{self.github_repository}/actions/runs/{self.github_run}"


def secrets_in(urls: str) -> set[str]:
    """What must not be shown of the addresses in AGENT_NOTIFY_URLS: each whole, and every part like a key."""
    found = set()
    for url in _BETWEEN_URLS.split(urls.strip()):
        found.add(url)
        rest = url.partition("://")[2]
        user, at, _ = rest.rpartition("@")
        if at:
            found.add(user.partition(":")[2])
        found |= {part for part in re.split(r"[/:@?&=#,\s]+", rest) if _like_a_key(part)}
    return found


def _like_a_key(part: str) -> bool:
    """Whether a part of an address is a word that only keys are: long, and of digits and letters."""
    shortest = 8
    return len(part) >= shortest and "." not in part and re.search(r"\d", part) is not None
