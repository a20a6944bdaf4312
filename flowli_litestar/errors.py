"""What a client is told when a job could not be enqueued, in the shape that Litestar's own errors have."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from litestar.exceptions import ClientException, ServiceUnavailableException, responses

from flowli_core import StoreUnavailable, ValidationError

if TYPE_CHECKING:
    from litestar import Request, Response
    from litestar.exceptions import HTTPException

logger = logging.getLogger("flowli")

_INVALID = 422
_TRY_LATER = "the job could not be stored just now, try again in a moment"


def on_unavailable(request: Request[Any, Any, Any], error: StoreUnavailable) -> Response[Any]:
    """Ask for patience. The cause is logged, and not told."""
    logger.warning("a request could not be served, because the store is away: %s", error)
    return _answered(request, ServiceUnavailableException(detail=_TRY_LATER, headers={"Retry-After": "1"}))


def on_invalid(request: Request[Any, Any, Any], error: ValidationError) -> Response[Any]:
    """Say where the input is wrong, never what it was."""
    extra = [{"key": issue.path, "message": issue.problem} for issue in error.issues]
    return _answered(request, ClientException(status_code=_INVALID, detail=str(error), extra=extra or None))


def _answered(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    answers: Any = responses  # some of its types are not known
    answer: Response[Any] = answers.create_exception_response(request, error)
    return answer
