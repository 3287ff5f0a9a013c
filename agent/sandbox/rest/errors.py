"""Every refusal that PostgREST itself words: status, code, message, details, hint.

    PGRST0xx  the connection and the schema cache
    PGRST1xx  the request
    PGRST2xx  what the schema cache does not know
    PGRST3xx  the token

What PostgreSQL refuses is worded in pg_errors.py, what the gateway refuses in gateway.py.
"""

import json
from collections.abc import Iterable, Mapping, Sequence

from agent.sandbox.loopback.answers import Answer
from agent.sandbox.loopback.refused import RefusedError

JSON_TYPE = "application/json; charset=utf-8"


class ApiError(RefusedError):
    """A refusal with PostgREST's four fields; `reason` replaces the phrase of the status line."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        details: str | None = None,
        hint: str | None = None,
        headers: Mapping[str, str] | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(status, message, code=code, headers=headers)
        self.details = details
        self.hint = hint
        self.reason = reason


def error_body(error: ApiError) -> bytes:
    """Write the four fields in the order and the compactness of PostgREST's JSON library."""
    fields = {"code": error.code, "details": error.details, "hint": error.hint, "message": error.message}
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def error_answer(error: ApiError) -> Answer:
    """Answer with an error; a 503 says when to come again, which is at once (its delay is never set)."""
    headers = {"Content-Type": JSON_TYPE, "Proxy-Status": f"PostgREST; error={error.code}", **error.headers}
    if error.status == 503:  # noqa: PLR2004 - Service Unavailable
        headers["Retry-After"] = "0"
    answer = Answer(error_body(error), status=error.status, headers=headers)
    if error.reason:
        answer.set_status(error.status, error.reason.splitlines()[0])
    return answer


def no_connection(why: str) -> ApiError:
    """No connection could be made."""
    return ApiError(503, "PGRST000", "Database connection error.", details=why)


def connection_lost(why: str) -> ApiError:
    """The connection broke under a statement; whether it took effect is unknown."""
    return ApiError(503, "PGRST001", "Database client error. Retrying the connection.", details=why)


def no_schema_cache() -> ApiError:
    """The schema cache is being read, or could not be."""
    return ApiError(503, "PGRST002", "Could not query the database for the schema cache. Retrying.")


def pool_timeout() -> ApiError:
    """All connections stayed busy for too long."""
    return ApiError(504, "PGRST003", "Timed out acquiring connection from connection pool.")


def bad_query(message: str, details: str) -> ApiError:
    """A query parameter could not be parsed."""
    return ApiError(400, "PGRST100", message, details=details)


def bad_rpc_method(method: str) -> ApiError:
    """A function cannot be called this way."""
    return ApiError(405, "PGRST101", f"Cannot use the {method} method on RPC")


def bad_body(message: str) -> ApiError:
    """The body is not what its Content-Type promises."""
    return ApiError(400, "PGRST102", message)


def bad_range(details: str) -> ApiError:
    """The rows asked for cannot exist."""
    return ApiError(416, "PGRST103", "Requested range not satisfiable", details=details)


def unknown_schema(name: str, exposed: Sequence[str]) -> ApiError:
    """A profile header names a schema that is not exposed."""
    hint = f"Only the following schemas are exposed: {', '.join(exposed)}"
    return ApiError(406, "PGRST106", f"Invalid schema: {name}", hint=hint)


def no_media_type(accepted: Iterable[str]) -> ApiError:
    """Nothing in Accept can be produced."""
    return ApiError(406, "PGRST107", f"None of these media types are available: {', '.join(accepted)}")


def not_embedded(name: str) -> ApiError:
    """A filter or order reaches into a resource that `select` does not embed."""
    return ApiError(
        400,
        "PGRST108",
        f"'{name}' is not an embedded resource in this request",
        hint=f"Verify that '{name}' is included in the 'select' query parameter.",
    )


def bad_guc_headers() -> ApiError:
    """The database set response.headers to something else than a list of headers."""
    message = (
        "response.headers guc must be a JSON array composed of objects with a single key and a string value"
    )
    return ApiError(500, "PGRST111", message)


def bad_guc_status() -> ApiError:
    """The database set response.status to no number."""
    return ApiError(500, "PGRST112", "response.status guc must be a valid status code")


def not_singular(rows: int) -> ApiError:
    """One object was asked for, and there is not exactly one row."""
    message = "Cannot coerce the result to a single JSON object"
    return ApiError(406, "PGRST116", message, details=f"The result contains {rows} rows")


def bad_method(method: str) -> ApiError:
    """No resource has this method."""
    return ApiError(405, "PGRST117", f"Unsupported HTTP method: {method}")


def bad_raise(details: str, hint: str) -> ApiError:
    """A RAISE SQLSTATE 'PGRST' did not carry the JSON it must."""
    message = "Could not parse JSON in the \"RAISE SQLSTATE 'PGRST'\" error"
    return ApiError(500, "PGRST121", message, details=details, hint=hint)


def bad_preferences(unknown: Iterable[str]) -> ApiError:
    """handling=strict met preferences nobody knows."""
    message = "Invalid preferences given with handling=strict"
    return ApiError(400, "PGRST122", message, details=f"Invalid preferences: {', '.join(unknown)}")


def no_aggregates() -> ApiError:
    """`select` uses an aggregate, which is off unless a project turns it on."""
    return ApiError(400, "PGRST123", "Use of aggregate functions is not allowed")


def too_many_affected(rows: int) -> ApiError:
    """More rows than max-affected allows."""
    message = "Query result exceeds max-affected preference constraint"
    return ApiError(400, "PGRST124", message, details=f"The query affects {rows} rows")


def bad_path() -> ApiError:
    """Neither /table nor /rpc/function."""
    return ApiError(404, "PGRST125", "Invalid path specified in request URL")


def no_root() -> ApiError:
    """The description of the API is switched off here."""
    return ApiError(404, "PGRST126", "Root endpoint metadata is disabled")


def not_implemented(what: str) -> ApiError:
    """PostgREST's own words for a feature that is missing; here: of this stand-in."""
    return ApiError(400, "PGRST127", "Feature not implemented", details=what)


def single_max_affected() -> ApiError:
    """max-affected on a function that returns one value."""
    message = "Function must return SETOF or TABLE when max-affected preference is used with handling=strict"
    return ApiError(400, "PGRST128", message)


def unknown_column(table: str, column: str) -> ApiError:
    """The payload or `columns` names a column the table does not have."""
    return ApiError(400, "PGRST204", f"Could not find the '{column}' column of '{table}' in the schema cache")


def unknown_table(schema: str, table: str, similar: str | None) -> ApiError:
    """No such table; one that is spelled nearly so is offered."""
    hint = f"Perhaps you meant the table '{schema}.{similar}'" if similar else None
    message = f"Could not find the table '{schema}.{table}' in the schema cache"
    return ApiError(404, "PGRST205", message, hint=hint)


def unknown_function(message: str, details: str, hint: str | None) -> ApiError:
    """No function with this name takes these arguments."""
    return ApiError(404, "PGRST202", message, details=details, hint=hint)


def ambiguous_function(candidates: Iterable[str]) -> ApiError:
    """Several functions with this name take these arguments."""
    return ApiError(
        300,
        "PGRST203",
        f"Could not choose the best candidate function between: {', '.join(candidates)}",
        hint="Try renaming the parameters or the function itself in the database "
        "so function overloading can be resolved",
    )


def bad_token(message: str, *, details: str | None = None) -> ApiError:
    """The token cannot be read, or nobody known has signed it."""
    return ApiError(401, "PGRST301", message, details=details, headers=_challenge(message))


def token_required() -> ApiError:
    """No token, and nobody to be without one."""
    headers = {"WWW-Authenticate": "Bearer"}
    return ApiError(401, "PGRST302", "Anonymous access is disabled", headers=headers)


def bad_claims(message: str) -> ApiError:
    """The token is genuine, but does not hold now or is not well formed."""
    return ApiError(401, "PGRST303", message, headers=_challenge(message))


def _challenge(message: str) -> dict[str, str]:
    return {"WWW-Authenticate": f'Bearer error="invalid_token", error_description="{message}"'}
