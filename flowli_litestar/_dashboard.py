"""The route of the dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litestar import HttpMethod, route
from litestar.types import ASGIApp

if TYPE_CHECKING:
    from flowli_core.dashboard import Dashboard  # it needs Jinja, which is optional


def dashboard_route(dashboard: Dashboard, path: str, *, app_path: str) -> Any:
    """Make the route of a dashboard, at a path of an application that has a path itself.

    It is not a mount of Litestar: one at `/jobs` would take the requests for `/jobs-of-today/1` as well. The dashboard
    has tokens of its own against forged forms.
    """
    path = f"/{path.strip('/')}"
    mounted_at = f"{app_path.rstrip('/')}{path}"

    async def respond(scope: Any, receive: Any, send: Any) -> None:
        root_path = f"{scope.get('root_path', '')}{mounted_at}"
        rest = scope["path"].removeprefix(mounted_at) or "/"
        await dashboard({**scope, "root_path": root_path, "path": root_path + rest}, receive, send)

    @route(
        [path, f"{path}/{{rest:path}}"],
        http_method=[HttpMethod.GET, HttpMethod.HEAD, HttpMethod.POST],
        include_in_schema=False,
        exclude_from_csrf=True,
        after_request=_keep,
    )
    async def show_dashboard() -> ASGIApp:
        return respond

    return show_dashboard


def _keep(response: Any) -> Any:
    """Replace the `after_request` of the application, which expects a response of Litestar."""
    return response
