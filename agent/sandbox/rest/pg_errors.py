"""PostgreSQL's errors as HTTP: the SQLSTATE decides on the status, the words stay PostgreSQL's own."""

import psycopg

from agent.sandbox.rest.errors import ApiError, bad_raise, connection_lost
from agent.sandbox.rest.strict_json import load_object

_EXACT = {
    "23503": 409,
    "23505": 409,
    "25006": 405,
    "53400": 500,
    "57P01": 503,
    "42883": 404,
    "42P01": 404,
    "42P17": 500,
    "P0001": 400,
}
_CLASSES = {
    "08": 503,
    "09": 500,
    "0L": 403,
    "0P": 403,
    "25": 500,
    "28": 403,
    "2D": 500,
    "38": 500,
    "39": 500,
    "3B": 500,
    "40": 500,
    "53": 503,
    "54": 500,
    "55": 500,
    "57": 500,
    "58": 500,
    "F0": 500,
    "HV": 500,
    "P0": 500,
    "XX": 500,
}
_CUSTOM = "PT"
_FULL_CONTROL = "PGRST"


def from_postgres(error: psycopg.Error, *, authenticated: bool) -> ApiError:
    """Word an error of a statement; without a SQLSTATE it is the connection that broke.

    Args:
        error: what psycopg raised.
        authenticated: whether the role is another than the anonymous one.
    """
    code, said = error.sqlstate, error.diag
    if code is None:
        return connection_lost(str(error))
    message = said.message_primary or ""
    if code == _FULL_CONTROL:
        return _full_control(message, said.message_detail)
    status = _status(code, message, authenticated=authenticated)
    return ApiError(
        status,
        code,
        message,
        details=said.message_detail,
        hint=said.message_hint,
        headers={"WWW-Authenticate": "Bearer"} if status == 401 else None,  # noqa: PLR2004 - Unauthorized
        reason=message if code.startswith(_CUSTOM) else None,
    )


def unfiltered(command: str) -> ApiError:
    """Refuse an UPDATE or DELETE without WHERE, as the safeupdate extension does."""
    return ApiError(400, "21000", f"{command} requires a WHERE clause")


def _status(code: str, message: str, *, authenticated: bool) -> int:
    if code == "42501":
        return 403 if authenticated else 401
    if code == "22023":
        return 401 if message.startswith("role") and message.endswith("does not exist") else 400
    if code == "21000":
        return 400 if message.endswith("requires a WHERE clause") else 500
    if code.startswith(_CUSTOM):
        return int(code[2:]) if code[2:].isdecimal() else 500
    return _EXACT.get(code) or _CLASSES.get(code[:2], 400)


def _full_control(message: str, detail: str | None) -> ApiError:
    """Read RAISE SQLSTATE 'PGRST', whose MESSAGE and DETAIL carry the whole answer as JSON."""
    said = load_object(message)
    if said is None or not {"code", "message"} <= said.keys():
        raise bad_raise(
            f"Invalid JSON value for MESSAGE: '{message}'",
            "MESSAGE must be a JSON object with obligatory keys: 'code', 'message'"
            " and optional keys: 'details', 'hint'.",
        )
    hint = (
        "DETAIL must be a JSON object with obligatory keys: 'status', 'headers'"
        " and optional key: 'status_text'."
    )
    if detail is None:
        raise bad_raise("DETAIL is missing in the RAISE statement", hint)
    answer = load_object(detail)
    if answer is None or not {"status", "headers"} <= answer.keys():
        raise bad_raise(f"Invalid JSON value for DETAIL: '{detail}'", hint)
    return ApiError(
        answer["status"],
        said["code"],
        said["message"],
        details=said.get("details"),
        hint=said.get("hint"),
        headers=answer["headers"],
        reason=answer.get("status_text"),
    )
