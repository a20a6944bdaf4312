"""The responses to requests in which a call of Flowli failed, in the format of FastAPI's own errors."""

from __future__ import annotations

from typing import Any

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.websockets import WebSocket

from flowli_core import DriverError, Issue, RecordNotFound, SchedulingError, ValidationError
from flowli_starlette._errors import (
    INVALID,
    ExceptionHandlers,
    close_invalid,
    on_not_found,
    on_store_failure,
    raise_unless_of_client,
)


def jobs_exception_handlers() -> ExceptionHandlers:
    """Make the exception handlers: `FastAPI(exception_handlers=jobs_exception_handlers())`.

    DriverError becomes a 503; its cause is logged, but not sent. With StoreUnavailable it has Retry-After.
    ValidationError and SchedulingError become a 422 in FastAPI's format, with locations that begin with "job", and are
    logged with the line that made the call. RecordNotFound becomes a 404. A websocket is closed with 1013 or 1008.
    Other errors are mistakes in the program, and remain a 500; so do these three if the error `is_internal`, such as an
    argument of the wrong type, or the request carries no data.
    """
    return {
        DriverError: on_store_failure,
        ValidationError: _on_invalid,
        SchedulingError: _on_invalid,
        RecordNotFound: on_not_found,
    }


def invalid_detail(error: ValidationError | SchedulingError, *location: str) -> list[dict[str, Any]]:
    """Return the problems in the format of FastAPI's `HTTPValidationError`, at this location."""
    issues = error.issues if isinstance(error, ValidationError) else ()
    return [
        {"type": "value_error", "loc": [*location, *filter(None, issue.path.split("."))], "msg": issue.problem}
        for issue in issues or [Issue("", str(error))]
    ]


async def _on_invalid(connection: HTTPConnection, error: ValidationError | SchedulingError) -> Any:
    raise_unless_of_client(connection, error)
    if isinstance(connection, WebSocket):
        return await close_invalid(connection)
    return JSONResponse({"detail": invalid_detail(error, "job")}, status_code=INVALID)
