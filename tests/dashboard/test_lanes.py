"""The lanes on the overview, and the lane of a job on its page."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flowli_core.lanes import Lane
from flowli_core.testing import ManualClock
from tests.dashboard.shop import ShopJobs
from tests.dashboard.visitor import Visitor, visiting
from tests.support.laned import LanedDriver, lanes_of


@pytest.fixture
def driver(clock: ManualClock) -> LanedDriver:
    """A store with lanes."""
    return LanedDriver(clock)


async def test_an_overview_without_lanes_has_no_section_for_them(visitor: Visitor) -> None:
    assert 'id="lanes"' not in (await visitor.visit("/")).source


async def test_the_overview_shows_the_deepest_lanes_and_what_blocks_them(driver: LanedDriver, visitor: Visitor) -> None:
    driver.show(*lanes_of(driver.clock), count=1_204)
    page = await visitor.visit("/")
    assert "the deepest 4 of 1,204" in page.text
    assert "tenant acme\\x1b[31m default 1,200 2 of 2 concurrency " in page.text
    assert "api key-1 default 30 0 rate 100/1m in 12 s " in page.text
    assert "api key-2 default 3 1 due " in page.text
    assert "report default 1 0 in 5 min 0 s" in page.text
    assert '<progress aria-hidden="true" max="2" value="2">' in page.source


async def test_a_concurrency_that_was_lowered_is_shown_as_it_is(driver: LanedDriver, visitor: Visitor) -> None:
    driver.show(replace(lanes_of(driver.clock)[0], concurrency=1))
    assert "2 of 1 concurrency" in (await visitor.visit("/")).text


async def test_a_waiting_job_shows_its_lane_and_why_it_waits(driver: LanedDriver, visitor: Visitor) -> None:
    driver.lane = Lane("api", "key-1")
    driver.show(*lanes_of(driver.clock, queue="mail"))
    waiting, finished = await visitor.visit("/job", id="queued"), await visitor.visit("/job", id="completed")
    reason = "Waits its lane has used its rate 100/1m; the next start is allowed in 12 s"
    assert f"Limit api Lane key-1 {reason}" in waiting.text
    assert "Limit api Lane key-1" in finished.text
    assert "Waits" not in finished.text


async def test_the_value_of_a_lane_is_hidden_like_an_input(driver: LanedDriver, busy: ShopJobs) -> None:
    driver.lane = Lane("api", "key-1")
    driver.show(*lanes_of(driver.clock))
    async with visiting(busy, show_payloads=False) as visitor:
        overview, job = await visitor.visit("/"), await visitor.visit("/job", id="queued")
    assert "api hidden default 30" in overview.text
    assert "Limit api" in job.text
    assert "key-1" not in overview.source + job.source
