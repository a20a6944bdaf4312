"""The charts of the overview draw the history, and a table shows the same numbers."""

from __future__ import annotations

import json
import re
from html import unescape

from flowli_core.testing import ManualClock
from tests.dashboard.shop import ShopJobs
from tests.dashboard.visitor import Visitor


async def test_the_charts_count_the_jobs_of_each_minute(visitor: Visitor) -> None:
    page = await visitor.visit("/")
    jobs, failures, times = [json.loads(unescape(one)) for one in re.findall(r'data-chart="([^"]*)"', page.source)]
    assert len(jobs["times"]) == 60
    assert jobs["times"][-1] - jobs["times"][0] == 59 * 60
    assert [(one["label"], one["values"][-1]) for one in jobs["series"]] == [("completed", 1), ("enqueued", 5)]
    assert [(one["label"], one["values"][-1]) for one in failures["series"]] == [("failed", 1), ("retried", 1)]
    assert times["unit"] == "ms"
    assert times["series"][0]["values"][0] is None


async def test_a_table_shows_the_numbers_of_the_charts(visitor: Visitor, busy: ShopJobs) -> None:
    assert "2026-01-01 00:00:00 UTC 5 1 1 1 1 0" in (await visitor.visit("/")).text


async def test_the_charts_of_a_day_have_a_point_for_each_hour(visitor: Visitor, clock: ManualClock) -> None:
    page = await visitor.visit("/", last="1d")
    chart = json.loads(unescape(re.findall(r'data-chart="([^"]*)"', page.source)[0]))
    assert len(chart["times"]) == 24
    assert chart["title"] == "Jobs per hour"
    assert page.links["week"] == "/admin/jobs/?last=7d"


async def test_the_busiest_jobs_are_listed_with_their_failures(visitor: Visitor) -> None:
    page = await visitor.visit("/")
    assert "Jobs of the last hour" in page.text
    assert "send_email mail 5 1 1 1" in page.text
