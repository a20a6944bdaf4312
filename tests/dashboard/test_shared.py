"""Values that were read are shared for a while, and then dropped."""

from __future__ import annotations

import asyncio
import gc
import weakref

from flowli_core.dashboard._shared import Shared


class Value:
    """A large value, such as a page."""


async def test_a_value_that_is_too_old_is_dropped_with_the_next_read() -> None:
    shared, kept = Shared(), weakref.WeakSet[Value]()

    async def read() -> Value:
        kept.add(value := Value())
        return value

    for number in range(3):
        await shared.get(number, read, seconds=-1.0)
    await shared.get("kept", read, seconds=60.0)
    await shared.get("next", read, seconds=60.0)
    gc.collect()
    assert len(kept) == 2


async def test_a_value_that_is_old_is_read_once_for_all_who_wait_for_it() -> None:
    shared, reads, goes_on = Shared(), 0, asyncio.Event()

    async def read() -> int:
        nonlocal reads
        reads += 1
        await goes_on.wait()
        return reads

    async def read_quickly() -> int:
        return 0

    await shared.get("slow", read_quickly, seconds=-1.0)
    async with asyncio.TaskGroup() as group:
        group.create_task(shared.get("slow", read, seconds=60.0))
        await asyncio.sleep(0)
        await shared.get("other", read_quickly, seconds=60.0)
        group.create_task(shared.get("slow", read, seconds=60.0))
        goes_on.set()
    assert reads == 1
