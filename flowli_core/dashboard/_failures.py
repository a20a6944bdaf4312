"""The pages for requests that fail."""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from flowli_core.dashboard._site import Site
from flowli_core.errors import DriverError, FlowliError, RecordNotFound, StoreUnavailable

Handler = Callable[[Request, Exception], Awaitable[Response]]

_RETRY_SECONDS = 5
_AFTER_PAGE = "This page tries again every few seconds."
_AFTER_ACTION = "The action may have been done in part. Look at the page again before you repeat it."


def failure_handlers(site: Site) -> Mapping[Any, Handler]:
    """Return the handlers of errors, by their class."""

    async def handle(request: Request, error: Exception) -> Response:
        status, heading, text, headers = _describe(error)
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            raise error  # the server logs it, and `crash` responds
        if status < HTTPStatus.BAD_REQUEST:
            return Response(status_code=status, headers=headers)
        is_action = request.method == "POST"
        retry = None
        if isinstance(error, DriverError):
            headers = {**headers, "retry-after": str(_RETRY_SECONDS)}
            retry = None if is_action else _RETRY_SECONDS
            text = f"{text.rstrip('.')}. {_AFTER_ACTION if is_action else _AFTER_PAGE}"
        values = {"status": status, "heading": heading, "text": text, "retry": retry}
        return site.render(request, "failure.html", values, status=status, headers=headers)

    async def crash(request: Request, error: Exception) -> Response:
        del error
        values = {
            "status": 500,
            "heading": "This page has failed",
            "text": "The log of the server says why.",
            "retry": None,
        }
        return site.render(request, "failure.html", values, status=500)

    return {HTTPException: handle, FlowliError: handle, Exception: crash}


def _describe(error: Exception) -> tuple[int, str, str, Mapping[str, str]]:
    """Return the status, the heading, the text and the headers of the page for an error."""
    match error:
        case HTTPException():
            phrase = HTTPStatus(error.status_code).phrase
            text = error.detail if error.detail != phrase else "There is no such page."
            return error.status_code, phrase, text, error.headers or {}
        case StoreUnavailable():
            return 503, "The store is unreachable", str(error), {}
        case DriverError():
            return 503, "The store has failed", str(error), {}
        case RecordNotFound():
            return 404, "No such job", str(error), {}
        case FlowliError() if not error.is_internal:
            return 400, "Invalid request", str(error), {}
        case _:
            return 500, "", "", {}
