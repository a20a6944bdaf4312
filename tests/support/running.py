"""Jobs whose handlers a test supplies, and helpers that run them and wait for the results."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from flowli_core import Defaults, JobRecord, Jobs, RunCounts, Runner, job
from flowli_core.clock import Clock
from flowli_core.driver import Ack, Driver, Step, StepAnswer
from flowli_core.drivers.memory import MemoryDriver
from tests.support.faulty import FaultyDriver

T = TypeVar("T")

PATIENCE = 30
"""Seconds after which a test that waits for an event fails, instead of hanging. No test takes nearly as long."""


async def nothing(_: int) -> object:
    """Do nothing."""
    return None


@dataclass
class Deeds:
    """The functions that the handlers of a test call: `act` on the event loop, `toil` in a thread."""

    act: Callable[[int], Awaitable[object]] = nothing
    toil: Callable[[int], object] = lambda _: None


class Hold:
    """A handler that waits until the test releases it."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.release = asyncio.Event()

    async def __call__(self, _: int) -> None:
        self.started.set()
        await self.release.wait()


@job(int)
async def act(input: int, ctx: Deeds) -> Any:
    return await ctx.act(input)


@job(int)
def toil(input: int, ctx: Deeds) -> Any:
    return ctx.toil(input)


class Duties(Jobs[Deeds]):
    act = act
    toil = toil
    queues = ("fast", "slow", "other", "elsewhere", "mail")


class Work:
    """A registry on a driver that can be made to fail, and the functions that its handlers call."""

    def __init__(self, driver: Driver | None = None, *, clock: Clock | None = None, max_recoveries: int = 3) -> None:
        inner = driver or MemoryDriver(clock=clock)
        self.driver = inner if isinstance(inner, FaultyDriver) else FaultyDriver(inner)
        self.deeds = Deeds()
        self.jobs = self.registry(max_recoveries=max_recoveries)

    def registry(self, *, max_recoveries: int = 3) -> Duties:
        """Make another registry on the same driver, as another process would."""
        defaults = Defaults(max_recoveries=max_recoveries)
        return Duties(context=lambda: self.deeds, driver=self.driver, defaults=defaults)

    async def add(self, *numbers: int) -> list[str]:
        """Enqueue a call of `act` for each number, and return the ids."""
        return [receipt.id for receipt in await self.jobs.act.enqueue_many(numbers)]

    async def run(self, *, concurrency: int = 10, **options: Any) -> RunCounts:
        """Run the due jobs."""
        return await soon(Runner(self.jobs, concurrency=concurrency, **options).run_once())

    async def job(self, record_id: str) -> JobRecord:
        """Return a record, which must exist."""
        found = await self.jobs.inspect.get_job(record_id)
        assert found is not None, f"{record_id} is gone"
        return found

    async def states(self, record_ids: Iterable[str]) -> list[str]:
        """Return the states of records."""
        return [(await self.job(record_id)).state for record_id in record_ids]

    async def until(self, record_id: str, state: str) -> JobRecord:
        """Wait until a record is in a state."""

        async def is_there() -> bool:
            return (await self.job(record_id)).state == state

        await until(is_there)
        return await self.job(record_id)


class Rival:
    """Another worker on the same store. It never renews its leases."""

    def __init__(self, driver: Driver, name: str = "rival") -> None:
        self._driver = driver
        self._name = name
        self._sequence = 0

    async def step(self, *acks: Ack, want: int = 1, lease: timedelta = timedelta(seconds=30)) -> StepAnswer:
        self._sequence += 1
        return await self._driver.step(
            Step(
                worker=self._name,
                sequence=self._sequence,
                queues=("default",),
                want=want,
                lease=lease,
                acks=acks,
            )
        )

    def step_from_a_thread(self) -> StepAnswer:
        """Step while the event loop of the caller is blocked."""
        answers: list[StepAnswer] = []
        thread = threading.Thread(target=lambda: answers.append(asyncio.run(self.step())))
        thread.start()
        thread.join()
        return answers[0]


async def soon(waiting: Awaitable[T]) -> T:
    """Await something that must happen soon."""
    async with asyncio.timeout(PATIENCE):
        return await waiting


async def until(condition: Callable[[], Awaitable[bool] | bool]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(PATIENCE):
        while True:
            answer = condition()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.002)


async def cancelled_at(event: asyncio.Event) -> None:
    """Wait for ever, and set the event on cancellation."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        event.set()
        raise


async def breathe() -> None:
    """Let every task run until it waits for something outside the event loop."""
    for _ in range(20):
        await asyncio.sleep(0)


@asynccontextmanager
async def running(runner: Runner) -> AsyncGenerator[asyncio.Task[None]]:
    """Run a runner while the code inside runs, and cancel it at the end if it still runs."""
    task = asyncio.create_task(runner.run())
    await breathe()
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await soon(task)
