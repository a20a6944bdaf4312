"""The actions: changes of jobs, queues and schedules, each with a line in the log."""

from http import HTTPStatus
from urllib.parse import parse_qsl, urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from flowli_core._logger import logger
from flowli_core.dashboard._access import check_same_origin, check_token, read_form
from flowli_core.dashboard._changes import BULK_CHANGES, CHANGES
from flowli_core.dashboard._filters import read_filters
from flowli_core.dashboard._notices import Outcome
from flowli_core.dashboard._site import THEME_COOKIE, THEMES, Site, root, set_cookie
from flowli_core.errors import FlowliError

PAGES = ("/", "/jobs", "/job", "/schedules", "/workers", "/confirm")

_COUNT_SECONDS = 2.0
"""Seconds after which a confirmation gives up to count the jobs."""


class Actions:
    """The actions of a dashboard."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def act(self, request: Request) -> Response:
        """Do what a form asks for, log it, and redirect to a page that says what was done."""
        who, form = await self._site.access.admit_form(request)
        name = request.path_params["action"]
        target = read_filters(form).describe() if name in BULK_CHANGES else form.get("target", "")
        verb = name.removesuffix("-all").replace("-", " ")
        change = CHANGES.get(name) or BULK_CHANGES.get(name)
        if change is None:
            raise _unknown_action()
        try:
            outcome = await change(self._site.jobs, form)
        except FlowliError as error:
            logger.warning("dashboard: %s asked to %s %s, which failed: %s", who, verb, target, error)
            raise
        except BaseException:  # such as the end of the server
            logger.warning("dashboard: %s asked to %s %s, which was interrupted", who, verb, target)
            raise
        logger.info("dashboard: %s asked to %s %s: %s", who, verb, target, outcome)
        self._site.shared.forget()
        back = read_filters(form).confirm(name) if outcome.is_partial else form.get("back", "/")
        return _go_back(request, back, outcome)

    async def confirm(self, request: Request) -> Response:
        """Ask before a change of many jobs, and say how many they are."""
        await self._site.admit(request)
        action = request.query_params.get("action", "")
        if action not in BULK_CHANGES:
            raise _unknown_action()
        filters = read_filters(request.query_params)
        values = {
            "action": action,
            "verb": action.partition("-")[0],
            "filters": filters,
            "count": await self._site.count(filters, within=_COUNT_SECONDS),
        }
        return self._site.render(request, "confirm.html", values)

    async def set_theme(self, request: Request) -> Response:
        """Choose light or dark for the reader."""
        check_same_origin(request)
        form = await read_form(request)
        check_token(request, form)
        response = _go_back(request, form.get("back", "/"))
        if form.get("theme") in THEMES:
            set_cookie(request, response, THEME_COOKIE, form["theme"])
        return response


def _unknown_action() -> HTTPException:
    return HTTPException(HTTPStatus.NOT_FOUND, "There is no such action.")


def _go_back(request: Request, back: str, outcome: Outcome | None = None) -> Response:
    """Redirect to a page, if it is one of this dashboard."""
    path, _, query = back.partition("?")
    given = parse_qsl(query)
    if path not in PAGES:
        path, given = "/", []
    if outcome is not None:
        given += outcome.query.items()
    return RedirectResponse(root(request) + path + (f"?{urlencode(given)}" if given else ""), HTTPStatus.SEE_OTHER)
