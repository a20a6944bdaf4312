"""The responses to requests whose job could not be enqueued, in the format of Litestar's own errors."""

from __future__ import annotations

import logging
from typing import Any

from litestar import Request, Response
from litestar.exceptions import ClientException, HTTPException, ServiceUnavailableException, responses

from flowli_core import StoreUnavailable, ValidationError

logger = logging.getLogger("flowli")

_INVALID = 422
_TRY_LATER = "the job store is unreachable, try again in a moment"


def on_unavailable(request: Request[Any, Any, Any], error: StoreUnavailable) -> Response[Any]:
    """Respond with 503 and Retry-After. The cause is logged, but not sent."""
    logger.warning("request failed: job store unreachable: %s", error)
    return _respond(request, ServiceUnavailableException(detail=_TRY_LATER, headers={"Retry-After": "1"}))


def on_invalid(request: Request[Any, Any, Any], error: ValidationError) -> Response[Any]:
    """Respond with 422 and the place of each problem, but never the value."""
    extra = [{"key": issue.path, "message": issue.problem} for issue in error.issues]
    return _respond(request, ClientException(status_code=_INVALID, detail=str(error), extra=extra or None))


def _respond(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    untyped: Any = responses  # some of its types are incomplete
    response: Response[Any] = untyped.create_exception_response(request, error)
    return response
