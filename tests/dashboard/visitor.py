"""A browser without scripts: it loads pages of a dashboard, keeps cookies, and submits the forms that a page shows."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import httpx2
from starlette.applications import Starlette
from starlette.routing import Mount

from flowli_core.dashboard import Dashboard

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from flowli_core import Jobs

HOST = "http://jobs.example"


@dataclass
class Form:
    """A form of a page: its fields with their values, and the labels of its buttons."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict[str, str])
    label: str = ""


class Page(HTMLParser):
    """The visible text, the links and the forms of a page."""

    def __init__(self, response: httpx2.Response) -> None:
        super().__init__()
        self.status = response.status_code
        self.headers = response.headers
        self.source = response.text
        self.address = response.headers.get("location", "")
        self.words: list[str] = []
        self.links: dict[str, str] = {}
        self.forms: list[Form] = []
        self._open: list[str] = []
        self._href = ""
        self.feed(response.text)

    @property
    def text(self) -> str:
        """The visible text, with single spaces."""
        return " ".join(" ".join(self.words).split())

    def form(self, label: str) -> Form:
        """Return the form whose button has this label."""
        return next(form for form in self.forms if form.label == label)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self._open.append(tag)
        match tag:
            case "form":
                self.forms.append(Form(given.get("action", ""), given.get("method", "get")))
            case "input" | "button" | "select" if self.forms and given.get("name"):
                self.forms[-1].fields[given["name"]] = given.get("value", "")
            case "a":
                self._href = given.get("href", "")
            case _:
                pass

    def handle_data(self, data: str) -> None:
        tag = self._open[-1] if self._open else ""
        if tag in {"script", "style", "title"} or not data.strip():
            return
        self.words.append(data)
        if tag == "button":
            self.forms[-1].label = data.strip()
        if "a" in self._open:
            self.links[data.strip()] = self._href

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass


class Visitor:
    """Somebody who visits a dashboard."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self.client = client

    async def visit(self, path: str, **query: str) -> Page:
        """Load a page, below the path where the dashboard is mounted."""
        address = f"/admin/jobs{path}" + (f"?{urlencode(query)}" if query else "")
        return Page(await self.client.get(address))

    async def follow(self, page: Page) -> Page:
        """Load the page that a response redirects to."""
        assert page.status == 303, page.text
        return Page(await self.client.get(page.address))

    async def submit(self, form: Form, *, headers: dict[str, str] | None = None, **changed: str) -> Page:
        """Send a form as a browser does, with some of its fields changed."""
        sent = {"origin": HOST, "sec-fetch-site": "same-origin"} if headers is None else headers
        assert urlsplit(form.action).netloc == ""
        return Page(await self.client.post(form.action, data=form.fields | changed, headers=sent))

    async def press(self, page: Page, label: str) -> Page:
        """Press a button of a page, and load the page that comes then."""
        return await self.follow(await self.submit(page.form(label)))


@asynccontextmanager
async def visiting(jobs: Jobs[Any], **options: Any) -> AsyncGenerator[Visitor]:
    """Visit a dashboard that is mounted below a path. Without other options, anybody sees and changes everything."""
    if "authorize" not in options:
        options = {"allow_anonymous": True, "show_payloads": True} | options
    app = Starlette(routes=[Mount("/admin/jobs", Dashboard(jobs, **options))])
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url=HOST) as client:
        yield Visitor(client)
