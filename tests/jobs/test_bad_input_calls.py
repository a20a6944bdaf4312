"""Invalid ids, keys, delays, options, limits and cursors are refused at the call; so are calls of a wrong runtime."""

from __future__ import annotations

import asyncio
import base64
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from flowli_core import (
    FlowliError,
    Jobs,
    Retry,
    RetryAfter,
    Runner,
    SchedulingError,
    StrategyError,
    ValidationError,
    current_job,
    job,
)
from flowli_core._jobs.cursor import encode_cursor
from tests.support.counting import CountingDriver
from tests.support.refusals import SECRET, Refused, assert_error, refuse, refuse_call, table

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime.now(UTC)
EAST, WEST = timezone(timedelta(hours=12)), timezone(timedelta(hours=-12))


@job(int)
async def number(input: int) -> int:
    return input


@job()
async def stray() -> None: ...


class AppJobs(Jobs[None]):
    number = number


@pytest.fixture
def driver() -> CountingDriver:
    return CountingDriver()


@pytest.fixture
def jobs(driver: CountingDriver) -> AppJobs:
    return AppJobs(context=None, driver=driver)


def with_option(case: int | str, what: str, *says: str, **options: Any) -> Refused:
    """Describe an option that `options` refuses."""
    return Refused(case, what, lambda jobs: jobs.number.options(**options), ValidationError, says)


def with_id(what: str, value: object, *says: str) -> list[Refused]:
    """Describe an invalid id, for each call that takes an id."""

    def described(where: str, do: Callable[[Any], Any]) -> Refused:
        return Refused(11, f"{what}, {where}", do, ValidationError, says)

    return [
        described("enqueue", lambda jobs: jobs.number.options(id=value).enqueue(1)),
        described("get_job", lambda jobs: jobs.inspect.get_job(value)),
        described("cancel", lambda jobs: jobs.control.cancel(value)),
        described("requeue", lambda jobs: jobs.control.requeue(value)),
    ]


def delayed(case: int, what: str, delay: object, *says: str) -> Refused:
    """Describe a delay that is refused."""
    return Refused(case, what, lambda jobs: jobs.number.delay(delay, 1), SchedulingError, ("delay", *says))


def listed(case: int, what: str, *says: str, state: object = "queued", **options: Any) -> Refused:
    """Describe a listing that is refused."""
    return Refused(case, what, lambda jobs: jobs.inspect.find(state, **options), ValidationError, says)


OPTIONS = [
    with_option(11, "empty key", "key must not be empty", key=""),
    with_option(11, "key over 256", "key must have at most 256 characters, got 268", key=SECRET + "k" * 256),
    with_option(11, "key of control characters", "key may have printable characters only", key=f"{SECRET}\n"),
    with_option(11, "key with a surrogate", "key may have printable characters only", key=f"{SECRET}\ud800"),
    with_option(11, "number for a key", "key must be a str, got int", key=5),
    with_option(11, "empty queue", "queue must not be empty", queue=""),
    with_option(11, "queue with a space", "queue may have letters", queue="a b"),
    with_option(11, "queue over 128", "queue must have at most 128 characters, got 129", queue="q" * 129),
    with_option(33, "number for a retry", "retry must be a Retry(...), got int", retry=5),
    with_option(33, "rules in a call's retry", "set retry_on and give_up_on in @job", retry=Retry(retry_on=(OSError,))),
    with_option(33, "other rules in it", "set retry_on and give_up_on in @job", retry=Retry(give_up_on=(OSError,))),
    with_option(39, "timeout of zero", "timeout must be longer than zero", timeout="0s"),
    with_option(39, "negative timeout", "timeout must be longer than zero", timeout=timedelta(-1)),
    with_option(39, "timeout is a number", "timeout must be a duration, got float", '"30s"', timeout=0.5),
    with_option(39, "expiry of zero", "expires must be longer than zero", expires="0s"),
    with_option(39, "negative expiry", "expires must be longer than zero", expires=timedelta(-1)),
    with_option(39, "expiry is a number", "expires must be a duration, got int", '"30s"', expires=30),
    with_option(39, "expiry over ten years", "expires must be at most 3653d, got 3654d", expires="3654d"),
    with_option(39, "naive expiry", "expires must be an aware datetime", expires=NOW.replace(tzinfo=None)),
    with_option(39, "timeout over ten years", "timeout must be at most 3653d, got 3654d", timeout="3654d"),
]

IDS = [
    *with_id("empty", "", "id must not be empty"),
    *with_id("over 128", "i" * 129, "id must have at most 128 characters, got 129"),
    *with_id("with a space", "a b", "id may have printable ASCII"),
    *with_id("with a glob", "a*", "no space, *, { or }"),
    *with_id("with braces", "{a}", "no space, *, { or }"),
    *with_id("beyond ASCII", "é", "id may have printable ASCII"),
    *with_id("a number", 5, "id must be a str, got int"),
    *with_id("bytes", b"x", "id must be a str, got bytes"),
]

DELAYS = [
    delayed(27, "negative", timedelta(seconds=-1), "must not be negative"),
    delayed(27, "negative as text", "-5s", "is not a duration", '"30s"'),
    delayed(28, "NaN", math.nan, "got float"),
    delayed(28, "infinity", math.inf, "got float"),
    delayed(28, "True", True, "got bool"),  # noqa: FBT003 - the point of it
    delayed(28, "a number", 5, "got int", '"10m"'),
    delayed(28, "a number as text", "5", "is not a duration: '5'"),
    delayed(28, "nothing", None, "got NoneType"),
    delayed(28, "a date", NOW.date(), "got date"),
    delayed(29, "words", "5 minutes", "is not a duration"),
    delayed(29, "an exponent", "1e3s", "is not a duration"),
    delayed(29, "digits of another script", "\u0665s", "is not a duration"),
    delayed(29, "10 kB of digits", "9" * 10_000 + "s", "is not a duration", "..."),
    delayed(29, "a space", " 5s", "is not a duration"),
    delayed(29, "a newline", "5s\n", "is not a duration"),
    delayed(29, "empty", "", "is not a duration"),
    delayed(30, "over ten years", "3654d", "at most 3653d, got 3654d"),
    delayed(30, "more than a timedelta holds", "999999999999d", "at most 3653d"),
    delayed(30, "a moment in eleven years", NOW + timedelta(days=4016), "at most 3653d from now"),
    delayed(30, "a moment beyond the year 9999 in UTC", datetime.max.replace(tzinfo=WEST), "years 1 to 9999"),
    delayed(31, "a naive moment", datetime(2026, 1, 1), "aware datetime", "tzinfo=UTC"),  # noqa: DTZ001 - the point
    delayed(32, "a moment before the year 1 in UTC", datetime.min.replace(tzinfo=EAST), "years 1 to 9999"),
]

MANY = [
    Refused(41, "many with one key", lambda jobs: jobs.number.options(key="k").enqueue_many([1]), ValidationError,
            ("enqueue_many takes no key and no id",)),
    Refused(41, "many with one id", lambda jobs: jobs.number.options(id="i").enqueue_many([1]), ValidationError,
            ("enqueue_many takes no key and no id",)),
    Refused(41, "many in a bad queue", lambda jobs: jobs.number.enqueue_many([1], queue="a b"), ValidationError,
            ("queue may have letters",)),
]  # fmt: skip

LISTINGS = [
    *[
        listed(70, f"limit {limit!r}", "limit must be a whole number from 1 to 1,000", limit=limit)
        for limit in (-1, 0, 10**9, 1001, True, 2.5, "5", None)
    ],
    listed(70, "unknown state", 'state must be "queued", "scheduled", "active", ', state="dead"),
    listed(70, "no state", 'state must be "queued", ', state=None),
    *[
        listed(70, f"cursor {what}", "cursor is invalid; give the cursor of the page before", cursor=cursor)
        for what, cursor in [
            ("empty", ""),
            ("garbage", SECRET),
            ("beyond ASCII", "é" + SECRET),
            ("a number", 5),
            ("of one part", encode_cursor(SECRET)),
            ("of no time", encode_cursor("then", SECRET)),
            ("of no text", base64.urlsafe_b64encode(b"\xff\xfe").decode()),
            ("of a time too early", encode_cursor("0001-01-01T00:00:00+12:00", "id")),
            ("of a naive time", encode_cursor("2026-01-01T00:00:00", "id")),
            ("of no id", encode_cursor("2026-01-01T00:00:00+00:00", "")),
        ]
    ],
    Refused(70, "schedules, limit 0", lambda jobs: jobs.inspect.get_schedules(limit=0), ValidationError, ("limit",)),
    Refused(70, "schedules, cursor", lambda jobs: jobs.inspect.get_schedules(cursor="?"), ValidationError, ("cursor",)),
    Refused(70, "schedule, key", lambda jobs: jobs.inspect.get_schedule("\n"), ValidationError, ("key",)),
    Refused(70, "purge of waiting jobs", lambda jobs: jobs.control.purge_all("queued"), ValidationError,
            ('"completed", "failed" or "cancelled"', "cancel waiting jobs first")),
    Refused(70, "purge of a negative age", lambda jobs: jobs.control.purge_all("failed", older_than=timedelta(-1)),
            ValidationError, ("older_than must not be negative",)),
]  # fmt: skip


@table(*OPTIONS)
def test_an_invalid_option_is_refused_before_the_call(row: Refused, jobs: AppJobs, driver: CountingDriver) -> None:
    refuse(row, jobs)
    assert not driver.calls


@table(*IDS, *DELAYS, *MANY, *LISTINGS)
async def test_an_invalid_argument_is_refused_without_a_call_of_the_store(
    row: Refused, jobs: AppJobs, driver: CountingDriver
) -> None:
    await refuse_call(row, jobs)
    assert not driver.calls


@pytest.mark.parametrize("option", ["queue", "key"])
async def test_an_option_beside_the_input_is_checked_like_one_in_options(
    option: str, jobs: AppJobs, driver: CountingDriver
) -> None:
    number: Any = jobs.number
    with pytest.raises(ValidationError, match=f"{option} must not be empty"):
        await number.enqueue(1, **{option: ""})
    assert not driver.calls


@pytest.mark.parametrize("delay", ["5 minutes", -1, timedelta(-1), "3654d"])
def test_retry_after_refuses_an_invalid_delay(delay: Any) -> None:
    with pytest.raises(FlowliError, match="delay"):
        RetryAfter(delay)


async def test_a_runner_cannot_run_twice_at_the_same_time(jobs: AppJobs) -> None:
    """Neither on the same event loop nor on another; nor can it run after the runtime was closed."""
    runner = Runner(jobs)
    async with runner:
        with pytest.raises(StrategyError, match="is running already; make another Runner"):
            await runner.run()
        with pytest.raises(StrategyError, match="is running already"):
            await asyncio.to_thread(asyncio.run, runner.run_once())
    await runner.run_once()
    await jobs.aclose()
    with pytest.raises(StrategyError, match=r"this registry is closed.*make a new registry"):
        await runner.run_once()


@pytest.mark.parametrize("verb", ["run", "enqueue", "delay", "enqueue_many"])
async def test_a_closed_runtime_refuses_every_call(verb: str, jobs: AppJobs, driver: CountingDriver) -> None:
    await jobs.aclose()
    args = {"run": (1,), "enqueue": (1,), "delay": ("1s", 1), "enqueue_many": ([1],)}
    with pytest.raises(StrategyError, match=r"this registry is closed.*make a new registry"):
        await getattr(jobs.number, verb)(*args[verb])
    assert not driver.calls


def test_one_runtime_serves_one_event_loop_after_another(jobs: AppJobs) -> None:
    """A coroutine that was made outside of an event loop can be run by any."""
    receipts = [asyncio.run(jobs.number.enqueue(value)) for value in (1, 2)]
    assert [receipt.disposition for receipt in receipts] == ["accepted", "accepted"]


@pytest.mark.parametrize("verb", ["run", "enqueue"])
async def test_a_job_that_is_not_in_the_registry_is_refused(verb: str, jobs: AppJobs, driver: CountingDriver) -> None:
    with pytest.raises(StrategyError, match="'stray' is not in this registry; make it an attribute") as caught:
        await getattr(stray.on(jobs), verb)()
    assert_error(caught.value, StrategyError, "stray")
    assert not driver.calls


async def test_another_job_with_the_same_name_is_refused(jobs: AppJobs, driver: CountingDriver) -> None:
    async def impostor(input: str) -> None: ...

    with pytest.raises(StrategyError, match="'number' is not in this registry"):
        await job(str, name="number")(impostor).on(jobs).enqueue("x")
    assert not driver.calls


def test_current_job_is_refused_outside_of_a_job() -> None:
    with pytest.raises(StrategyError, match="outside of a job"):
        current_job()
