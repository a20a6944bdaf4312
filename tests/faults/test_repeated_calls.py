"""Calls whose replies are lost, and which are repeated when the record that they stored has long been removed."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from flowli_core import StoreUnavailable
from tests.faults.app import make_jobs
from tests.faults.scene import Scene, scene, stopped
from tests.redis.proxy import Proxy
from tests.redis.server import Server
from tests.support.figures import note_figures
from tests.support.running import until

ROUNDS, CALLS = 4, 25
RATE, BATCH = 500, 50
"""Jobs per second of the others, and how many are enqueued together."""

KEPT = 1000
AGE = 6
"""Seconds after which a call is repeated at the earliest."""


async def enqueue_others(place: Scene, has_ended: asyncio.Event) -> int:
    """Enqueue 500 jobs a second until the end, and return their number."""
    count, began = 0, time.monotonic()
    while not has_ended.is_set():
        await place.jobs.quick.enqueue_many(range(count, count + BATCH))
        count += BATCH
        await asyncio.sleep(max(began + count / RATE - time.monotonic(), 0))
    return count


@pytest.mark.faults
async def test_a_call_that_is_repeated_after_a_lost_reply_runs_once_although_its_record_was_trimmed(
    tmp_path: Path, server: Server
) -> None:
    """The call is repeated after six seconds. By then its job has run, and 1,000 later ones too."""
    ids = [f"doubtful-{number}" for number in range(ROUNDS * CALLS)]
    has_ended, began = asyncio.Event(), time.monotonic()
    async with scene(tmp_path, server.url, "repeated") as place, Proxy(server.socket, tmp_path) as proxy:
        far = make_jobs(place.folder, proxy.url, place.prefix)
        async with far, place.worker(concurrency=50, FLOWLI_KEEP=str(KEPT)) as worker:
            others = asyncio.create_task(enqueue_others(place, has_ended))
            proxy.fault("lose", b"doubtful-", times=10**9)
            for first in range(0, len(ids), CALLS):
                batch = ids[first : first + CALLS]
                sent_at = time.monotonic()
                calls = [far.quick.options(id=record_id).enqueue(0) for record_id in batch]
                errors = await asyncio.gather(*calls, return_exceptions=True)
                assert {type(error) for error in errors} == {StoreUnavailable}

                async def are_trimmed(batch: list[str] = batch) -> bool:
                    return not any([await place.jobs.inspect.get_job(record_id) for record_id in batch])

                await until(are_trimmed)
                await asyncio.sleep(max(sent_at + AGE - time.monotonic(), 0))
                again = [await place.jobs.quick.options(id=record_id).enqueue(0) for record_id in batch]
                assert {receipt.disposition for receipt in again} == {"duplicate"}
            has_ended.set()
            count, took = await others, time.monotonic() - began
            await place.until_finished()
            assert await stopped(worker) == 0
        runs = [record_id for _, record_id, _ in place.folder.runs()]
        assert sorted(record_id for record_id in runs if record_id in set(ids)) == sorted(ids)
        assert (len(runs), len(set(runs))) == (count + len(ids), count + len(ids))
    note_figures(
        f"{count} jobs at {count / took:.0f}/s, {KEPT} kept; {len(ids)} calls whose reply was lost, repeated after "
        f"{AGE} s, when their record was trimmed: none ran twice"
    )
