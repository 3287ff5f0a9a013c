"""An answer other than success, raised anywhere and put into words by the service."""

from collections.abc import Mapping
from typing import Any


class RefusedError(Exception):
    """An answer other than success: status, message, the service's code, and what else its body says."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = dict(headers or {})
        self.body = dict(body or {})
