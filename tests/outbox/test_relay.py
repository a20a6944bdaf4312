"""Jobs that a process left in the outbox are sent later, once each and in their order."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from flowli_core import BulkResult, DriverError, OutboxUnavailable, Runner
from flowli_core._jobs.registry import runtime_of
from flowli_core._running.relay import relay_all
from flowli_core.outbox import Backlog
from flowli_core.sqlalchemy import SqlOutbox
from flowli_core.testing import drain
from tests.outbox.conftest import AppJobs, Shop, metadata, rows, until
from tests.support.counting import CountingDriver
from tests.support.faulty import FaultyDriver

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from flowli_core.new_records import Enqueued, NewRecord
    from flowli_core.outbox import OnCommit, Transaction


class DyingOutbox(SqlOutbox):
    """The outbox of a process that dies right after each commit."""

    async def add(self, session: Transaction, records: Sequence[NewRecord], *, on_commit: OnCommit) -> None:
        del on_commit
        await super().add(session, records, on_commit=lambda _: None)


async def leave(shop: Shop, count: int, *, size: int = 1) -> list[str]:
    """Commit jobs whose process sends none of them, `size` in each transaction. Return their ids."""
    ids: list[str] = []
    jobs = AppJobs(context=None, driver=shop.store, outbox=DyingOutbox(shop.engine, rows))
    for start in range(0, count, size):
        async with AsyncSession(shop.engine) as session, session.begin():
            receipts = await jobs.ship.options(session=session).enqueue_many(range(start, start + size))
        ids += [receipt.id for receipt in receipts]
    await unclaim(shop)
    return ids


async def logged(caplog: pytest.LogCaptureFixture, text: str) -> None:
    """Wait until a line with this text was logged."""

    async def is_logged() -> bool:
        return text in caplog.text

    await until(is_logged)


async def unclaim(shop: Shop) -> None:
    """End the claims of processes that died."""
    async with shop.engine.begin() as connection:
        await connection.execute(update(rows).values(claimed_until=0, claimed_by=None))


async def test_a_request_succeeds_although_the_store_is_unreachable(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    shop.store.fail("enqueue")
    async with AsyncSession(shop.engine) as session, session.begin():
        receipt = await shop.jobs.ship.options(session=session).enqueue(1)
    await logged(caplog, "committed jobs stay in the outbox (1)")
    backlog = await shop.jobs.inspect.get_outbox()
    assert backlog is not None
    assert (backlog.count, backlog.age > timedelta(0)) == (1, True)
    await unclaim(shop)
    async with Runner(shop.jobs, queues=["mail"]):
        shop.store.mend()
        await shop.sent(receipt.id)
    assert await shop.jobs.inspect.get_outbox() == Backlog()


async def test_a_test_that_drains_runs_the_jobs_of_committed_transactions(shop: Shop) -> None:
    await leave(shop, 2)
    async with AsyncSession(shop.engine) as session, session.begin():
        await shop.jobs.ship.options(session=session).enqueue(1)
    assert (await drain(shop.jobs)).completed == 3
    assert await shop.left() == 0


async def test_rows_that_their_process_may_still_send_are_left_alone(shop: Shop) -> None:
    jobs = AppJobs(context=None, driver=shop.store, outbox=DyingOutbox(shop.engine, rows))
    async with AsyncSession(shop.engine) as session, session.begin():
        await jobs.ship.options(session=session).enqueue(1)
    assert (await drain(shop.jobs)).completed == 0
    assert await shop.left() == 1


async def test_two_relays_send_each_row_once_and_each_transaction_in_its_order(shop: Shop) -> None:
    ids = await leave(shop, 900, size=300)
    store, outbox = CountingDriver(shop.store), SqlOutbox(shop.engine, rows)
    async with (
        AppJobs(context=None, driver=store, outbox=outbox) as one,
        AppJobs(context=None, driver=store, outbox=outbox) as other,
        Runner(one, queues=["mail"]),
        Runner(other, queues=["mail"]),
    ):
        await until(shop.is_empty)
    sent = [record.id for record in store.enqueued]
    assert sorted(sent) == sorted(ids), "each once"
    for start in range(0, 900, 300):
        mine = ids[start : start + 300]
        assert [one for one in sent if one in set(mine)] == mine, "in the order of its calls"


async def test_a_delay_counts_from_the_commit(shop: Shop) -> None:
    """Also if the row is sent later. The clock of the store need not be that of the process."""
    for minutes in (90, 30):
        jobs = AppJobs(context=None, driver=shop.store, outbox=DyingOutbox(shop.engine, rows))
        async with AsyncSession(shop.engine) as session, session.begin():
            receipt = await jobs.ship.options(session=session).delay("1h", 1)
        earlier = rows.c.created_at - minutes * 60_000
        async with shop.engine.begin() as connection:
            await connection.execute(update(rows).values(claimed_until=0, created_at=earlier))
        await relay_all(runtime_of(shop.jobs).require_deliveries())
        record = await shop.jobs.ship.get(receipt)
        assert record is not None
        expected = timedelta(minutes=max(60 - minutes, 0))
        assert abs(record.scheduled_for - record.created_at - expected) < timedelta(seconds=10)


class RefusingDriver(FaultyDriver):
    """A store that refuses a record."""

    refused = ""

    async def enqueue(self, records: Sequence[NewRecord]) -> list[Enqueued]:
        if self.refused in [record.id for record in records]:
            raise DriverError("it is too large")
        return await super().enqueue(records)


async def test_a_record_that_the_store_refuses_holds_up_no_other(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    store = RefusingDriver(shop.store)
    store.refused = (await leave(shop, 3, size=3))[1]
    async with AppJobs(context=None, driver=store, outbox=shop.outbox) as jobs:
        assert (await drain(jobs)).completed == 2
        assert await shop.left() == 1
        assert f"the store refuses the job {store.refused} (ship) of the outbox: it is too large" in caplog.text
        store.refused = ""
        assert (await drain(jobs)).completed == 0, "it is left alone for a minute"
        await unclaim(shop)
        assert (await drain(jobs)).completed == 1


@pytest.mark.parametrize("wire", ["", "{}", '{"version": 2}', '{"version": 1, "due": "never"}', "[1]"])
async def test_a_row_that_cannot_be_read_is_kept_and_holds_up_no_other(
    shop: Shop, caplog: pytest.LogCaptureFixture, wire: str
) -> None:
    (first, _) = await leave(shop, 2, size=2)
    async with shop.engine.begin() as connection:
        await connection.execute(update(rows).where(rows.c.id == first).values(record=wire))
    assert (await drain(shop.jobs)).completed == 1
    assert await shop.left() == 1
    assert f"the job {first} cannot be read" in caplog.text


async def test_a_job_whose_row_was_left_after_it_was_sent_runs_once(shop: Shop) -> None:
    """Also if it has run, and its record was removed, before the row is found."""
    (sent,) = await leave(shop, 1)
    async with shop.engine.connect() as connection:
        (row,) = (await connection.execute(select(rows))).mappings()
    assert (await drain(shop.jobs)).completed == 1
    assert await shop.jobs.control.purge_all("completed") == BulkResult(changed=1, skipped=0)
    async with shop.engine.begin() as connection:
        await connection.execute(insert(rows).values(row))
    assert (await drain(shop.jobs)).completed == 0
    assert (await shop.left(), await shop.jobs.inspect.get_job(sent)) == (0, None)


async def test_a_database_that_fails_is_named_and_ends_no_runner(
    shop: Shop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'other.db'}")
    outbox = SqlOutbox(engine, rows)
    with pytest.raises(OutboxUnavailable, match="no such table"):
        await outbox.backlog()
    async with AppJobs(context=None, driver=shop.store, outbox=outbox) as jobs, Runner(jobs) as runner:
        await logged(caplog, "the outbox cannot be relayed")
        receipt = await jobs.ship.enqueue(1)
        assert await jobs.ship.result(receipt, timeout="10s") == 1
        caplog.set_level(logging.INFO)
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
        await logged(caplog, "the outbox is relayed again")
        assert runner.health().last_error is None
    await engine.dispose()
