"""Stored jobs are found by state, name, queue, error and age."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flowli_core import Jobs, Retry, ValidationError, fixed, job
from flowli_core.driver import Retried
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import ManualClock, drain
from tests.conformance.builders import Worker
from tests.support.counting import CountingDriver
from tests.support.store import requeue_one

if TYPE_CHECKING:
    from flowli_core import State
    from flowli_core.stored import Found, RecordQuery


class MailboxError(Exception):
    """An error with a module."""


class BigMailboxError(Exception):
    """An error whose name ends like another."""


ERRORS = {error.__name__: error for error in (ConnectionError, ValueError, MailboxError, BigMailboxError)}


@job(str, aliases=["post"])
async def send(input: str) -> None:
    """Fail with the error that the input names, whose message looks like another."""
    raise ERRORS[input]('"last_error":{"type":"KeyError","message":"KeyError","message":')


@job(str, queue="slow", retry=Retry(max_attempts=2, backoff=fixed("1s")))
async def fax(input: str) -> None:
    raise ERRORS[input]


class Mail(Jobs[None]):
    send = send
    fax = fax


@pytest.fixture
def mail(driver: CountingDriver) -> Mail:
    """Return a registry whose jobs fail."""
    return Mail(context=None, driver=driver)


async def find(mail: Mail, state: State = "failed", **filters: Any) -> list[str]:
    """Return the ids that a search finds. The count must be the same."""
    found = [record.id for record in (await mail.inspect.find(state, **filters)).items]
    assert await mail.inspect.count(state, **filters) == len(found)
    return found


@pytest.mark.parametrize(
    ("error", "found"),
    [
        ("ConnectionError", ["ConnectionError"]),
        ("MailboxError", ["MailboxError"]),
        (f"{__name__}.MailboxError", ["MailboxError"]),
        ("test_finding.MailboxError", ["MailboxError"]),
        ("other.MailboxError", []),
        ("boxError", []),
        ("KeyError", []),
        ('a"b\\c', []),
    ],
)
async def test_jobs_are_found_by_the_class_of_their_last_error(mail: Mail, error: str, found: list[str]) -> None:
    for name in ERRORS:
        await mail.send.options(id=name).enqueue(name)
    await drain(mail)
    assert await find(mail, error=error) == found


async def test_an_earlier_error_does_not_find_a_job(driver: CountingDriver, clock: ManualClock) -> None:
    outcomes = iter([ConnectionError, ValueError])

    @job(retry=Retry(max_attempts=2, backoff=fixed("1s")))
    async def fail() -> None:
        raise next(outcomes)

    class Failing(Jobs[None]):
        fail_twice = fail

    failing = Failing(context=None, driver=driver)
    await failing.fail_twice.enqueue()
    await drain(failing)
    assert await failing.inspect.count("scheduled", error="ConnectionError") == 1
    clock.advance("1s")
    await drain(failing)
    assert await failing.inspect.count(error="ConnectionError") == 0
    assert await failing.inspect.count(error="ValueError") == 1


async def test_jobs_that_lost_their_workers_are_found_by_that_error(
    mail: Mail, driver: CountingDriver, clock: ManualClock
) -> None:
    """No store has this error: it follows from the number of recoveries."""
    await mail.send.options(id="lost").enqueue("ValueError")
    for number in range(4):
        await Worker(driver, f"dies {number}", queues=("default",)).take_one()
        clock.advance("31s")
    await mail.send.enqueue("ValueError")
    await drain(mail)
    assert await find(mail, error="WorkerLost") == ["lost"]


async def test_jobs_are_found_by_name_queue_and_age_together(mail: Mail, clock: ManualClock) -> None:
    await mail.send.options(id="old").enqueue("ValueError")
    await mail.send.options(id="old-slow", queue="slow").enqueue("ValueError")
    await drain(mail)
    clock.advance("1h")
    await mail.send.options(id="young").enqueue("ValueError")
    await drain(mail)
    clock.advance("1m")
    await mail.fax.options(id="fax").enqueue("ValueError")
    await drain(mail)
    assert await find(mail, name="send") == ["young", "old-slow", "old"]
    assert await find(mail, queue="slow") == ["old-slow"]
    assert await find(mail, older_than="30m") == ["old-slow", "old"]
    assert await find(mail, older_than=timedelta(minutes=30), queue="default", name="send") == ["old"]
    assert await find(mail, "scheduled", queue="slow") == await find(mail, "scheduled", name="fax") == ["fax"]
    assert await find(mail, "completed", name="send") == await find(mail, queue="nowhere") == []


async def test_a_count_without_filters_reads_no_records(mail: Mail, driver: CountingDriver) -> None:
    await mail.send.enqueue("ValueError")
    assert (await mail.inspect.count("queued"), await mail.inspect.count("queued", queue="default")) == (1, 1)
    assert "records" not in driver.calls


async def fill(mail: Mail, clock: ManualClock) -> None:
    """Store 700 cancelled jobs, of which two are faxes: the first and the last."""
    await mail.fax.options(id="first").enqueue("ValueError")
    await mail.control.cancel("first")
    clock.advance("1s")
    await mail.send.enqueue_many(["ValueError"] * 700)
    await mail.control.cancel_all()
    clock.advance("1s")
    await mail.fax.options(id="last").enqueue("ValueError")
    await mail.control.cancel("last")


async def test_a_search_goes_on_until_its_page_is_full(mail: Mail, driver: CountingDriver, clock: ManualClock) -> None:
    await fill(mail, clock)
    driver.calls.clear()
    page = await mail.inspect.find("cancelled", name="fax")
    assert ([record.id for record in page.items], page.cursor) == (["last", "first"], None)
    assert driver.calls["records"] == 3
    assert await mail.inspect.count("cancelled", name="fax") == 2


async def test_a_long_search_returns_a_short_page_with_a_cursor(
    mail: Mail, driver: CountingDriver, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(mail, clock)
    monkeypatch.setattr("flowli_core._jobs.finding.SEARCH_FOR", 0.0)
    driver.calls.clear()
    pages = [await mail.inspect.find("cancelled", name="fax")]
    while (cursor := pages[-1].cursor) is not None:
        pages.append(await mail.inspect.find("cancelled", name="fax", cursor=cursor))
    assert [[record.id for record in page.items] for page in pages] == [["last"], [], ["first"]]
    assert driver.calls["records"] == 3


class MovingDriver(CountingDriver):
    """A driver in which a scheduled record fails, and moves down its listing, after the first call that lists it."""

    moves: str | None = None

    async def records(self, query: RecordQuery) -> Found:
        found = await super().records(query)
        if self.moves is not None:
            worker, moves, self.moves = Worker(self.inner, queues=("slow",)), self.moves, None
            assert await requeue_one(self.inner, moves) == "requeued"
            await worker.settle(await worker.take_one(), Retried(timedelta(seconds=1), b"{}"))
        return found


async def test_a_page_holds_no_record_twice_although_it_moves_meanwhile(clock: ManualClock) -> None:
    driver = MovingDriver(MemoryDriver(clock=clock))
    mail = Mail(context=None, driver=driver)
    ids = [f"{number}" for number in range(7)]
    for number in ids:
        await mail.fax.options(id=number).delay(f"{number}1m", "ValueError")
    driver.moves = ids[-1]
    assert [record.id for record in (await mail.inspect.find("scheduled")).items] == ids[::-1]
    assert [record.id for record in (await mail.inspect.find("scheduled")).items] == [*ids[-2::-1], ids[-1]]


@pytest.mark.parametrize("wrong", [{"name": ""}, {"queue": "a b"}, {"error": "\n"}, {"older_than": 3}, {"name": 3}])
async def test_an_invalid_filter_is_refused(mail: Mail, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        await mail.inspect.find(**wrong)
