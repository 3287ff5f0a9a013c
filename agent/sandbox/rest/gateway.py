"""What stands before PostgREST at Supabase: API keys, which it turns into tokens.

The order of the translation is that of the self-hosted gateway (docker/volumes/api/kong-entrypoint.sh).
"""

import hmac
from dataclasses import dataclass

from agent.sandbox.loopback.answers import Answer, json_answer
from agent.sandbox.loopback.refused import RefusedError

_OPAQUE = "Bearer sb_"


@dataclass(frozen=True)
class Keys:
    """The keys of a project: two opaque ones, and the two tokens that serve as keys or stand for them."""

    publishable: str
    secret: str
    anon: str
    service: str

    def knows(self, key: str) -> bool:
        """Say whether this is a key of the project."""
        known = (self.publishable, self.secret, self.anon, self.service)
        return any(hmac.compare_digest(key.encode(), one.encode()) for one in known)


def authorization(keys: Keys, key: str | None, sent: str | None) -> str:
    """Return the Authorization that reaches PostgREST for an `apikey` header and the Authorization sent.

    A token of a user passes. An opaque key stands for the token of its role. A legacy key without an
    Authorization is handed on bare, which PostgREST does not take for a token: its bearer is anonymous.

    Raises:
        RefusedError: 401 without a key or with an unknown one.
    """
    if key is None:
        raise RefusedError(
            401,
            "No API key found in request",
            body={"hint": "No `apikey` request header or url param was found."},
        )
    opaque = (sent or "").startswith(_OPAQUE)
    if not keys.knows(key) or (opaque and sent != f"Bearer {key}"):
        raise RefusedError(
            401,
            "Invalid API key",
            body={"hint": "Double check your Supabase `anon` or `service_role` API key."},
        )
    if sent and not opaque:
        return sent
    return {keys.secret: f"Bearer {keys.service}", keys.publishable: f"Bearer {keys.anon}"}.get(key, key)


def no_route() -> RefusedError:
    """Refuse a path that belongs to no service."""
    return RefusedError(404, "no Route matched with those values")


def refusal(error: RefusedError) -> Answer:
    """Put a refusal into the gateway's words: a message, perhaps a hint, never a code."""
    return json_answer({"message": error.message, **error.body}, status=error.status, headers=error.headers)
