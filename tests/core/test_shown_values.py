"""Messages about a wrong value show it shortly, and showing it never fails."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

import pytest

from flowli_core import FlowliError, Jobs, Retry, Runner, exponential, fixed, job
from flowli_core._checks import shown
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.drivers.redis import RedisDriver
from flowli_core.drivers.sqlite import SqliteDriver

if TYPE_CHECKING:
    from collections.abc import Callable

HUGE = 10**5000
LONG = "a\x1b" * 50_000


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("secret")


class Chatty:
    def __repr__(self) -> str:
        return "x" * 100_000


WRONG = [
    pytest.param(HUGE, id="huge"),
    pytest.param(-HUGE, id="negative"),
    pytest.param(LONG, id="long"),
    pytest.param(LONG.encode(), id="bytes"),
    pytest.param(Unshowable(), id="unshowable"),
    pytest.param(Chatty(), id="chatty"),
    pytest.param([HUGE], id="list"),
    pytest.param(float("nan"), id="nan"),
]


@job(int)
async def act(input: int) -> None: ...


class AppJobs(Jobs[None]):
    act = act


jobs = AppJobs(context=None, driver=MemoryDriver())
any_jobs: Any = jobs
any_runner: Any = Runner
any_retry: Any = Retry
any_sqlite: Any = SqliteDriver
any_redis: Any = RedisDriver
any_fixed: Any = fixed
any_exponential: Any = exponential
any_job: Any = job
any_act: Any = act


async def take(input: int) -> None: ...


CALLS: list[Callable[[Any], object]] = [
    lambda wrong: any_runner(jobs, concurrency=wrong),
    lambda wrong: any_runner(jobs, lease=wrong),
    lambda wrong: any_runner(jobs, queues=(wrong,)),
    lambda wrong: any_retry(max_attempts=wrong),
    lambda wrong: any_retry(backoff=wrong),
    any_fixed,
    lambda wrong: any_fixed("1s", jitter=wrong),
    lambda wrong: any_fixed("1s", jitter=(0, wrong)),
    lambda wrong: any_exponential("1s", factor=wrong),
    lambda wrong: any_exponential("1s", max_delay=wrong),
    lambda wrong: any_job(int, queue=wrong)(take),
    lambda wrong: any_job(int, timeout=wrong)(take),
    any_redis.from_url,
    lambda wrong: any_redis.from_url("redis://localhost", prefix=wrong),
    lambda wrong: any_redis.from_url("redis://localhost", patience=wrong),
    lambda wrong: any_sqlite("jobs.sqlite3", synchronous=wrong),
    lambda wrong: any_sqlite("jobs.sqlite3", busy_timeout=wrong),
    lambda wrong: any_jobs.act.options(key=wrong),
    lambda wrong: any_jobs.act.options(id=wrong),
    lambda wrong: any_jobs.act.options(queue=wrong),
    lambda wrong: any_act.scheduled("k", cron=wrong),
    lambda wrong: any_act.scheduled("k", every=wrong),
    lambda wrong: any_act.scheduled("k", cron="0 0 * * *", timezone=wrong),
]


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_value_is_shown_shortly(call: Callable[[Any], object], wrong: object) -> None:
    assert_short(call, wrong)


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_wrong_value_of_a_call_is_shown_shortly(wrong: Any) -> None:
    async with AppJobs(context=None, driver=MemoryDriver()) as opened:
        any_opened: Any = opened
        calls: list[Callable[[], Any]] = [
            lambda: any_opened.inspect.find(wrong),
            lambda: any_opened.inspect.find("queued", limit=wrong),
            lambda: any_opened.inspect.get_schedules(limit=wrong),
            lambda: any_opened.control.purge_all("completed", older_than=wrong),
            lambda: any_opened.act.delay(wrong, 1),
        ]
        for call in calls:
            with pytest.raises(FlowliError) as caught:
                await call()
            assert len(str(caught.value)) < 500


@pytest.mark.parametrize("field", range(5))
@pytest.mark.parametrize("number", ["9" * 5000, "1-" + "9" * 5000, "*/" + "9" * 5000, "²", "٣"], ids=range(5))
def test_a_huge_number_in_a_cron_expression_is_refused(field: int, number: str) -> None:
    fields = ["*"] * 5
    fields[field] = number
    assert_short(lambda cron: any_act.scheduled("k", cron=cron), " ".join(fields))


def test_the_shown_value_is_a_short_repr() -> None:
    assert shown("a\x1b") == r"'a\x1b'"
    assert shown("x" * 61) == "'" + "x" * 56 + "..."
    assert shown(HUGE) == "a value of int that cannot be shown"
    assert shown(Unshowable()) == "a value of Unshowable that cannot be shown"


def assert_short(call: Callable[[Any], object], wrong: object) -> None:
    """Check that a call raises an error of Flowli with a short message."""
    with pytest.raises(FlowliError) as caught:
        call(wrong)
    assert len(str(caught.value)) < 500
    assert "\x1b" not in str(caught.value)
    assert "secret" not in "".join(traceback.format_exception(caught.value))
