"""No call of the driver holds up a server for long, by the server's own slow log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from flowli_core.driver import Completed, Outcome, Reserved
from flowli_core.drivers.redis import RedisDriver
from flowli_core.durations import ZERO
from flowli_core.limits import Keep
from flowli_core.stored import STATES, FinishedState, Position, RecordsInState, State, position
from flowli_core.targets import MOST_TARGETS, Target
from tests.conformance.builders import BROKEN, LEASE, Worker, ack, lease_of, record
from tests.redis.server import Server, connect
from tests.support.figures import note_figures

SLOW = 50_000
"""In microseconds: a call that takes longer delays everyone else on the server."""

TRIES = 4
BIG = Completed(b'"' + b"x" * 250 * 1024 + b'"')
LATER = timedelta(days=1)


class Store:
    """A store on a server of its own, whose slow log is read after each call."""

    def __init__(self, server: Server) -> None:
        self.driver = RedisDriver.from_url(server.url)
        self.worker = Worker(self.driver)
        self.held = list[Reserved]()
        self.slowest: dict[str, float] = {}
        self._admin: Any = connect(server.url)
        self._admin.config_set("slowlog-log-slower-than", 1000)
        self._queues = 0

    async def watch(self, name: str, call: Callable[[], Awaitable[Any]]) -> None:
        """Do a call, and do it again if a command of it was slow: on a busy machine, any command may be once."""
        times = list[int]()
        while len(times) < TRIES and (not times or times[-1] >= SLOW):
            self._admin.slowlog_reset()
            await call()
            times.append(max((entry["duration"] for entry in self._admin.slowlog_get(128)), default=0))
        self.slowest[name] = max(self.slowest.get(name, 0), min(times) / 1000)

    async def add(self, number: int, *, queue: str | None = None) -> None:
        """Store records that are due in a queue, or a scheduled one in each of so many new queues."""
        for _ in range(number // 250):
            if queue is None:
                self._queues += 250
                names = [f"tenant {self._queues + number}" for number in range(250)]
                await self.watch("enqueue", partial(self._enqueue, names, LATER))
            else:
                await self.watch("enqueue", partial(self._enqueue, [queue] * 250, ZERO))

    async def work(self, results: int) -> None:
        """Reserve and settle records, some with big results, as a run does it: with at most 8 MiB in a step."""
        await self.watch("reserve", self._take)
        await self.watch("heartbeat", partial(self.driver.heartbeat, "w", [lease_of(one) for one in self.held], LEASE))
        for _ in range(results // 32):
            await self.watch("settle", partial(self._settle, 32, BIG))
        await self.watch("settle", partial(self._settle, 1000, BROKEN))
        await self.watch("reserve", self._take)

    async def read(self) -> None:
        """Read everything."""
        await self.watch("overview", self.driver.overview)
        for state in STATES:
            after: Position | None = None
            for limit in (4, 32, 256):
                query = RecordsInState(state=state, limit=limit, after=after, payloads=limit < 256)
                await self.watch(f"list {state}", partial(self.driver.records, query))
                page = (await self.driver.records(query)).records
                after = position(page[-1]) if page else None
        await self.watch("open", self.driver.open)
        await self.watch("fsck", self.driver.fsck)

    async def filter(self, pages: int) -> None:
        """Read some pages of each state with filters that match nothing, everything, or the records of one queue."""
        for state in STATES:
            start = RecordsInState(state=state, limit=100, payloads=False)
            for query in (
                replace(start, name="nobody"),
                replace(start, attempts_hold=b"nobody", older_than=-2 * LATER),
                replace(start, older_than=-2 * LATER),
                replace(start, queue="q"),
            ):
                page: RecordsInState | None = query
                for _ in range(pages):
                    if page is not None:
                        await self.watch(f"filter {state}", partial(self.driver.records, page))
                        rest = (await self.driver.records(page)).rest
                        page = None if rest is None else replace(query, after=rest)

    async def change(self) -> None:
        """Cancel, requeue and purge as many records as one call may name, of those that were stored last."""
        targets = [Target(id=one) for one in await self._newest("queued")]
        await self.watch("cancel", partial(self.driver.cancel, targets))
        await self.watch(
            "requeue", partial(self.driver.requeue, [replace(one, attempts=b"x" * 5000) for one in targets])
        )
        finished = await self._newest("failed")
        await self.watch("purge", partial(self.driver.purge, "failed", older_than=-LEASE, limit=100, ids=finished))

    async def _newest(self, state: State) -> list[str]:
        query = RecordsInState(state=state, limit=MOST_TARGETS, payloads=False)
        return [one.id for one in (await self.driver.records(query)).records]

    async def purge(self, *states: FinishedState) -> None:
        """Remove what has finished."""
        for state in states:
            await self.watch("purge", partial(self.driver.purge, state, older_than=-LEASE, limit=500))

    async def _enqueue(self, queues: list[str], due: timedelta) -> None:
        await self.driver.enqueue([record(queue=queue, due=due, input=b'"' + b"x" * 500 + b'"') for queue in queues])

    async def _take(self) -> None:
        self.held += await self.worker.take(500)

    async def _settle(self, number: int, outcome: Outcome) -> None:
        some, self.held = self.held[:number], self.held[number:]
        await self.worker.step(*[ack(one, outcome) for one in some], keep=Keep(failed=50))


@pytest.fixture
async def store(server: Server) -> AsyncIterator[Store]:
    made = Store(server)
    await made.driver.open()
    yield made
    await made.driver.close()


@pytest.mark.parametrize(
    ("queues", "records", "results"),
    [pytest.param(500, 500, 32, id="few"), pytest.param(10_000, 20_000, 960, id="many", marks=pytest.mark.faults)],
)
async def test_no_call_takes_a_server_50_ms(store: Store, queues: int, records: int, results: int) -> None:
    """There are many queues, many records and big results. Ten thousand queues belong to the long form."""
    await store.add(queues)
    await store.add(records, queue="q")
    await store.work(results)
    await store.read()
    await store.filter(pages=2)
    await store.change()
    await store.purge("completed", "failed")
    print({name: f"{time:.1f} ms" for name, time in sorted(store.slowest.items())})  # noqa: T201 - shown by make test-faults
    assert {name: time for name, time in store.slowest.items() if time * 1000 >= SLOW} == {}


@pytest.mark.faults
async def test_no_filtered_call_takes_a_server_50_ms_with_a_million_records(store: Store) -> None:
    await store.add(1_000_000, queue="q")
    for _ in range(20):
        await store.work(0)
    await store.filter(pages=20)
    await store.change()
    times = ", ".join(f"{name} {time:.1f} ms" for name, time in sorted(store.slowest.items()))
    note_figures(f"the slowest calls with a million records: {times}")
    assert {name: time for name, time in store.slowest.items() if time * 1000 >= SLOW} == {}


async def test_large_records_are_changed_in_several_calls_of_the_script(store: Store, server: Server) -> None:
    """Each reads about a mebibyte."""
    admin: Any = connect(server.url)
    names = [f"r{number}" for number in range(9)]
    await store.driver.enqueue([record(name, input=b'"' + b"x" * 350 * 1024 + b'"') for name in names])
    await store.driver.cancel([Target(id="nobody")])  # the first call loads the script
    admin.config_resetstat()
    assert await store.driver.cancel([Target(id=name) for name in names]) == ["cancelled"] * 9
    assert admin.info("commandstats")["cmdstat_evalsha"]["calls"] == 3
    admin.close()
