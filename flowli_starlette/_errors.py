"""The responses to requests in which a call of Flowli failed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket, WebSocketState

from flowli_core import DriverError, FlowliError, RecordNotFound, SchedulingError, StoreUnavailable, ValidationError
from flowli_core.embedded import is_of_client

logger = logging.getLogger("flowli")

ExceptionHandlers: TypeAlias = dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]]

UNAVAILABLE, INVALID, NOT_FOUND = 503, 422, 404
RETRY_AFTER = "1"
TRY_LATER = "the job store is unreachable, try again in a moment"
STORE_FAILED = "the job store cannot do this now"

_CLOSE_TRY_AGAIN_LATER, _CLOSE_POLICY = 1013, 1008


def jobs_exception_handlers() -> ExceptionHandlers:
    """Make the exception handlers: `Starlette(exception_handlers=jobs_exception_handlers())`.

    DriverError becomes a 503; its cause is logged, but not sent. With StoreUnavailable it has Retry-After.
    ValidationError and SchedulingError become a 422 with the place of each problem, and are logged with the line that
    made the call. RecordNotFound becomes a 404. A websocket is closed with 1013 or 1008. Other errors are mistakes in
    the program, and remain a 500; so do these three if the error `is_internal`, such as an argument of the wrong type,
    or the request carries no data.
    """
    return {
        DriverError: on_store_failure,
        ValidationError: _on_invalid,
        SchedulingError: _on_invalid,
        RecordNotFound: on_not_found,
    }


async def on_store_failure(connection: HTTPConnection, error: DriverError) -> Any:
    """Respond with 503, or close the websocket."""
    detail, headers = store_failure(error)
    if isinstance(connection, WebSocket):
        return await close(connection, _CLOSE_TRY_AGAIN_LATER, detail)
    return JSONResponse({"detail": detail}, status_code=UNAVAILABLE, headers=headers)


def store_failure(error: DriverError) -> tuple[str, dict[str, str]]:
    """Log a failure of the store, and return the detail and the headers of the response."""
    if isinstance(error, StoreUnavailable):
        logger.warning("request failed: the job store is unreachable: %s", error)
        return TRY_LATER, {"Retry-After": RETRY_AFTER}
    logger.error("request failed: the job store refused a call: %s", error)
    return STORE_FAILED, {}


async def on_not_found(connection: HTTPConnection, error: RecordNotFound) -> Any:
    """Respond with 404, or close the websocket."""
    raise_unless_of_client(connection, error)
    if isinstance(connection, WebSocket):
        return await close_invalid(connection)
    return JSONResponse({"detail": str(error)}, status_code=NOT_FOUND)


async def _on_invalid(connection: HTTPConnection, error: ValidationError | SchedulingError) -> Any:
    raise_unless_of_client(connection, error)
    if isinstance(connection, WebSocket):
        return await close_invalid(connection)
    found = error.issues if isinstance(error, ValidationError) else ()
    issues = [{"path": issue.path, "problem": issue.problem} for issue in found]
    return JSONResponse({"detail": str(error), "issues": issues}, status_code=INVALID)


def raise_unless_of_client(connection: HTTPConnection, error: FlowliError) -> None:
    """Log an error that the client may have caused. Raise any other again: it is a mistake in the program."""
    if not is_of_client(error, connection.scope):
        raise error


async def close_invalid(websocket: WebSocket) -> None:
    """Close a websocket that sent an invalid input."""
    await close(websocket, _CLOSE_POLICY, "invalid input")


async def close(websocket: WebSocket, code: int, reason: str) -> None:
    """Close a websocket unless it is closed already. Nothing can be sent after that, so there is no response."""
    if websocket.application_state is not WebSocketState.DISCONNECTED:
        await websocket.close(code, reason)
