"""Short-lived permissions: xet tokens, and the signatures of URLs that carry no token."""

import hmac
import secrets
import time
from dataclasses import dataclass
from typing import Literal

from agent.sandbox.hub.refused import forbidden
from agent.sandbox.loopback.refused import RefusedError

Scope = Literal["read", "write"]
TOKEN_LIFETIME_S = 900


@dataclass(frozen=True)
class XetToken:
    """What a CAS token is good for, and until when (unix seconds)."""

    value: str
    user: str | None
    scope: Scope
    expires_at: int


class Tickets:
    """Issues and checks permissions; a restarted hub honours none of them."""

    def __init__(self) -> None:
        self._tokens: dict[str, XetToken] = {}
        self._key = secrets.token_bytes(16)

    def issue(self, user: str | None, scope: Scope) -> XetToken:
        """Give out a new xet token."""
        token = XetToken(f"xet_{secrets.token_hex(24)}", user, scope, int(time.time()) + TOKEN_LIFETIME_S)
        self._tokens[token.value] = token
        return token

    def user_of(self, authorization: str) -> str | None:
        """Return who a xet token was given to."""
        token = self._tokens.get(authorization.removeprefix("Bearer "))
        return token.user if token else None

    def check(self, authorization: str | None, scope: Scope) -> None:
        """Refuse (401) a token that is unknown or has expired, (403) one that may only read."""
        token = self._tokens.get((authorization or "").removeprefix("Bearer "))
        if token is None or token.expires_at <= time.time():
            raise RefusedError(401, "Invalid or expired xet access token")
        if scope == "write" and token.scope == "read":
            raise forbidden("This xet access token may only read")

    def sign(self, text: str) -> str:
        """Sign what a URL permits."""
        return hmac.new(self._key, text.encode(), "sha256").hexdigest()[:32]

    def check_signature(self, text: str, signature: str | None) -> None:
        """Refuse (403) a URL that was not signed here for just this."""
        if not hmac.compare_digest(self.sign(text), signature or ""):
            raise forbidden("SignatureDoesNotMatch")
