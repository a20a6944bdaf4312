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


def failure_handlers(site: Site) -> Mapping[Any, Handler]:
    """Return the handlers of errors, by their class."""

    async def handle(request: Request, error: Exception) -> Response:
        status, title, text, headers = _describe(error)
        if HTTPStatus(status).is_redirection:
            return Response(status_code=status, headers=headers)
        values = {"status": status, "heading": title, "text": text, "retry": None}
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            values["retry"] = _RETRY_SECONDS
            headers = {**headers, "retry-after": str(_RETRY_SECONDS)}
        return site.render(request, "failure.html", values, status=status, headers=headers)

    return dict.fromkeys((HTTPException, FlowliError, Exception), handle)


def _describe(error: Exception) -> tuple[int, str, str, Mapping[str, str]]:
    """Return the status, the heading, the text and the headers of the page for an error."""
    match error:
        case HTTPException():
            phrase = HTTPStatus(error.status_code).phrase
            text = error.detail if error.detail != phrase else "There is no such page."
            return error.status_code, phrase, text, error.headers or {}
        case StoreUnavailable():
            return 503, "The store is unreachable", f"{error}. This page tries again every few seconds.", {}
        case DriverError():
            return 503, "The store has failed", str(error), {}
        case RecordNotFound():
            return 404, "No such job", str(error), {}
        case FlowliError() if not error.is_internal:
            return 400, "Invalid request", str(error), {}
        case _:
            return 500, "This page has failed", "The log of the server says why.", {}
