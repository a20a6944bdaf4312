"""Options and traces of jobs that go through an outbox."""

from __future__ import annotations

from opentelemetry.trace import SpanKind
from sqlalchemy.ext.asyncio import AsyncSession

from flowli_core import JobRecord
from flowli_core.testing import drain
from tests.core.test_tracing import Spans, id_of
from tests.outbox.conftest import AppJobs, Shop, until


async def test_a_job_whose_key_is_held_by_another_is_not_stored(shop: Shop) -> None:
    """Neither in the same transaction nor later. Its receipt then names no record."""
    held = await shop.jobs.ship.options(key="k").enqueue(1)
    async with AsyncSession(shop.engine) as session, session.begin():
        work = shop.jobs.ship.options(session=session, key="k")
        receipt = await work.enqueue(2)
        await work.enqueue(3)
    assert await shop.jobs.ship.get(receipt) is None
    await shop.sent(held.id)


async def test_an_id_that_is_taken_stores_nothing(shop: Shop) -> None:
    for number in (1, 2):
        async with AsyncSession(shop.engine) as session, session.begin():
            await shop.jobs.ship.options(session=session, id="mine").enqueue(number)
        await until(shop.is_empty)
    found: JobRecord[int, str, int] | None = await shop.jobs.ship.get("mine")
    assert found is not None
    assert found.input == 1


async def test_run_ignores_a_session(shop: Shop) -> None:
    async with AsyncSession(shop.engine) as session:
        assert await shop.jobs.ship.options(session=session).run(7) == 7
        assert not session.in_transaction()


async def test_the_trace_of_a_call_goes_through_the_outbox(shop: Shop) -> None:
    spans = Spans()
    async with AppJobs(context=None, driver=shop.store, outbox=shop.outbox, tracer=spans.tracer) as jobs:
        async with AsyncSession(shop.engine) as session, session.begin():
            await jobs.ship.options(session=session, meta="m").enqueue(1)
        await drain(jobs)
    (producer,), (consumer,) = spans.of(SpanKind.PRODUCER), spans.of(SpanKind.CONSUMER)
    assert consumer.parent is not None
    assert consumer.parent.span_id == id_of(producer)
