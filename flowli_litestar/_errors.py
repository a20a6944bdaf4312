"""The responses to requests in which a call of Flowli failed, in the format of Litestar's own errors."""

from __future__ import annotations

import logging
from typing import Any

from litestar import Request, Response
from litestar.exceptions import (
    ClientException,
    HTTPException,
    InternalServerException,
    NotFoundException,
    ServiceUnavailableException,
    responses,
)

from flowli_core import DriverError, RecordNotFound, SchedulingError, StoreUnavailable, ValidationError
from flowli_core.embedded import is_of_client

logger = logging.getLogger("flowli")

_INVALID = 422
_TRY_LATER = "the job store is unreachable, try again in a moment"
_STORE_FAILED = "the job store cannot do this now"


def on_store_failure(request: Request[Any, Any, Any], error: DriverError) -> Response[Any]:
    """Respond with 503, and with Retry-After if the store is unreachable. The cause is logged, but not sent."""
    if isinstance(error, StoreUnavailable):
        logger.warning("request failed: the job store is unreachable: %s", error)
        return _respond(request, ServiceUnavailableException(detail=_TRY_LATER, headers={"Retry-After": "1"}))
    logger.error("request failed: the job store refused a call: %s", error)
    return _respond(request, ServiceUnavailableException(detail=_STORE_FAILED))


def on_invalid(request: Request[Any, Any, Any], error: ValidationError | SchedulingError) -> Response[Any]:
    """Respond with 422 and the place of each problem, or with 500 if the client cannot have caused the error.

    Both are logged, because Litestar itself logs no errors by default.
    """
    if not is_of_client(error, request.scope):
        logger.error("request failed", exc_info=error)
        return _respond(request, InternalServerException())
    found = error.issues if isinstance(error, ValidationError) else ()
    extra = [{"key": issue.path, "message": issue.problem} for issue in found]
    return _respond(request, ClientException(status_code=_INVALID, detail=str(error), extra=extra or None))


def on_not_found(request: Request[Any, Any, Any], error: RecordNotFound) -> Response[Any]:
    """Respond with 404, or with 500 if the client cannot have caused the error."""
    if not is_of_client(error, request.scope):
        logger.error("request failed", exc_info=error)
        return _respond(request, InternalServerException())
    return _respond(request, NotFoundException(detail=str(error)))


def _respond(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    untyped: Any = responses  # some of its types are incomplete
    response: Response[Any] = untyped.create_exception_response(request, error)
    return response
