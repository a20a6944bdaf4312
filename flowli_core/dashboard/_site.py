"""The parts that all pages share: the registry, the clients that it admits, and the templates."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from flowli_core._jobs.registry import Jobs
from flowli_core._text import escape_controls
from flowli_core.dashboard import _texts
from flowli_core.dashboard._access import CSRF_COOKIE, Access, Viewer, csrf_token
from flowli_core.dashboard._filters import JobFilters
from flowli_core.dashboard._notices import read_notice
from flowli_core.dashboard._shared import Shared
from flowli_core.stored import FINISHED, STATES, Overview

KEPT_SECONDS = 1.0
"""Seconds for which an overview is shown to other viewers."""

_VIEWER = "flowli.viewer"
"""The key in the scope of a request under which the pages find its client."""

THEMES = ("auto", "light", "dark")
THEME_COOKIE = "flowli_theme"


@dataclass(frozen=True, slots=True)
class Drawn:
    """A page without the token of its reader."""

    text: str
    status: int


class Site:
    """A registry as a dashboard shows it."""

    def __init__(self, jobs: Jobs[Any], access: Access, *, title: str) -> None:
        self.jobs = jobs
        self.access = access
        self.shared = Shared()
        self._title = title
        self._token = secrets.token_hex()
        """The text in the place of the token in a page that was drawn."""
        self._templates = _environment()

    async def admit(self, request: Request) -> Viewer:
        """Return the client of a page, if it may see it."""
        request.scope[_VIEWER] = viewer = await self.access.admit(request)
        return viewer

    async def overview(self) -> Overview:
        """Return the overview of the store, which all viewers share."""
        return await self.shared.get("overview", self.jobs.inspect.get_overview, seconds=KEPT_SECONDS)

    async def count(self, filters: JobFilters, *, within: float) -> int | None:
        """Count the jobs that filters find. Return None if that takes longer than so many seconds."""
        try:
            async with asyncio.timeout(within):
                return await self.jobs.inspect.count(**filters.arguments)
        except TimeoutError:
            return None

    async def share(self, request: Request, draw: Callable[[Request, Overview], Awaitable[Drawn]]) -> Response:
        """Respond with a page that is drawn once for all readers with the same rights, and again for each overview."""
        viewer = await self.admit(request)
        overview = await self.overview()
        rights = (viewer.sees_payloads, viewer.may_act)
        key = (root(request), _path(request), request.url.query, _theme(request), rights, overview.now)
        return self._respond(
            request, await self.shared.get(key, partial(draw, request, overview), seconds=KEPT_SECONDS)
        )

    def draw(self, request: Request, template: str, values: Mapping[str, object], *, status: int = 200) -> Drawn:
        """Draw a page."""
        text = self._templates.get_template(template).render(
            **values,
            STATES=STATES,
            FINISHED=FINISHED,
            url=partial(url, request),
            here=here(request),
            path=_path(request),
            viewer=request.scope.get(_VIEWER),
            title=self._title,
            theme=_theme(request),
            csrf=self._token,
            notice=read_notice(request.query_params),
        )
        return Drawn(text, status)

    def render(
        self,
        request: Request,
        template: str,
        values: Mapping[str, object],
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Respond with a page that is drawn for this reader alone."""
        return self._respond(request, self.draw(request, template, values, status=status), headers)

    def _respond(self, request: Request, drawn: Drawn, headers: Mapping[str, str] | None = None) -> Response:
        token, is_new = csrf_token(request)
        response = HTMLResponse(drawn.text.replace(self._token, token), drawn.status, headers)
        if is_new:
            set_cookie(request, response, CSRF_COOKIE, token)
        return response


def url(request: Request, path: str, **query: object) -> str:
    """Return the URL of a page of this dashboard. Parameters that are empty are left out."""
    given = {name: value for name, value in query.items() if value not in (None, "")}
    return root(request) + path + (f"?{urlencode(given)}" if given else "")


def root(request: Request) -> str:
    """Return the path where the dashboard is mounted, without a slash at its end."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def here(request: Request) -> str:
    """Return the page of a request below the path where the dashboard is mounted, without its notice."""
    query = [(name, value) for name, value in request.query_params.multi_items() if not name.startswith("notice")]
    return _path(request) + (f"?{urlencode(query)}" if query else "")


def set_cookie(request: Request, response: Response, name: str, value: str) -> None:
    """Set a cookie for the pages of this dashboard. Scripts cannot read it, and other sites cannot make use of it."""
    is_secure = request.url.scheme == "https"
    response.set_cookie(name, value, path=f"{root(request)}/", secure=is_secure, httponly=True, samesite="strict")


def _theme(request: Request) -> str:
    theme = request.cookies.get(THEME_COOKIE)
    return theme if theme in THEMES else "auto"


def _path(request: Request) -> str:
    path, prefix = str(request.scope["path"]), root(request)
    return path[len(prefix) :] if prefix and path.startswith(f"{prefix}/") else path


@cache
def _environment() -> Environment:
    templates = Environment(
        loader=PackageLoader("flowli_core.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    templates.filters.update(_texts.FILTERS)
    return templates


def _finalize(value: object) -> object:
    """Escape the control characters of a text, such as those that change the direction of writing. None is empty."""
    if value is None:
        return ""
    return escape_controls(value, lines=True) if isinstance(value, str) and not isinstance(value, Markup) else value
