"""Networks that are cut, slow or flapping: only expired leases are lost, and no outcome is stored twice."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

import pytest

from flowli_core import FlowliError, Hooks, JobEvent, Jobs, Runner, job
from flowli_core.drivers.redis import RedisDriver
from tests.conformance.builders import assert_consistent
from tests.redis.proxy import Proxy
from tests.support.figures import note_figures
from tests.support.running import Work, cancelled_at, running, soon, until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from tests.redis.server import Server

LEASE = 1.0


@job(str)
async def text(input: str) -> str:
    return "x" * int(input) if input.isdigit() else "done"


class TextJobs(Jobs[None]):
    text = text


@asynccontextmanager
async def beside_a_proxy(server: Server, folder: Path) -> AsyncGenerator[tuple[Work, Proxy, Work]]:
    """Open two drivers: one behind a proxy, and one that connects to the server directly."""
    async with Proxy(server.socket, folder) as proxy:
        far, near = RedisDriver.from_url(proxy.url), RedisDriver.from_url(server.url)
        try:
            await far.open()
            await near.open()
            yield Work(far), proxy, Work(near)
            await assert_consistent(near)
            assert await near.fsck() == ()
        finally:
            proxy.heal()
            await far.close()
            await near.close()


async def test_a_worker_that_is_cut_off_cancels_jobs_whose_lease_expired(server: Server, tmp_path: Path) -> None:
    """It cancels its jobs at the end of their lease, and what it reports of them later is refused."""
    async with beside_a_proxy(server, tmp_path) as (far, proxy, near):
        begun: set[int] = set()
        may_end, cancelled = asyncio.Event(), asyncio.Event()
        lost: list[str] = []

        async def act(number: int) -> str:
            begun.add(number)
            await (cancelled_at(cancelled) if number == 1 else may_end.wait())
            return "far"

        async def act_near(_: int) -> str:
            return "near"

        async def on_lost(event: JobEvent) -> None:
            lost.append(event.id)

        far.deeds.act, near.deeds.act = act, act_near
        hooks = Hooks(on_lease_lost=on_lost)
        async with running(Runner(far.jobs, lease="1s", hooks=hooks)):
            endless, done = await far.add(1, 2)
            await until(lambda: begun == {1, 2})
            proxy.partition()
            cut_at = time.monotonic()
            may_end.set()
            async with running(Runner(near.jobs, lease="1s")):
                await soon(cancelled.wait())
                for record_id in (endless, done):
                    await near.until(record_id, "completed")
                await until(lambda: time.monotonic() > cut_at + 2 * LEASE)
            proxy.heal()
            await until(lambda: sorted(lost) == sorted([endless, done]))
            for record_id in (endless, done):
                record = await near.job(record_id)
                assert (record.state, record.result, record.recoveries) == ("completed", "near", 1)
            (after,) = await near.add(3)
            assert (await near.until(after, "completed")).result == "far", "it goes on"
        assert [code for answer in far.driver.answers for code in answer.acks if code == "lost"] == ["lost", "lost"]


# One of the long tests: on a busy machine its own processes may be slower than the network.
@pytest.mark.faults
@pytest.mark.parametrize(("delay", "rate"), [(0.1, 1e9), (0.0, 122_000)], ids=["200 ms", "1 Mbit"])
async def test_a_slow_network_loses_no_lease(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, delay: float, rate: float
) -> None:
    """Each job runs once, even if it takes longer than its lease, and no warning is logged."""
    async with beside_a_proxy(server, tmp_path) as (far, proxy, near):

        async def act(number: int) -> str:
            if number == 0:
                await until(lambda: far.driver.calls["heartbeat"] > 3)
            return "x" * 2_000

        far.deeds.act = act
        proxy.delay, proxy.rate = delay, rate
        async with running(Runner(far.jobs, lease="5s")):
            for record_id in await far.add(*range(30)):
                record = await near.until(record_id, "completed")
                assert (record.attempts_made, record.recoveries) == (1, 0)
        assert [line.getMessage() for line in caplog.records if line.levelname in ("WARNING", "ERROR")] == []


@pytest.mark.parametrize(
    ("round_trip", "lease"),
    [(0.1, 1.0), *(pytest.param(*times, marks=pytest.mark.faults) for times in [(0.2, 3.0), (0.3, 3.0)])],
)
async def test_a_round_trip_of_a_tenth_of_the_lease_loses_no_lease(
    server: Server, tmp_path: Path, round_trip: float, lease: float
) -> None:
    """Connecting takes several round trips, so the connection that renews leases is there before the first job."""
    async with beside_a_proxy(server, tmp_path) as (far, proxy, near):
        starts: Counter[int] = Counter()

        async def act(number: int) -> None:
            starts[number] += 1
            await asyncio.sleep(1.5 * lease)

        far.deeds.act = act
        proxy.delay = round_trip / 2
        ids = await near.add(*range(10))
        near_runner = Runner(near.jobs, queues=["elsewhere"], lease=timedelta(seconds=lease))
        async with running(near_runner), running(Runner(far.jobs, lease=timedelta(seconds=lease))):
            for record_id in ids:
                record = await near.until(record_id, "completed")
                assert (record.attempts_made, record.recoveries) == (1, 0)
        assert starts == dict.fromkeys(range(10), 1)


async def flap(proxy: Proxy, kind: Literal["shut", "partition"], seconds: float) -> None:
    """Cut and restore the network, for a second each."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        (proxy.shut if kind == "shut" else proxy.partition)()
        await asyncio.sleep(1)
        proxy.heal()
        await asyncio.sleep(1)


@pytest.mark.parametrize("seconds", [4, pytest.param(60, marks=pytest.mark.faults)])
@pytest.mark.parametrize("kind", ["shut", "partition"])
async def test_a_network_that_flaps_loses_nothing(
    server: Server, tmp_path: Path, kind: Literal["shut", "partition"], seconds: float
) -> None:
    """All accepted jobs complete, without a restart of the runner."""
    async with beside_a_proxy(server, tmp_path) as (far, proxy, near):
        accepted: list[str] = []
        async with running(Runner(far.jobs, lease="3s")) as task:
            flapping = asyncio.create_task(flap(proxy, kind, seconds))
            while not flapping.done():
                try:
                    accepted += await far.add(len(accepted))
                except FlowliError:
                    await asyncio.sleep(0.05)
                await asyncio.sleep(seconds / 500)  # add fewer jobs than the number of completed ones that are kept
            await flapping
            assert accepted
            for record_id in accepted:
                await near.until(record_id, "completed")
            assert not task.done()
        counts = await near.jobs.inspect.get_queue_counts()
        assert (counts.failed, counts.active, counts.queued) == (0, 0, 0)
    note_figures(f"{kind} for a second, restored for a second, {seconds} s long: {len(accepted)} jobs, none lost")


@pytest.mark.faults
async def test_a_listing_of_large_inputs_passes_a_slow_network(server: Server, tmp_path: Path) -> None:
    """The inputs of the page take ten seconds, twice the time limit of a call. So they are read in several."""
    async with Proxy(server.socket, tmp_path) as proxy:
        async with TextJobs(context=None, driver=RedisDriver.from_url(server.url)) as nearby:
            await nearby.text.enqueue_many(["x" * 250 * 1024] * 32)
        async with TextJobs(context=None, driver=RedisDriver.from_url(proxy.url)) as jobs:
            await jobs.inspect.get_queue_counts()
            proxy.rate = 800_000
            page = await jobs.inspect.find("queued", limit=32)
            assert len(page.items) == 32


@pytest.mark.parametrize("large", ["inputs", "results"])
@pytest.mark.parametrize(
    "load",
    [(12, 40 * 1024, "100ms"), pytest.param((100, 200 * 1024, "5s"), marks=pytest.mark.faults)],
    ids=["480 KiB", "20 MB"],
)
async def test_batches_that_take_longer_than_the_patience_pass_a_slow_network(
    server: Server, tmp_path: Path, load: tuple[int, int, str], large: str
) -> None:
    """On a line of 1 MB/s each job runs, and less than four times the bytes of all payloads travel."""
    number, size, patience = load
    async with Proxy(server.socket, tmp_path) as proxy:
        far, near = RedisDriver.from_url(proxy.url, patience=patience), RedisDriver.from_url(server.url)
        jobs, nearby = TextJobs(context=None, driver=far), TextJobs(context=None, driver=near)
        try:
            await nearby.text.enqueue_many(["x" * size if large == "inputs" else str(size) for _ in range(number)])
            async with jobs, running(Runner(jobs, lease="30s")), asyncio.timeout(120):
                proxy.rate = 1_000_000
                while (await nearby.inspect.get_overview()).counts.completed < number:  # noqa: ASYNC110 - no event
                    await asyncio.sleep(0.05)
        finally:
            proxy.rate = math.inf
            await nearby.aclose()
    assert proxy.carried < 4 * number * size
    note_figures(
        f"1 MB/s, {number} {large} of {size >> 10} KiB, patience {patience}: all completed, "
        f"{proxy.carried / 1e6:.1f} MB travelled for {number * size / 1e6:.1f} MB"
    )
