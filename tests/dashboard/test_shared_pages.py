"""A page is drawn once for all readers with the same rights, and for nobody else."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from flowli_core.dashboard import Dashboard
from tests.dashboard.shop import ShopJobs
from tests.support.counting import CountingDriver

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.requests import Request

    from flowli_core.dashboard import Action

PAGES = ("/", "/jobs?state=failed", "/schedules", "/workers")
RIGHTS = {"ada": ("view", "payloads", "act"), "eve": ("view",), "bob": ("view", "payloads")}


async def authorize(request: Request, action: Action) -> bool:
    return action in RIGHTS[request.headers["user"]]


@asynccontextmanager
async def reading(app: Dashboard, user: str) -> AsyncGenerator[httpx2.AsyncClient]:
    """Read pages as this user."""
    transport: Any = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://jobs.example", headers={"user": user}
    ) as client:
        yield client


def token_in(page: str) -> str:
    """Return the token of the forms of a page."""
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("path", PAGES)
async def test_a_reader_sees_what_they_may_whoever_has_read_the_page_before(busy: ShopJobs, path: str) -> None:
    app = Dashboard(busy, authorize=authorize, show_payloads=True)
    alone = {}
    for user in RIGHTS:
        async with reading(Dashboard(busy, authorize=authorize, show_payloads=True), user) as client:
            page = (await client.get(path)).text
            alone[user] = page.replace(token_in(page), "token")
    for user in ("ada", "eve", "bob", "ada", "eve"):
        async with reading(app, user) as client:
            page = (await client.get(path)).text
        assert page.replace(token_in(page), "token") == alone[user], user


async def test_every_reader_has_a_token_of_their_own(busy: ShopJobs) -> None:
    app = Dashboard(busy, allow_anonymous=True)
    tokens: set[str] = set()
    for _ in range(3):
        async with reading(app, "ada") as client:
            response = await client.get("/")
        tokens.add(token_in(response.text))
        assert response.cookies["flowli_csrf"] == token_in(response.text)
    assert len(tokens) == 3


@pytest.mark.parametrize("path", PAGES)
async def test_fifty_readers_ask_the_store_no_more_often_than_one(path: str) -> None:
    counts: list[Counter[str]] = []
    for readers in (1, 50):
        driver = CountingDriver()
        async with ShopJobs(context=None, driver=driver) as jobs:
            app = Dashboard(jobs, allow_anonymous=True)
            async with reading(app, "ada") as client:
                pages = await asyncio.gather(*(client.get(path) for _ in range(readers)))
        assert {page.status_code for page in pages} == {200}
        counts.append(driver.calls)
    assert counts[0] == counts[1]
