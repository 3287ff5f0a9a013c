"""JSON web tokens signed with a shared secret: made for tests, and read as PostgREST reads them."""

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from agent.sandbox.rest.errors import bad_claims, bad_token
from agent.sandbox.rest.strict_json import load_object

SKEW_S = 30
_PARTS = 3
_HASHES = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}


def mint(claims: Mapping[str, Any], secret: str) -> str:
    """Return a token with exactly these claims, signed with HS256."""
    parts = [
        json.dumps(part, separators=(",", ":")).encode() for part in ({"alg": "HS256", "typ": "JWT"}, claims)
    ]
    signed = b".".join(map(_encode, parts))
    return b".".join((signed, _encode(_signature(signed, secret, "HS256")))).decode()


def read(token: str, secret: str, *, clock: Callable[[], float] = time.time) -> dict[str, Any]:
    """Return the claims of a token that this secret signed and that holds now, give or take SKEW_S.

    Raises:
        ApiError: PGRST301 for a token that cannot be trusted, PGRST303 for claims that do not hold.
    """
    if not token:
        raise bad_token("Empty JWT is sent in Authorization header")
    parts = token.split(".")
    if len(parts) != _PARTS:
        raise bad_token(f"Expected 3 parts in JWT; got {len(parts)}")
    header, payload, signature = map(_decode, parts)
    _check_signature(load_object(header), token, signature, secret)
    claims = load_object(payload)
    if claims is None:
        raise bad_claims("Parsing claims failed")
    _check_claims(claims, int(clock()))
    return claims


def _check_signature(header: dict[str, Any] | None, token: str, signature: bytes, secret: str) -> None:
    algorithm = header.get("alg") if header else None
    if algorithm == "none":
        raise bad_token(
            "Wrong or unsupported encoding algorithm",
            details="JWT is unsecured but expected 'alg' was not 'none'",
        )
    if algorithm not in _HASHES:
        raise bad_token("JWT couldn't be decoded")
    signed = token.rpartition(".")[0].encode()
    if not hmac.compare_digest(signature, _signature(signed, secret, algorithm)):
        raise bad_token(
            "No suitable key or wrong key type", details="None of the keys was able to decode the JWT"
        )


def _check_claims(claims: dict[str, Any], now: int) -> None:
    if (expires := _seconds(claims, "exp")) is not None and expires < now - SKEW_S:
        raise bad_claims("JWT expired")
    if (starts := _seconds(claims, "nbf")) is not None and starts > now + SKEW_S:
        raise bad_claims("JWT not yet valid")
    if (issued := _seconds(claims, "iat")) is not None and issued > now + SKEW_S:
        raise bad_claims("JWT issued at future")
    audience = claims.get("aud")
    names = audience if isinstance(audience, list) else [audience]
    if audience is not None and not all(isinstance(name, str) for name in names):
        raise bad_claims("The JWT 'aud' claim must be a string or an array of strings")


def _seconds(claims: dict[str, Any], name: str) -> int | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise bad_claims(f"The JWT '{name}' claim must be a number")
    whole = isinstance(value, int) or value.is_integer()
    return int(value) if whole else 0  # a fraction counts as 0 there too


def _signature(signed: bytes, secret: str, algorithm: str) -> bytes:
    return hmac.new(secret.encode(), signed, _HASHES[algorithm]).digest()


def _encode(part: bytes) -> bytes:
    return base64.urlsafe_b64encode(part).rstrip(b"=")


def _decode(part: str) -> bytes:
    try:
        return base64.b64decode(part.encode() + b"=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise bad_token("JWT cryptographic operation failed") from error
