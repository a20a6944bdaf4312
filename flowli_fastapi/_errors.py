"""The responses to requests whose job could not be enqueued, in the format of FastAPI's own errors."""

from __future__ import annotations

from typing import Any

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.websockets import WebSocket

from flowli_core import DriverError, SchedulingError, ValidationError
from flowli_starlette._errors import INVALID, ExceptionHandlers, close_invalid, on_store_failure


def jobs_exception_handlers() -> ExceptionHandlers:
    """Make the exception handlers: `FastAPI(exception_handlers=jobs_exception_handlers())`.

    DriverError becomes a 503; its cause is logged, but not sent. With StoreUnavailable it has Retry-After.
    ValidationError and SchedulingError become a 422 in FastAPI's format, with locations that begin with "job". A
    websocket is closed with 1013 or 1008. Other errors are mistakes in the program, and remain a 500.
    """
    return {DriverError: on_store_failure, ValidationError: _on_invalid, SchedulingError: _on_invalid}


def invalid_detail(error: ValidationError | SchedulingError) -> list[dict[str, Any]]:
    """Return the problems in the format of FastAPI's `HTTPValidationError`."""
    if isinstance(error, SchedulingError) or not error.issues:
        return [{"type": "value_error", "loc": ["job"], "msg": str(error)}]
    return [
        {"type": "value_error", "loc": ["job", *filter(None, issue.path.split("."))], "msg": issue.problem}
        for issue in error.issues
    ]


async def _on_invalid(connection: HTTPConnection, error: ValidationError | SchedulingError) -> Any:
    if isinstance(connection, WebSocket):
        return await close_invalid(connection)
    return JSONResponse({"detail": invalid_detail(error)}, status_code=INVALID)
