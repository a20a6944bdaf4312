"""What a client is told when a job could not be enqueued, in the shape that FastAPI's own errors have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse
from starlette.websockets import WebSocket

from flowli_core import StoreUnavailable, ValidationError
from flowli_starlette.errors import INVALID, ExceptionHandlers, close_invalid, on_unavailable

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection


def jobs_exception_handlers() -> ExceptionHandlers:
    """Make the handlers: `FastAPI(exception_handlers=jobs_exception_handlers())`.

    StoreUnavailable is a 503 with Retry-After, whose cause is logged and not told. ValidationError is a 422 like
    FastAPI's own, with a list of places that begin with "job". A websocket is closed, with 1013 or 1008.
    """
    return {StoreUnavailable: on_unavailable, ValidationError: _on_invalid}


def invalid_detail(error: ValidationError) -> list[dict[str, Any]]:
    """Write what is wrong as FastAPI's `HTTPValidationError` has it."""
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
