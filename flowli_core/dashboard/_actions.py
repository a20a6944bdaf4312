"""The actions: changes of jobs, queues and schedules, each with a line in the log."""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from flowli_core._jobs.registry import Jobs
from flowli_core._logger import logger
from flowli_core.dashboard._access import check_same_origin, check_token, read_form
from flowli_core.dashboard._site import THEME_COOKIE, THEMES, Site, root, set_cookie
from flowli_core.errors import FlowliError

Form = Mapping[str, str]

PAGES = ("/", "/jobs", "/job", "/schedules", "/workers")


class Actions:
    """The actions of a dashboard."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def act(self, request: Request) -> Response:
        """Do what a form asks for, log it, and go to the page that says what was done."""
        who, form = await self._site.access.admit_form(request)
        name = request.path_params["action"]
        action = _ACTIONS.get(name)
        if action is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "There is no such action.")
        target = form.get("target", "")
        try:
            notice = await action(self._site.jobs, target)
        except FlowliError as error:
            logger.warning("dashboard: %s asked to %s %s, which failed: %s", who, name, target, error)
            raise
        logger.info("dashboard: %s asked to %s %s: %s", who, name, target, notice)
        self._site.shared.forget()
        return _go_back(request, form, notice=notice)

    async def confirm(self, request: Request) -> Response:
        """Ask before an action on many jobs."""
        await self._site.admit(request)
        raise HTTPException(HTTPStatus.NOT_FOUND, "There is no such action.")

    async def set_theme(self, request: Request) -> Response:
        """Choose light or dark for the reader."""
        check_same_origin(request)
        form = await read_form(request)
        check_token(request, form)
        theme = form.get("theme", "")
        response = _go_back(request, form)
        if theme in THEMES:
            set_cookie(request, response, THEME_COOKIE, theme)
        return response


def _go_back(request: Request, form: Form, **query: str) -> Response:
    """Redirect to the page that the form names, if it is one of this dashboard."""
    path, _, rest = form.get("back", "/").partition("?")
    if path not in PAGES:
        path, rest = "/", ""
    given = [*parse_qsl(urlsplit(f"?{rest}").query), *query.items()]
    target = root(request) + path + (f"?{urlencode(given)}" if given else "")
    return RedirectResponse(target, HTTPStatus.SEE_OTHER)


async def _cancel(jobs: Jobs[Any], id: str) -> str:
    return await jobs.control.cancel(id)


async def _requeue(jobs: Jobs[Any], id: str) -> str:
    return await jobs.control.requeue(id)


async def _pause_queue(jobs: Jobs[Any], queue: str) -> str:
    return "queue_paused" if await jobs.control.pause_queue(queue) else "unchanged"


async def _resume_queue(jobs: Jobs[Any], queue: str) -> str:
    return "queue_resumed" if await jobs.control.resume_queue(queue) else "unchanged"


async def _pause(jobs: Jobs[Any], key: str) -> str:
    return "paused" if await jobs.control.pause(key) else "unknown"


async def _resume(jobs: Jobs[Any], key: str) -> str:
    return "resumed" if await jobs.control.resume(key) else "unknown"


async def _trigger(jobs: Jobs[Any], key: str) -> str:
    receipt = await jobs.control.trigger(key)
    if receipt is None:
        return "unknown"
    return "overlapping" if receipt.disposition == "existing" else "triggered"


async def _remove(jobs: Jobs[Any], key: str) -> str:
    return "removed" if await jobs.control.unschedule(key) else "unknown"


_ACTIONS: Mapping[str, Callable[[Jobs[Any], str], Awaitable[str]]] = {
    "cancel": _cancel,
    "requeue": _requeue,
    "pause-queue": _pause_queue,
    "resume-queue": _resume_queue,
    "pause-schedule": _pause,
    "resume-schedule": _resume,
    "trigger-schedule": _trigger,
    "remove-schedule": _remove,
}
