"""The calls of a job: run, enqueue, delay and enqueue_many, with and without a driver, and their receipts."""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from flowli_core import Jobs, Receipt, StrategyError, job
from flowli_core.testing import ManualClock, drain
from tests.support.counting import CountingDriver
from tests.support.mailing import START, AppJobs, Email, Meta, ran, send


async def test_run_returns_the_result_and_raises_the_error_of_the_handler() -> None:
    jobs = AppJobs(context=None)
    assert await jobs.send.run(to="abc") == 3
    assert await jobs.send.run(Email(to="abcd"), meta=Meta(request_id="r")) == 4
    assert await jobs.send.options(meta=Meta(request_id="s")).run(to="abcde") == 5
    with pytest.raises(ConnectionError, match="nobody"):
        await jobs.send.run(to="nobody")
    assert ran[-4:] == [("abc", None), ("abcd", "r"), ("abcde", "s"), ("nobody", None)]


async def test_run_does_not_call_the_driver(jobs: AppJobs, driver: CountingDriver) -> None:
    await jobs.send.run(to="a")
    assert not driver.calls


async def test_a_plain_handler_runs_in_a_thread(jobs: AppJobs) -> None:
    assert await jobs.slow.run("a") != threading.current_thread().name
    receipt = await jobs.slow.enqueue("a")
    await drain(jobs)
    found = await jobs.inspect.get_job(receipt.id)
    assert found is not None
    assert str(found.result).startswith("flowli-job")


async def test_a_plain_handler_may_raise_stop_iteration() -> None:
    def exhausted() -> None:
        next(iter(()))

    class Exhausting(Jobs[None]):
        take = job()(exhausted)

    async with asyncio.timeout(20):
        with pytest.raises(RuntimeError, match="raised StopIteration"):
            await Exhausting(context=None).take.run()


async def test_enqueue_stores_a_job_that_a_worker_runs(jobs: AppJobs) -> None:
    receipt = await jobs.send.enqueue(Email(to="a"), meta=Meta(request_id="r"))
    assert not ran
    assert receipt == Receipt(
        id=receipt.id, name="send", state="queued", scheduled_for=START, attempts_made=0, disposition="accepted"
    )
    assert UUID(receipt.id).version == 7
    counts = await drain(jobs)
    assert counts.completed == 1
    assert ran == [("a", "r")]


async def test_ids_are_in_the_order_of_the_calls(jobs: AppJobs) -> None:
    receipts = [await jobs.send.enqueue(to="a") for _ in range(50)]
    ids = [receipt.id for receipt in receipts]
    assert ids == sorted(set(ids))


async def test_enqueue_many_makes_one_call_and_returns_receipts_in_order(jobs: AppJobs, driver: CountingDriver) -> None:
    receipts = await jobs.send.enqueue_many(
        (Email(to=name) for name in "abc"), meta=Meta(request_id="r"), queue="other"
    )
    assert driver.calls["enqueue"] == 1
    assert [record.id for record in driver.enqueued] == [receipt.id for receipt in receipts]
    assert {record.queue for record in driver.enqueued} == {"other"}
    assert len({record.meta for record in driver.enqueued}) == 1


async def test_enqueue_many_makes_one_call_per_250_inputs(jobs: AppJobs, driver: CountingDriver) -> None:
    assert await jobs.slow.enqueue_many([]) == ()
    assert driver.calls["enqueue"] == 0
    receipts = await jobs.slow.enqueue_many(map(str, range(501)))
    assert driver.calls["enqueue"] == 3
    assert len({receipt.id for receipt in receipts}) == 501
    assert [record.input for record in driver.enqueued] == [f'"{number}"'.encode() for number in range(501)]


@pytest.mark.parametrize(
    ("delay", "due"),
    [
        ("10m", START + timedelta(minutes=10)),
        ("1.5s", START + timedelta(seconds=1.5)),
        (timedelta(days=1), START + timedelta(days=1)),
        ("0s", START),
        (START + timedelta(hours=1), START + timedelta(hours=1)),
        (datetime(2026, 1, 1, 3, tzinfo=timezone(timedelta(hours=2))), START + timedelta(hours=1)),
        (START - timedelta(days=1), START),
    ],
)
async def test_a_delayed_job_runs_when_it_is_due(
    delay: str | timedelta | datetime, due: datetime, jobs: AppJobs, clock: ManualClock
) -> None:
    """A moment in the past means now."""
    receipt = await jobs.send.delay(delay, to="a")
    assert receipt.scheduled_for == due
    assert receipt.state == ("queued" if due == START else "scheduled")
    if due > START:
        clock.advance(due - START - timedelta(milliseconds=1))
        await drain(jobs)
        assert not ran
        clock.advance("1ms")
    await drain(jobs)
    assert ran == [("a", None)]


async def test_delay_takes_the_same_inputs_and_options_as_enqueue(jobs: AppJobs, driver: CountingDriver) -> None:
    await jobs.send.delay("1s", Email(to="a"), meta=Meta(request_id="r"), queue="q", key="k")
    await jobs.who.delay("1s")
    await jobs.slow.options(key="k").delay("1s", "a")
    assert [(record.name, record.queue, record.key) for record in driver.enqueued] == [
        ("send", "q", "send k"),
        ("who", "default", None),
        ("mail/slow", "slow", "mail/slow k"),
    ]


@pytest.mark.parametrize("verb", ["enqueue", "delay", "enqueue_many"])
async def test_without_a_driver_only_run_works(verb: str) -> None:
    args: dict[str, tuple[Any, ...]] = {
        "enqueue": (Email(to="a"),),
        "delay": ("1s", Email(to="a")),
        "enqueue_many": ([],),
    }
    jobs = AppJobs(context=None)
    with pytest.raises(StrategyError, match=r"no driver, and only run\(\) works without one: AppJobs"):
        await getattr(jobs.send, verb)(*args[verb])
    for asked in (jobs.inspect.get_job("a"), jobs.inspect.get_queue_counts(), jobs.control.cancel("a"), drain(jobs)):
        with pytest.raises(StrategyError, match="no driver"):
            await asked


async def test_the_current_job_is_known_in_run_and_in_a_worker(jobs: AppJobs) -> None:
    assert await jobs.who.run() == {
        "id": "run",
        "name": "who",
        "queue": "default",
        "attempt": 1,
        "recoveries": 0,
        "token": 0,
        "cancelled": False,
    }
    assert (await jobs.who.options(queue="other").run())["queue"] == "other"
    first = await jobs.who.options(queue="default").enqueue()
    second = await jobs.who.enqueue()
    await drain(jobs, concurrency=1)
    found = [await jobs.inspect.get_job(receipt.id) for receipt in (first, second)]
    results: list[Any] = [record.result for record in found if record]
    assert [result["id"] for result in results] == [first.id, second.id]
    assert results[0] == {**results[0], "name": "who", "attempt": 1, "recoveries": 0, "cancelled": False}
    assert 0 < results[0]["token"] < results[1]["token"]


async def test_aclose_closes_an_opened_driver_once(driver: CountingDriver) -> None:
    jobs = AppJobs(context=None, driver=driver)
    async with jobs:
        await asyncio.gather(*(jobs.send.enqueue(to="a") for _ in range(3)))
    await jobs.aclose()
    assert (driver.calls["open"], driver.calls["close"]) == (1, 1)
    untouched = AppJobs(context=None, driver=driver)
    await untouched.aclose()
    assert driver.calls["close"] == 1


async def test_concurrent_first_calls_open_the_driver_once() -> None:
    class Slow(CountingDriver):
        async def open(self) -> None:
            await super().open()
            await asyncio.sleep(0)

    driver = Slow()
    jobs = AppJobs(context=None, driver=driver)
    await asyncio.gather(*(jobs.send.enqueue(to="a") for _ in range(3)))
    assert (driver.calls["open"], driver.calls["enqueue"]) == (1, 3)


async def test_closing_while_the_driver_is_opened_closes_it() -> None:
    opening = asyncio.Event()

    class Slow(CountingDriver):
        async def open(self) -> None:
            await super().open()
            opening.set()
            await asyncio.sleep(0)

    driver = Slow()
    jobs = AppJobs(context=None, driver=driver)
    call = asyncio.create_task(jobs.send.enqueue(to="a"))
    await opening.wait()
    await jobs.aclose()
    await call
    assert (driver.calls["open"], driver.calls["close"]) == (1, 1)


async def test_a_closed_runtime_cannot_be_entered_again(jobs: AppJobs) -> None:
    await jobs.aclose()
    with pytest.raises(StrategyError, match="closed"):
        async with jobs:
            pass


def test_a_script_that_uses_a_registry_in_two_event_loops_learns_why_it_is_closed(jobs: AppJobs) -> None:
    async def main() -> None:
        async with jobs:
            pass

    asyncio.run(main())
    with pytest.raises(StrategyError, match=r"block has ended.*in one asyncio\.run.*or make a new registry"):
        asyncio.run(main())


def test_a_job_has_its_declared_settings() -> None:
    definition = AppJobs.slow.definition
    assert (definition.name, definition.description, definition.tags) == ("mail/slow", "Slow.", ("mail",))
    assert AppJobs.send.definition.description == "Send an email."
    assert AppJobs.send is send
