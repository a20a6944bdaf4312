"""The dashboard under a path of an application: every link of its pages leads to a page, and its forms work."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import pytest
from fastapi import FastAPI
from litestar import Litestar, Response
from litestar.config.csrf import CSRFConfig
from litestar.connection import ASGIConnection
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

import flowli_fastapi
import flowli_starlette
from flowli_core.dashboard import Dashboard
from flowli_core.drivers.memory import MemoryDriver
from flowli_litestar import FlowliConfig, FlowliPlugin
from tests.adapters.apps import EventJobs, Events

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, kw_only=True)
class Mounted:
    """An application with a dashboard, and where it is."""

    app: Any
    at: str = "/jobs"
    root_path: str = ""
    """The path under which the server says that the application is."""
    prefix: str = ""
    """The part of the path that a proxy removes."""

    def forward(self, path: str) -> str:
        """Return the path that the proxy requests."""
        return path.removeprefix(self.prefix)


def on_starlette(jobs: EventJobs, dashboard: Dashboard) -> Mounted:
    routes = [Mount("/jobs", dashboard)]
    return Mounted(app=Starlette(routes=routes, lifespan=flowli_starlette.jobs_lifespan(jobs)))


def on_fastapi(jobs: EventJobs, dashboard: Dashboard) -> Mounted:
    app = FastAPI(lifespan=flowli_fastapi.jobs_lifespan(jobs))
    app.mount("/jobs", dashboard)
    return Mounted(app=app)


def in_a_part(jobs: EventJobs, dashboard: Dashboard) -> Mounted:
    app, admin = FastAPI(lifespan=flowli_fastapi.jobs_lifespan(jobs)), FastAPI()
    admin.mount("/jobs", dashboard)
    app.mount("/admin", admin)
    return Mounted(app=app, at="/admin/jobs")


def behind_a_proxy(jobs: EventJobs, dashboard: Dashboard) -> Mounted:
    return Mounted(app=on_fastapi(jobs, dashboard).app, at="/shop/jobs", root_path="/shop")


def behind_a_proxy_that_removes_its_prefix(jobs: EventJobs, dashboard: Dashboard) -> Mounted:
    app = on_fastapi(jobs, dashboard).app
    app.root_path = "/shop"
    return Mounted(app=app, at="/shop/jobs", prefix="/shop")


def on_litestar(jobs: EventJobs, dashboard: Dashboard) -> Mounted:
    plugin = FlowliPlugin(FlowliConfig(jobs=jobs, dashboard=dashboard))
    return Mounted(app=Litestar(plugins=[plugin]))


def in_a_litestar_with_a_path(jobs: EventJobs, dashboard: Dashboard) -> Mounted:
    plugin = FlowliPlugin(FlowliConfig(jobs=jobs, dashboard=dashboard, dashboard_path="/admin/jobs/"))
    app = Litestar(path="/v1", plugins=[plugin], csrf_config=CSRFConfig(secret="of-the-application"))  # noqa: S106
    return Mounted(app=app, at="/v1/admin/jobs")


def litestar_behind_a_proxy(jobs: EventJobs, dashboard: Dashboard) -> Mounted:
    return Mounted(app=on_litestar(jobs, dashboard).app, at="/shop/jobs", root_path="/shop")


MOUNTS = (
    on_starlette,
    on_fastapi,
    in_a_part,
    behind_a_proxy,
    behind_a_proxy_that_removes_its_prefix,
    on_litestar,
    in_a_litestar_with_a_path,
    litestar_behind_a_proxy,
)
ACROSS_MOUNTS = pytest.mark.parametrize("mount", MOUNTS, ids=lambda mount: mount.__name__)


@dataclass
class Links(HTMLParser):
    """The links of a page, and the fields of its forms by their action."""

    found: list[str] = field(default_factory=list[str])
    forms: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    _action: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a link or a part of a form."""
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._action = values.get("action", "")
            if values.get("method", "get").lower() == "post":
                self.forms[self._action] = {}
        if self._action in self.forms and values.get("name"):
            self.forms[self._action].setdefault(values["name"], values.get("value", ""))
        self.found += [values[name] for name in ("href", "src") if values.get(name)]

    def handle_endtag(self, tag: str) -> None:
        """Note the end of a form."""
        if tag == "form":
            self._action = ""


def read(page: str) -> Links:
    links = Links()
    links.feed(page)
    return links


@ACROSS_MOUNTS
def test_every_link_of_every_page_leads_to_a_page(mount: Callable[[EventJobs, Dashboard], Mounted]) -> None:
    jobs = EventJobs(context=Events(), driver=MemoryDriver())
    mounted = mount(jobs, Dashboard(jobs, allow_anonymous=True))
    with TestClient(mounted.app, root_path=mounted.root_path) as client:
        assert client.portal is not None
        client.portal.call(jobs.double.enqueue, 3)
        left, seen = [f"{mounted.at}/"], set[str]()
        while left:
            path = left.pop()
            seen.add(path)
            response = client.get(mounted.forward(path))
            assert response.status_code == 200, path
            if not response.headers["content-type"].startswith("text/html"):
                continue
            for link in read(response.text).found:
                target = urljoin(path, link).partition("#")[0]
                assert urlsplit(target).scheme in ("", "data")
                assert target.startswith((f"{mounted.at}/", "data:")), (path, link)
                if target not in seen and not target.startswith("data:") and len(seen) < 60:
                    left.append(target)
    pages = {urlsplit(path).path.removeprefix(mounted.at) for path in seen}
    assert {"/", "/jobs", "/job", "/schedules", "/workers"} <= pages


@ACROSS_MOUNTS
def test_a_form_changes_a_job_and_leads_back_to_it(mount: Callable[[EventJobs, Dashboard], Mounted]) -> None:
    jobs = EventJobs(context=Events(), driver=MemoryDriver())
    mounted = mount(jobs, Dashboard(jobs, allow_anonymous=True))
    with TestClient(mounted.app, root_path=mounted.root_path) as client:
        assert client.portal is not None
        receipt = client.portal.call(jobs.double.enqueue, 3)
        page = client.get(mounted.forward(f"{mounted.at}/job?id={receipt.id}"))
        forms = read(page.text).forms
        (cancel,) = [action for action in forms if "cancel" in action]
        done = client.post(
            mounted.forward(cancel),
            data=forms[cancel],
            headers={"Origin": "http://testserver", "Cookie": page.headers["Set-Cookie"].partition(";")[0]},
            follow_redirects=False,
        )
        assert done.status_code == 303
        assert done.headers["Location"].startswith(f"{mounted.at}/job?")
        record = client.portal.call(jobs.inspect.get_job, receipt.id)
        assert record is not None
        assert record.state == "cancelled"


class AuthenticatesByHeader(AbstractAuthenticationMiddleware):
    """Takes the user from a header."""

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        """Return the user."""
        return AuthenticationResult(user=connection.headers.get("user"), auth=None)


def test_litestar_authenticates_the_readers_and_its_other_hooks_do_not_see_the_dashboard() -> None:
    def mark(response: Response[Any]) -> Response[Any]:
        response.headers["marked"] = "yes"
        return response

    jobs = EventJobs(context=Events(), driver=MemoryDriver())
    dashboard = Dashboard(jobs, authorize=lambda request, _: request.scope["user"] == "ada")
    app: Any = Litestar(
        plugins=[FlowliPlugin(FlowliConfig(jobs=jobs, dashboard=dashboard))],
        middleware=[AuthenticatesByHeader],
        after_request=mark,
    )
    with TestClient(app) as client:
        assert client.get("/jobs", headers={"user": "ada"}).status_code == 200
        assert client.get("/jobs", headers={"user": "eve"}).status_code == 403
        assert client.get("/jobs-of-today", headers={"user": "ada"}).json()["status_code"] == 404
        assert "/jobs" not in client.get("/schema/openapi.json").text
