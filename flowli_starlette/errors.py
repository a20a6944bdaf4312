"""What a client is told when a job could not be enqueued."""

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
TRY_LATER = "the job could not be stored just now, try again in a moment"

_CLOSE_TRY_AGAIN_LATER, _CLOSE_POLICY = 1013, 1008


def jobs_exception_handlers() -> ExceptionHandlers:
    """Make the handlers: `Starlette(exception_handlers=jobs_exception_handlers())`.

    StoreUnavailable is a 503 with Retry-After, whose cause is logged and not told; ValidationError is a 422 that says
    where the input is wrong, never what it was. A websocket is closed, with 1013 or 1008.
    """
    return {StoreUnavailable: on_unavailable, ValidationError: _on_invalid}


async def on_unavailable(connection: HTTPConnection, error: StoreUnavailable) -> Any:
    """Ask for patience."""
    logger.warning("a request could not be served, because the store is away: %s", error)
    if isinstance(connection, WebSocket):
        return await close(connection, _CLOSE_TRY_AGAIN_LATER, TRY_LATER)
    return JSONResponse({"detail": TRY_LATER}, status_code=UNAVAILABLE, headers={"Retry-After": RETRY_AFTER})


async def _on_invalid(connection: HTTPConnection, error: ValidationError) -> Any:
    if isinstance(connection, WebSocket):
        return await close_invalid(connection)
    issues = [{"path": issue.path, "problem": issue.problem} for issue in error.issues]
    return JSONResponse({"detail": str(error), "issues": issues}, status_code=INVALID)


async def close_invalid(websocket: WebSocket) -> None:
    """Close a websocket over which something invalid came."""
    await close(websocket, _CLOSE_POLICY, "invalid input")


async def close(websocket: WebSocket, code: int, reason: str) -> None:
    """Close a websocket that is not closed yet. Nothing is sent after that, so there is no response."""
    if websocket.application_state is not WebSocketState.DISCONNECTED:
        await websocket.close(code, reason)
