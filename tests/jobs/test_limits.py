"""`Limit`: its numbers, the lanes of calls, and the declarations and values that are refused."""

from __future__ import annotations

import enum
import uuid
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from flowli_core import DefinitionError, Jobs, Limit, Rate, ValidationError, job
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.lanes import MOST_CONCURRENCY, MOST_LANE_BYTES, MOST_RATE, Lane
from tests.support.counting import CountingDriver

UUID = uuid.UUID("12345678123456781234567812345678")
PER_MINUTE = Rate(100, timedelta(minutes=1))


class Page(BaseModel):
    domain: str


class Color(enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    SMALL = 1


class Shape(enum.StrEnum):
    ROUND = "round"


class Half(enum.Enum):
    HALF = 0.5


tenants: list[object] = []
"""The values that `by` of `of_tenant` returns, the first of them next."""


def next_tenant(input: int) -> Any:
    found = tenants[input]
    if isinstance(found, Exception):
        raise found
    return found


@job(Page, limit=Limit(concurrency=2, rate="100/1m", by=lambda input: input.domain))
async def crawl(input: Page) -> None: ...


@job(int, limit=Limit(by=next_tenant))
async def of_tenant(input: int) -> None: ...


@job(limit=Limit(concurrency=1))
async def alone() -> None: ...


class AppJobs(Jobs[None]):
    crawl = crawl
    of_tenant = of_tenant
    alone = alone


@pytest.fixture
def driver() -> CountingDriver:
    tenants.clear()
    return CountingDriver(MemoryDriver())


@pytest.fixture
def jobs(driver: CountingDriver) -> AppJobs:
    return AppJobs(context=None, driver=driver)


async def test_a_call_is_stored_in_the_lane_of_its_input(jobs: AppJobs, driver: CountingDriver) -> None:
    await jobs.crawl.enqueue(domain="a.org")
    await jobs.crawl.enqueue_many([Page(domain="b.org"), Page(domain="c.org")])
    await jobs.alone.enqueue()
    assert [record.lane for record in driver.enqueued] == [
        Lane("crawl", "a.org", 2, PER_MINUTE),
        Lane("crawl", "b.org", 2, PER_MINUTE),
        Lane("crawl", "c.org", 2, PER_MINUTE),
        Lane("alone", "", 1, None),
    ]


@pytest.mark.parametrize(
    ("found", "value"),
    [
        ("acme", "acme"),
        ("", ""),
        (5, "5"),
        (UUID, str(UUID)),
        (Color.RED, "red"),
        (Size.SMALL, "1"),
        (Shape.ROUND, "round"),
        ("é" * (MOST_LANE_BYTES // 2), "é" * (MOST_LANE_BYTES // 2)),
    ],
)
async def test_the_value_of_a_lane_is_what_by_returns_as_text(
    jobs: AppJobs, driver: CountingDriver, found: object, value: str
) -> None:
    tenants.append(found)
    await jobs.of_tenant.enqueue(0)
    assert driver.enqueued[0].lane == Lane("of_tenant", value)


async def test_a_call_whose_by_returns_none_is_not_limited(jobs: AppJobs, driver: CountingDriver) -> None:
    tenants.append(None)
    await jobs.of_tenant.enqueue(0)
    assert driver.enqueued[0].lane is None


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (0.5, "got a value of float"),
        (b"acme", "got a value of bytes"),
        (Half.HALF, "got a value of Half"),
        (("a", "b"), "got a value of tuple"),
        ("a" * (MOST_LANE_BYTES + 1), "got 257 bytes"),
        ("\ud800", "got a value that is no valid text"),
        pytest.param(10**5000, "got a value that is no valid text", id="a long int"),
        (KeyError("acme"), "the function `by` of its limit raised KeyError"),
    ],
)
async def test_a_lane_that_cannot_be_refuses_the_call(
    jobs: AppJobs, driver: CountingDriver, found: object, says: str
) -> None:
    """The message shows no value. Only a value that is too long or no text may come from a client of the program."""
    tenants.append(found)
    with pytest.raises(ValidationError, match=says) as caught:
        await jobs.of_tenant.enqueue(0)
    assert str(caught.value).startswith("of_tenant: ")
    assert caught.value.is_internal == ("257 bytes" not in says and "no valid text" not in says)
    assert "acme" not in str(caught.value)
    assert driver.enqueued == []


async def test_by_sees_the_input_as_the_handler_does() -> None:
    """A field of a dict is validated before `by` sees it."""

    class Order(BaseModel):
        shop: int

    seen: list[object] = []

    def shop(input: Order) -> int:
        seen.append(input)
        return input.shop

    @job(Order, limit=Limit(by=shop))
    async def ship(input: Order) -> None: ...

    class Shop(Jobs[None]):
        ship_order = ship

    calls: Any = Shop(context=None, driver=MemoryDriver()).ship_order
    await calls.enqueue({"shop": "5"})
    await calls.enqueue(shop="6")
    assert seen == [Order(shop=5), Order(shop=6)]


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        ("100/1m", PER_MINUTE),
        ("100/m", PER_MINUTE),
        ("5/250ms", Rate(5, timedelta(milliseconds=250))),
        ("1/1.5s", Rate(1, timedelta(seconds=1.5))),
        ("1/0.5ms", Rate(1, timedelta(milliseconds=1))),
        ("1/d", Rate(1, timedelta(days=1))),
        (PER_MINUTE, PER_MINUTE),
    ],
)
def test_a_rate_is_a_count_and_a_period(rate: str | Rate, expected: Rate) -> None:
    """A period is whole milliseconds, rounded up, so that no more start than was said."""
    assert Limit(rate=rate).rate == expected


any_limit: Any = Limit


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, r"Limit\(\) limits nothing: give concurrency=2"),
        ({"name": "api"}, r"Limit\(\) limits nothing"),
        ({"concurrency": 0}, "concurrency must be a whole number from 1 to 10,000, got 0"),
        ({"concurrency": True}, "concurrency must be a whole number"),
        ({"concurrency": MOST_CONCURRENCY + 1}, "concurrency must be a whole number from 1 to 10,000"),
        ({"rate": "100"}, "rate is not a rate: '100'; write it as \"100/1m\""),
        ({"rate": "100/"}, "rate is not a rate"),
        ({"rate": "100/1"}, "rate is not a rate"),
        ({"rate": "100 / 1m"}, "rate is not a rate"),
        ({"rate": "-1/m"}, "rate is not a rate"),
        ({"rate": 100}, "rate must be a str, got int; write it as"),
        ({"rate": "0/m"}, "count of rate must be a whole number from 1 to 10,000, got 0"),
        ({"rate": f"{MOST_RATE + 1}/m"}, "count of rate must be a whole number from 1 to 10,000"),
        ({"rate": "1/2d"}, "period of rate must be at most 1d, got 2d"),
        ({"rate": "1/0s"}, "period of rate must be longer than zero"),
        ({"rate": "1/5min"}, "period of rate is not a duration: '5min'"),
        ({"rate": Rate(1, timedelta(0))}, "period of rate must be longer than zero"),
        ({"by": "domain"}, "by must be a function of the input, got str"),
        ({"concurrency": 1, "name": "a b"}, "name of a limit may have letters"),
    ],
)
def test_a_limit_without_meaning_is_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        any_limit(**options)


async def domain_later(input: Page) -> str:
    return input.domain


class DomainLater:
    async def __call__(self, input: Page) -> str:
        return input.domain


@pytest.mark.parametrize("by", [domain_later, DomainLater()])
def test_by_is_a_plain_function(by: object) -> None:
    with pytest.raises(DefinitionError, match="by must be a plain function"):
        any_limit(by=by)


any_job: Any = job


def test_a_job_refuses_what_is_no_limit() -> None:
    with pytest.raises(DefinitionError, match=r"limit must be a Limit\(\.\.\.\), got int"):
        any_job(int, limit=2)(next_tenant)


def test_a_job_without_input_has_no_by() -> None:
    async def bare() -> None: ...

    with pytest.raises(DefinitionError, match="bare: a job without input has no `by` in its limit"):
        any_job(limit=Limit(by=str))(bare)


async def test_jobs_share_a_limit_by_its_name() -> None:
    shared = Limit(concurrency=3, name="api")

    @job(limit=shared)
    async def first() -> None: ...

    @job(limit=shared)
    async def second() -> None: ...

    class Api(Jobs[None]):
        one = first
        two = second

    driver = CountingDriver(MemoryDriver())
    jobs = Api(context=None, driver=driver)
    await jobs.one.enqueue()
    await jobs.two.enqueue()
    assert {record.lane for record in driver.enqueued} == {Lane("api", "", 3)}


@pytest.mark.parametrize("other", [Limit(concurrency=4, name="api"), Limit(concurrency=3, rate="1/s", name="api")])
def test_limits_of_one_name_have_the_same_numbers(other: Limit) -> None:
    @job(limit=Limit(concurrency=3, name="api"))
    async def first() -> None: ...

    @job(limit=other)
    async def second() -> None: ...

    with pytest.raises(DefinitionError, match=r"the limit 'api' of 'second' has another .* than that of 'first'"):
        type("Api", (Jobs,), {"one": first, "two": second})
