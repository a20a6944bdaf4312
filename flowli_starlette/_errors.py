"""The responses to requests whose job could not be enqueued."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket, WebSocketState

from flowli_core import StoreUnavailable, ValidationError

logger = logging.getLogger("flowli")

ExceptionHandlers: TypeAlias = dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]]

UNAVAILABLE, INVALID = 503, 422
RETRY_AFTER = "1"
TRY_LATER = "the job store is unreachable, try again in a moment"

_CLOSE_TRY_AGAIN_LATER, _CLOSE_POLICY = 1013, 1008


def jobs_exception_handlers() -> ExceptionHandlers:
    """Make the exception handlers: `Starlette(exception_handlers=jobs_exception_handlers())`.

    StoreUnavailable becomes a 503 with Retry-After; its cause is logged, but not sent. ValidationError becomes a 422
    with the place of each problem, but never the value. A websocket is closed with 1013 or 1008.
    """
    return {StoreUnavailable: on_unavailable, ValidationError: _on_invalid}


async def on_unavailable(connection: HTTPConnection, error: StoreUnavailable) -> Any:
    """Respond with 503 and Retry-After, or close the websocket."""
    logger.warning("request failed: job store unreachable: %s", error)
    if isinstance(connection, WebSocket):
        return await close(connection, _CLOSE_TRY_AGAIN_LATER, TRY_LATER)
    return JSONResponse({"detail": TRY_LATER}, status_code=UNAVAILABLE, headers={"Retry-After": RETRY_AFTER})


async def _on_invalid(connection: HTTPConnection, error: ValidationError) -> Any:
    if isinstance(connection, WebSocket):
        return await close_invalid(connection)
    issues = [{"path": issue.path, "problem": issue.problem} for issue in error.issues]
    return JSONResponse({"detail": str(error), "issues": issues}, status_code=INVALID)


async def close_invalid(websocket: WebSocket) -> None:
    """Close a websocket that sent an invalid input."""
    await close(websocket, _CLOSE_POLICY, "invalid input")


async def close(websocket: WebSocket, code: int, reason: str) -> None:
    """Close a websocket unless it is closed already. Nothing can be sent after that, so there is no response."""
    if websocket.application_state is not WebSocketState.DISCONNECTED:
        await websocket.close(code, reason)
