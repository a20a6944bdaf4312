"""Progress and log lines of running handlers: when they reach the store, and what they cost."""

import asyncio
import itertools
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from flowli_core import JobRecord, Retry, Runner, StoreDamaged, current_job, fixed
from flowli_core.driver import HeartbeatAnswer, Lease
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.reports import Report
from tests.support.faulty import FaultyDriver
from tests.support.running import Hold, Work, running, soon, until


class Beats(FaultyDriver):
    """A driver that keeps the reports that heartbeats carried, and when."""

    def __init__(self) -> None:
        super().__init__(MemoryDriver())
        self.reports: list[tuple[float, Sequence[Report]]] = []

    async def heartbeat(
        self, worker: str, leases: Sequence[Lease], lease: timedelta, reports: Sequence[Report] = ()
    ) -> HeartbeatAnswer:
        if reports:
            self.reports.append((time.monotonic(), tuple(reports)))
        return await super().heartbeat(worker, leases, lease, reports)


def texts(record: JobRecord) -> list[str]:
    return [line.text for line in record.log]


def done(record: JobRecord) -> float | None:
    return None if record.progress is None else record.progress.done


async def until_done(work: Work, record_id: str, amount: float) -> JobRecord:
    async def is_stored() -> bool:
        return done(await work.job(record_id)) == amount

    await until(is_stored)
    return await work.job(record_id)


@pytest.mark.parametrize("kind", ["act", "toil"])
async def test_the_last_report_is_stored_with_the_outcome(kind: str) -> None:
    """No heartbeat carries it: the job ends before one is sent."""
    work = Work(driver := Beats())

    def report(number: int) -> None:
        for page in range(200):
            current_job().progress(page + 1, 200, f"page {page + 1}")
            current_job().log(f"read page {page + 1}")

    async def act(number: int) -> None:
        report(number)

    work.deeds.act, work.deeds.toil = act, report
    receipt = await (work.jobs.act if kind == "act" else work.jobs.toil).enqueue(1)
    await work.run()
    found = await work.job(receipt.id)
    assert found.state == "completed"
    assert found.progress is not None
    assert (found.progress.done, found.progress.total, found.progress.note) == (200, 200, "page 200")
    assert found.progress.fraction == 1
    assert texts(found) == [f"read page {page}" for page in range(101, 201)]
    assert abs(found.progress.at - datetime.now(UTC)) < timedelta(seconds=30)
    assert driver.reports == []


@pytest.mark.parametrize("ending", ["raises", "retries", "is cancelled", "times out"])
async def test_reports_are_stored_however_the_attempt_ends(ending: str) -> None:
    work = Work()

    async def act(number: int) -> None:
        current_job().progress(number)
        current_job().log("about to end")
        if ending == "raises":
            raise ValueError
        if ending == "is cancelled":
            await work.jobs.control.cancel(current_job().id)
        await asyncio.Event().wait()

    work.deeds.act = act
    timeout = "50ms" if ending == "times out" else None
    receipt = await work.jobs.act.options(timeout=timeout).enqueue(7)
    runner = Runner(work.jobs, lease="1s")
    async with running(runner):
        if ending == "retries":
            await work.until(receipt.id, "active")
            await runner.stop(drain="1ms")
        else:
            await work.until(receipt.id, "cancelled" if ending == "is cancelled" else "failed")
    found = await work.job(receipt.id)
    assert (done(found), texts(found)) == (7, ["about to end"])


async def test_the_first_report_of_a_long_job_is_stored_soon_and_then_one_a_second() -> None:
    work = Work(driver := Beats())

    async def act(number: int) -> None:
        while number < 130:
            current_job().progress(number := number + 1)
            await asyncio.sleep(0.01)

    work.deeds.act = act
    (record_id,) = await work.add(0)
    began = time.monotonic()
    await work.run()
    times = [at - began for at, _ in driver.reports]
    assert len(times) >= 2, times
    assert 0.04 < times[0] < 0.9
    assert all(later - earlier > 0.9 for earlier, later in itertools.pairwise(times)), times
    assert done(await work.job(record_id)) == 130


async def test_one_heartbeat_carries_the_reports_of_all_jobs_and_no_lease() -> None:
    work = Work(driver := Beats())
    hold = Hold()

    async def act(number: int) -> None:
        current_job().progress(number)
        current_job().log(f"job {number}")
        await hold(number)

    work.deeds.act = act
    ids = await work.add(*range(1, 9))
    async with running(Runner(work.jobs, concurrency=8)):
        await until(lambda: bool(driver.reports))
        for number, record_id in enumerate(ids, 1):
            await until_done(work, record_id, number)
        ((_, reports),) = driver.reports
        assert sorted(report.id for report in reports) == sorted(ids)
        hold.release.set()
        for record_id in ids:
            await work.until(record_id, "completed")
    assert [texts(await work.job(record_id)) for record_id in ids] == [[f"job {number}"] for number in range(1, 9)]


async def test_a_handler_that_blocks_the_event_loop_shows_its_progress() -> None:
    work = Work()
    seen: list[float | None] = []

    async def act(_: int) -> None:
        current_job().progress(5)
        limit = time.monotonic() + 20
        while (not seen or seen[-1] is None) and time.monotonic() < limit:
            time.sleep(0.05)  # noqa: ASYNC251 - the fault
            thread = threading.Thread(target=lambda: asyncio.run(look()))
            thread.start()
            thread.join()

    async def look() -> None:
        seen.append(done(await work.job(record_id)))

    work.deeds.act = act
    (record_id,) = await work.add(1)
    await work.run()
    assert seen[-1] == 5


async def test_what_could_not_be_stored_is_stored_once_the_store_is_back(caplog: pytest.LogCaptureFixture) -> None:
    """Lines come once, also if a heartbeat was stored but its answer was lost."""
    work = Work(driver := Beats())
    hold = Hold()
    more = asyncio.Event()

    async def act(_: int) -> None:
        current_job().progress(1)
        current_job().log("one")
        await more.wait()
        current_job().progress(2)
        current_job().log("two")
        await hold(0)

    work.deeds.act = act
    (record_id,) = await work.add(1)
    async with running(Runner(work.jobs)):
        await until(lambda: driver.calls["heartbeat"] >= 2)
        driver.fail("heartbeat", kind="after", times=1)
        more.set()
        found = await until_done(work, record_id, 2)
        assert texts(found) == ["one", "two"]
        hold.release.set()
        await work.until(record_id, "completed")
    assert texts(await work.job(record_id)) == ["one", "two"]
    assert "cannot be stored" not in caplog.text


async def test_a_store_that_refuses_reports_is_named_once_and_the_job_completes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    work = Work(driver := Beats())
    hold = work.deeds.act = Hold()

    async def act(_: int) -> None:
        current_job().progress(1)
        await hold(0)

    work.deeds.act = act
    (record_id,) = await work.add(1)
    async with running(Runner(work.jobs)):
        await until(lambda: driver.calls["heartbeat"] >= 2)
        driver.fail("heartbeat", error=StoreDamaged("a key had another type"))
        await until(lambda: len(driver.reports) >= 2)
        driver.mend()
        hold.release.set()
        await work.until(record_id, "completed")
    assert caplog.text.count("the progress and log lines of jobs cannot be stored") <= 1
    assert done(await work.job(record_id)) == 1


async def test_many_large_logs_are_sent_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a heartbeat nor a step becomes so large that the lease or a slow network could not bear it."""
    work = Work(driver := Beats())
    hold = Hold()

    async def act(number: int) -> None:
        for line in range(100):
            current_job().log(f"{line} {'x' * 1500}")
        await hold(number)

    work.deeds.act = act
    ids = await work.add(*range(6))
    async with running(Runner(work.jobs)):

        async def are_stored() -> bool:
            return all([len((await work.job(record_id)).log) == 100 for record_id in ids])

        await until(are_stored)
        sizes = [sum(len(line) for one in reports for line in one.log) for _, reports in driver.reports]
        assert len(sizes) >= 3
        assert max(sizes) < 300_000
        hold.release.set()
        for record_id in ids:
            await work.until(record_id, "completed")


async def test_an_attempt_that_lost_its_lease_reports_nothing_more() -> None:
    work = Work(driver := Beats())
    lost = asyncio.Event()

    async def act(_: int) -> None:
        current_job().progress(1)
        try:
            await asyncio.Event().wait()
        finally:
            current_job().progress(2)
            current_job().log("too late")
            lost.set()

    work.deeds.act = act
    (record_id,) = await work.add(1)
    async with running(Runner(work.jobs, lease="1s")):
        await until_done(work, record_id, 1)
        driver.taken.add(record_id)
        await soon(lost.wait())
    found = await work.job(record_id)
    assert (done(found), texts(found)) == (1, [])


async def test_the_next_attempt_goes_on_with_the_log() -> None:
    work = Work()

    async def act(_: int) -> None:
        current_job().log(f"attempt {current_job().attempt}")
        if current_job().attempt == 1:
            current_job().progress(5)
            await work.jobs.control.cancel("nobody")
            raise RuntimeError

    work.deeds.act = act
    receipt = await work.jobs.act.options(retry=Retry(max_attempts=2, backoff=fixed("0s"))).enqueue(1)
    async with running(Runner(work.jobs)):
        found = await work.until(receipt.id, "completed")
    assert (done(found), texts(found)) == (5, ["attempt 1", "attempt 2"])
