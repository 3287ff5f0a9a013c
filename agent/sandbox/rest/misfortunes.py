"""What happens to requests on their way to Supabase, as faults to put in force.

Each takes the keywords `match`, `nth` and `times` of a fault.
"""

import json
from typing import TypedDict, Unpack

from agent.sandbox.loopback.faults import Fault
from agent.sandbox.rest.errors import error_body, no_schema_cache

_SIGN_IN = "<html><head><title>Sign in</title></head><body>Sign in to use this network.</body></html>"
_BAD_GATEWAY = (
    "<html>\n<head><title>502 Bad Gateway</title></head>\n<body>\n<h1>502 Bad Gateway</h1>\n</body>\n</html>"
)


class Which(TypedDict, total=False):
    """Which requests are struck."""

    match: str
    nth: int | set[int] | None


class When(Which, total=False):
    """Which requests are struck, and how often."""

    times: int | None


def html_200(**when: Unpack[When]) -> Fault:
    """A captive portal answers instead: success, but a page."""
    return Fault("status", status=200, body=_SIGN_IN, **when)


def html_502(**when: Unpack[When]) -> Fault:
    """The proxy in front finds nobody behind it."""
    return Fault("status", status=502, body=_BAD_GATEWAY, **when)


def redirect(status: int, location: str, **when: Unpack[When]) -> Fault:
    """The service has moved, or somebody says so; 302 and 303 turn a PATCH into a GET."""
    return Fault("status", status=status, body="<html></html>", headers={"Location": location}, **when)


def schema_reload(times: int | None = None, **which: Unpack[Which]) -> Fault:
    """PostgREST has no schema cache for the next requests."""
    error = no_schema_cache()
    headers = {"Proxy-Status": f"PostgREST; error={error.code}"}
    body = error_body(error).decode()
    return Fault(
        "status", status=error.status, retry_after=0, body=body, headers=headers, times=times, **which
    )


def rate_limited(retry_after: int | None = None, **when: Unpack[When]) -> Fault:
    """The gateway wants fewer requests."""
    body = json.dumps({"message": "API rate limit exceeded"})
    return Fault("status", status=429, retry_after=retry_after, body=body, **when)


def paused_project(**when: Unpack[When]) -> Fault:
    """The project has been paused for want of use."""
    return Fault("status", status=540, body=json.dumps({"message": "Project paused"}), **when)
