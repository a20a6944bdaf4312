"""The dashboard as an ASGI application: its options, routes, headers and error pages."""

from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from flowli_core._jobs.registry import Jobs, runtime_of
from flowli_core.dashboard._access import Access, Authorize
from flowli_core.dashboard._actions import Actions
from flowli_core.dashboard._failures import failure_handlers
from flowli_core.dashboard._live import Live
from flowli_core.dashboard._pages import Pages
from flowli_core.dashboard._site import Site
from flowli_core.errors import DefinitionError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = {
    "content-security-policy": _CSP,
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}


class _Static(StaticFiles):
    """The style sheet and the scripts. Browsers keep them, and ask if they have changed."""

    def file_response(self, *args: Any, **options: Any) -> Response:
        response = super().file_response(*args, **options)
        response.headers["cache-control"] = "no-cache"
        return response


class Dashboard:
    """An ASGI application that shows the jobs of a registry, and lets people change them.

    `authorize` decides for each request: see `Authorize`. Without it the dashboard is refused, unless
    `allow_anonymous` says that anybody who reaches it may use it. With `read_only` nothing can be changed. Inputs,
    metas, keys, results, logs and the texts of errors (which may quote them) are shown only with `show_payloads`, and
    only to those who may see "payloads".

    Each action is logged, with the name of the client and the number of changes. Raises DefinitionError for invalid
    options, and StrategyError if the registry has no driver.
    """

    def __init__(
        self,
        jobs: Jobs[Any],
        *,
        authorize: Authorize | None = None,
        allow_anonymous: bool = False,
        read_only: bool = False,
        show_payloads: bool = False,
        title: str = "Jobs",
    ) -> None:
        runtime_of(jobs).require_driver()
        if authorize is None and not allow_anonymous:
            cure = "pass authorize=..., which decides for each request, or allow_anonymous=True"
            raise DefinitionError(f"the dashboard shows jobs to anybody, who can change them: {cure}")
        if authorize is not None and allow_anonymous:
            raise DefinitionError("pass either authorize or allow_anonymous=True to the dashboard")
        access = Access(authorize, read_only=read_only, show_payloads=show_payloads)
        site = Site(jobs, access, title=title)
        self._app = Starlette(routes=_routes(site), exception_handlers=failure_handlers(site))
        self._app.router.redirect_slashes = False  # such a redirect would go to whatever host the client names

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        await self._app(_with_full_path(scope), receive, send_with_headers)


def _with_full_path(scope: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add the prefix that a proxy has removed from the path, if `FastAPI(root_path=...)` names it: mounts expect it."""
    prefix, path = scope.get("app_root_path", ""), scope.get("path", "")
    return scope if path.startswith(prefix) else {**scope, "path": prefix + path}


def _routes(site: Site) -> list[BaseRoute]:
    pages, actions, live = Pages(site), Actions(site), Live(site)
    return [
        Route("/", pages.overview),
        Route("/jobs", pages.jobs),
        Route("/job", pages.job),
        Route("/schedules", pages.schedules),
        Route("/workers", pages.workers),
        Route("/confirm", actions.confirm),
        Route("/theme", actions.set_theme, methods=["POST"]),
        Route("/actions/{action}", actions.act, methods=["POST"]),
        Route("/events", live.events),
        Mount("/static", _Static(directory=Path(__file__).parent / "static")),
    ]
