"""The responses to requests whose job could not be enqueued, in the format of FastAPI's own errors."""

from __future__ import annotations

from typing import Any

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.websockets import WebSocket

from flowli_core import StoreUnavailable, ValidationError
from flowli_starlette._errors import INVALID, ExceptionHandlers, close_invalid, on_unavailable


def jobs_exception_handlers() -> ExceptionHandlers:
    """Make the exception handlers: `FastAPI(exception_handlers=jobs_exception_handlers())`.

    StoreUnavailable becomes a 503 with Retry-After; its cause is logged, but not sent. ValidationError becomes a 422 in
    FastAPI's format, with locations that begin with "job". A websocket is closed with 1013 or 1008.
    """
    return {StoreUnavailable: on_unavailable, ValidationError: _on_invalid}


def invalid_detail(error: ValidationError) -> list[dict[str, Any]]:
    """Return the problems in the format of FastAPI's `HTTPValidationError`."""
    if not error.issues:
        return [{"type": "value_error", "loc": ["job"], "msg": str(error)}]
    return [
        {"type": "value_error", "loc": ["job", *filter(None, issue.path.split("."))], "msg": issue.problem}
        for issue in error.issues
    ]


async def _on_invalid(connection: HTTPConnection, error: ValidationError) -> Any:
    if isinstance(connection, WebSocket):
        return await close_invalid(connection)
    return JSONResponse({"detail": invalid_detail(error)}, status_code=INVALID)
