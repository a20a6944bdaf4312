"""Cancelled enqueues: the job is stored once or not at all, and later calls read their own replies."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING

from tests.conformance.builders import stored
from tests.support.running import Work
from tests.support.store import find

if TYPE_CHECKING:
    from flowli_core import Receipt
    from flowli_core.drivers.redis import RedisDriver


async def cancelled_after(turns: int, task: asyncio.Task[Receipt]) -> bool:
    """Cancel a task after a number of turns of the event loop; return True if it had not ended before."""
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait((task,))
    return task.cancelled()


async def test_a_cancelled_enqueue_leaves_no_reply_for_the_next(driver: RedisDriver) -> None:
    """Cancel at each turn of the event loop, from before the request until after the reply."""
    work = Work(driver)
    turns = 0
    for turns in count():
        (known,) = await work.add(0)
        name = f"cancelled-{turns}"
        was_cancelled = await cancelled_after(turns, asyncio.create_task(work.jobs.act.options(id=name).enqueue(1)))
        replies = await asyncio.gather(*(work.jobs.act.options(id=f"{turns}-{one}").enqueue(one) for one in range(3)))
        assert [one.id for one in replies] == [f"{turns}-{one}" for one in range(3)]
        assert (await stored(driver, known)).id == known
        found = await find(driver, name)
        assert found is None or found.id == name
        if not was_cancelled:
            assert found is not None
            break
    assert turns > 1
    assert await driver.fsck() == ()


async def test_jobs_sent_together_with_a_cancelled_enqueue_are_stored(driver: RedisDriver) -> None:
    """Cancel each of five enqueues that the collector sends together: the others get their own receipts, once."""
    work = Work(driver)
    for victim in range(5):
        for turns in count():
            names = [f"{victim}-{turns}-{one}" for one in range(5)]
            tasks = [asyncio.create_task(work.jobs.act.options(id=name).enqueue(1)) for name in names]
            was_cancelled = await cancelled_after(turns, tasks.pop(victim))
            receipts = await asyncio.gather(*tasks)
            own = names.pop(victim)
            assert [one.id for one in receipts] == names
            assert {(await stored(driver, name)).id for name in names} == set(names)
            if not was_cancelled:
                assert (await stored(driver, own)).id == own
                break
    assert await driver.fsck() == ()
