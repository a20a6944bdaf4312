"""A request that fails gets a page that says why, and what to do."""

from __future__ import annotations

import pytest

from flowli_core import StoreDamaged, StoreUnavailable
from flowli_core.drivers.memory import MemoryDriver
from tests.dashboard.shop import ShopJobs
from tests.dashboard.visitor import visiting
from tests.support.faulty import FaultyDriver, Method


@pytest.mark.parametrize("path", ["/", "/jobs", "/job?id=a", "/schedules", "/workers", "/confirm?action=purge-all"])
async def test_a_page_says_that_the_store_is_unreachable_and_tries_again(path: str) -> None:
    driver = FaultyDriver(MemoryDriver())
    async with ShopJobs(context=None, driver=driver) as jobs, visiting(jobs) as visitor:
        driver.fail("overview", "records", "schedules", error=StoreUnavailable("<b>the server</b> is down"))
        page = await visitor.visit(path)
        assert page.status == 503
        assert page.headers["retry-after"] == "5"
        assert '<meta http-equiv="refresh" content="5">' in page.source
        assert "The store is unreachable <b>the server</b> is down." in page.text
        driver.mend()
        assert (await visitor.visit("/")).status == 200


@pytest.mark.parametrize("method", ["history", "schedules", "records"])
async def test_the_overview_says_which_data_is_damaged(method: Method) -> None:
    driver = FaultyDriver(MemoryDriver())
    async with ShopJobs(context=None, driver=driver) as jobs, visiting(jobs) as visitor:
        await jobs.clean_up.enqueue()
        driver.fail(method, error=StoreDamaged("the key flowli:x is a list"))
        page = await visitor.visit("/")
    assert page.status == 503
    assert "the key flowli:x is a list" in page.text


async def test_an_unexpected_error_is_raised_for_the_log_of_the_server() -> None:
    driver = FaultyDriver(MemoryDriver())
    async with ShopJobs(context=None, driver=driver) as jobs, visiting(jobs) as visitor:
        driver.fail("overview", error=RuntimeError("a bug"))
        with pytest.raises(RuntimeError, match="a bug"):
            await visitor.visit("/")


async def test_a_page_that_does_not_exist_leads_back_to_the_others(jobs: ShopJobs) -> None:
    async with visiting(jobs) as visitor:
        page = await visitor.visit("/lost")
    assert page.status == 404
    assert "There is no such page." in page.text
