"""The body of a write or a call: JSON whose keys are known before PostgreSQL sees it."""

from dataclasses import dataclass
from typing import Any

from agent.sandbox.rest.errors import bad_body
from agent.sandbox.rest.media import JSON
from agent.sandbox.rest.strict_json import loads

_UNIFORM = "All object keys must match"


@dataclass(frozen=True)
class Payload:
    """JSON as it was sent, and the keys it sets."""

    text: str
    keys: tuple[str, ...]

    @property
    def is_object(self) -> bool:
        """Whether it is one object rather than a list of them."""
        return self.text.lstrip(" \t\r\n").startswith("{")


def parse_payload(
    body: bytes, media: str, columns: tuple[str, ...] | None, *, calls: bool = False
) -> Payload:
    """Parse a body; `columns` names the keys that count, and leaves the rest to PostgreSQL.

    Raises:
        ApiError: PGRST102.
    """
    if media != JSON:
        raise bad_body(f"Content-Type not acceptable: {media}")
    if calls and not body:
        body = b"{}"
    try:
        text = body.decode()
        value = None if columns is not None else loads(text)
    except ValueError as error:
        raise bad_body("Empty or invalid json") from error
    if columns is not None:
        return Payload(text, tuple(sorted(set(columns))))
    return _described(text, value)


def _described(text: str, value: Any) -> Payload:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return Payload(text, tuple(sorted(value)))
    if not isinstance(value, list) or not value:
        return Payload("[]", ())  # a bare number or text counts as nothing
    keys = value[0].keys() if isinstance(value[0], dict) else None
    if keys is None or any(not isinstance(one, dict) or one.keys() != keys for one in value):
        raise bad_body(_UNIFORM)
    return Payload(text, tuple(sorted(keys)))
