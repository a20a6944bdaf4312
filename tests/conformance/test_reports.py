"""Reports of running handlers: progress, which replaces the last, and lines that are appended to a log."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Literal

import pytest

from flowli_core.driver import Cancelled, Released, Retried
from flowli_core.durations import ZERO
from flowli_core.limits import MOST_LOG_LINES, Keep
from flowli_core.reports import Report
from tests.conformance.builders import BROKEN, DONE, HOUR, LEASE, Worker, ack, everything, lease_of, record, stored
from tests.support.store import requeue_one

if TYPE_CHECKING:
    from flowli_core.driver import Driver, Outcome, Reserved
    from flowli_core.testing import ManualClock

Way = Literal["step", "heartbeat"]
WAYS: tuple[Way, ...] = ("step", "heartbeat")


def report(held: Reserved, progress: bytes | None = None, *log: bytes, first_line: int = 0) -> Report:
    return Report(held.id, held.token, progress, log, first_line)


async def start(driver: Driver, worker: Worker, record_id: str = "a") -> Reserved:
    await driver.enqueue([record(record_id)])
    return await worker.take_one()


async def send(worker: Worker, way: Way, *reports: Report) -> None:
    if way == "step":
        await worker.step(reports=reports)
    else:
        await worker.driver.heartbeat(worker.last.worker, [], LEASE, reports)


async def reported(driver: Driver, record_id: str = "a") -> tuple[bytes | None, tuple[bytes, ...]]:
    found = await stored(driver, record_id)
    return found.progress, found.log


@pytest.mark.parametrize("way", WAYS)
async def test_progress_replaces_the_last_and_lines_are_appended(driver: Driver, worker: Worker, way: Way) -> None:
    held = await start(driver, worker)
    assert await reported(driver) == (None, ())
    await send(worker, way, report(held, b"1", b"one", b"two"))
    assert await reported(driver) == (b"1", (b"one", b"two"))
    await send(worker, way, report(held, b"2"))
    await send(worker, way, report(held, None, b"", b"four", first_line=2))
    assert await reported(driver) == (b"2", (b"one", b"two", b"", b"four"))


async def test_one_call_stores_the_reports_of_many_records(driver: Driver, worker: Worker) -> None:
    await driver.enqueue([record(name) for name in "abc"])
    a, b, c = await worker.take(3)
    answer = await driver.heartbeat(
        "w", [lease_of(b)], LEASE, [report(a, b"1"), report(c, None, b"x"), report(b, b"2")]
    )
    assert (answer.lost, answer.cancelled) == (frozenset(), frozenset())
    assert [await reported(driver, name) for name in "abc"] == [(b"1", ()), (b"2", ()), (None, (b"x",))]


@pytest.mark.parametrize("way", WAYS)
async def test_the_log_keeps_the_last_lines(driver: Driver, worker: Worker, way: Way) -> None:
    held = await start(driver, worker)
    lines = [b"%d" % number for number in range(2 * MOST_LOG_LINES + 50)]
    await send(worker, way, report(held, None, *lines[:MOST_LOG_LINES]))
    assert (await reported(driver))[1] == tuple(lines[:MOST_LOG_LINES])
    await send(worker, way, report(held, None, *lines[MOST_LOG_LINES:], first_line=MOST_LOG_LINES))
    assert (await reported(driver))[1] == tuple(lines[-MOST_LOG_LINES:])


@pytest.mark.parametrize("way", WAYS)
async def test_bytes_of_any_kind_come_back_unchanged(driver: Driver, worker: Worker, way: Way) -> None:
    held = await start(driver, worker)
    odd = bytes(byte for byte in range(256) if byte != ord("\n"))
    await send(worker, way, report(held, b"\n" + odd, odd, odd[::-1]))
    assert await reported(driver) == (b"\n" + odd, (odd, odd[::-1]))


@pytest.mark.parametrize("way", WAYS)
async def test_only_the_holder_of_the_lease_may_report(
    driver: Driver, worker: Worker, clock: ManualClock, way: Way
) -> None:
    """A worker that lost its lease, or has settled the record, changes nothing; nor does one with another token."""
    held = await start(driver, worker)
    unknown = Report("nobody", held.token, b"x", (b"x",))
    await send(worker, way, Report("a", held.token + 1, b"x", (b"x",)), Report("a", 0, b"x", (b"x",)), unknown)
    assert await reported(driver) == (None, ())
    clock.advance(LEASE)
    other = Worker(driver, "other")
    await other.step()
    await send(worker, way, report(held, b"x", b"x"))
    again = await other.take_one()
    await send(worker, way, report(held, b"x", b"x"), report(again, b"x", b"x"))
    await send(other, way, report(again, b"2", b"two"))
    await other.settle(again)
    await send(other, way, report(again, b"x", b"two", b"x"))
    assert await reported(driver) == (b"2", (b"two",))


@pytest.mark.parametrize("way", WAYS)
async def test_a_line_that_comes_again_is_not_appended_again(driver: Driver, worker: Worker, way: Way) -> None:
    """The reply was lost, so the worker sends the lines again, with new ones; then a copy of the first call comes."""
    held = await start(driver, worker)
    await send(worker, way, report(held, None, b"0", b"1"))
    await send(worker, way, report(held, None, b"0", b"1", b"2"))
    await send(worker, way, report(held, None, b"1", b"2", b"3", first_line=1))
    await send(worker, way, report(held, None, b"0", b"1"))
    await send(worker, way, report(held, None, b"2", b"3", b"4", first_line=2))
    assert (await reported(driver))[1] == (b"0", b"1", b"2", b"3", b"4")


async def test_lines_that_the_worker_has_dropped_are_left_out(driver: Driver, worker: Worker) -> None:
    held = await start(driver, worker)
    await worker.step(reports=(report(held, None, b"0"),))
    await worker.step(reports=(report(held, None, b"7", b"8", first_line=7),))
    await worker.step(reports=(report(held, None, b"8", b"9", first_line=8),))
    assert (await reported(driver))[1] == (b"0", b"7", b"8", b"9")


async def test_a_step_that_is_sent_again_stores_its_reports_once(driver: Driver, worker: Worker) -> None:
    held = await start(driver, worker)
    await worker.step(reports=(report(held, b"1", b"0"),))
    await driver.heartbeat("w", [], LEASE, [report(held, b"2", b"1", first_line=1)])
    await worker.again()
    assert await reported(driver) == (b"2", (b"0", b"1"))


@pytest.mark.parametrize("outcome", [DONE, BROKEN, Cancelled(), Retried(HOUR, b"1"), Released(), Released(HOUR)])
async def test_the_last_report_may_come_with_the_outcome(driver: Driver, worker: Worker, outcome: Outcome) -> None:
    """It is stored before the record is settled, and stays afterwards."""
    held = await start(driver, worker)
    answer = await worker.step(ack(held, outcome), reports=(report(held, b"9", b"end"),))
    assert answer.acks == ("ok",)
    assert await reported(driver) == (b"9", (b"end",))


async def test_the_next_attempt_appends_its_lines_and_replaces_the_progress(driver: Driver, worker: Worker) -> None:
    """Its lines are numbered from 0 again. The progress of the last attempt stays until it reports some."""
    held = await start(driver, worker)
    await worker.step(ack(held, Retried(ZERO, b"1")), reports=(report(held, b"9", b"first", b"try"),))
    held = await worker.take_one()
    await worker.step(reports=(report(held, None, b"second"),))
    assert await reported(driver) == (b"9", (b"first", b"try", b"second"))
    await worker.step(reports=(report(held, b"1"),))
    assert await reported(driver) == (b"1", (b"first", b"try", b"second"))


async def test_a_recovered_record_keeps_what_was_reported(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    held = await start(driver, worker)
    await worker.step(reports=(report(held, b"5", b"five"),))
    clock.advance(LEASE)
    await Worker(driver, "other").step()
    assert await reported(driver) == (b"5", (b"five",))


async def test_a_requeue_removes_the_progress_and_keeps_the_log(driver: Driver, worker: Worker) -> None:
    held = await start(driver, worker)
    await worker.step(ack(held, BROKEN), reports=(report(held, b"9", b"end"),))
    await requeue_one(driver, "a")
    assert await reported(driver) == (None, (b"end",))


@pytest.mark.parametrize("what", [(b"1", ()), (None, (b"x",))])
async def test_either_is_removed_with_the_record(
    driver: Driver, worker: Worker, what: tuple[bytes | None, tuple[bytes, ...]]
) -> None:
    held = await start(driver, worker)
    progress, log = what
    await worker.step(ack(held), reports=(report(held, progress, *log),))
    assert await driver.purge("completed", older_than=-LEASE, limit=10) == 1
    await start(driver, worker)
    assert await reported(driver) == (None, ())


@pytest.mark.parametrize("removal", ["purge", "retention", "too many"])
async def test_both_are_removed_with_the_record(
    driver: Driver, worker: Worker, clock: ManualClock, removal: str
) -> None:
    """A later record with the same id has neither."""
    held = await start(driver, worker)
    await worker.step(ack(held), reports=(report(held, b"9", b"end"),))
    clock.advance(timedelta(hours=1, seconds=1) if removal == "retention" else "1s")
    if removal == "purge":
        await driver.purge("completed", older_than=ZERO, limit=10)
    await worker.step(keep=Keep(completed=0) if removal == "too many" else None)
    await start(driver, worker)
    assert await reported(driver) == (None, ())


@pytest.mark.parametrize("payloads", [True, False])
async def test_a_listing_has_the_progress_but_no_log(driver: Driver, worker: Worker, *, payloads: bool) -> None:
    held = await start(driver, worker)
    await worker.step(reports=(report(held, b"1", b"one"),))
    (found,) = await everything(driver, "active", payloads=payloads)
    assert (found.progress, found.log) == (b"1", ())


async def test_a_record_that_was_recovered_too_often_shows_what_its_last_worker_reported(
    driver: Driver, clock: ManualClock
) -> None:
    await driver.enqueue([record("a", max_recoveries=0)])
    worker = Worker(driver)
    held = await worker.take_one()
    await worker.step(reports=(report(held, b"3", b"about to die"),))
    clock.advance(LEASE)
    (recovered,) = (await Worker(driver, "other").step()).recovered
    assert (recovered.state, await reported(driver)) == ("failed", (b"3", (b"about to die",)))
