"""Jobs that kill their workers: they fail in the end, and take nobody with them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from flowli_core import Hooks, JobEvent, LeaseLost, RunCounts, Runner, current_job
from flowli_core.testing import ManualClock
from tests.support.faulty import FaultyDriver
from tests.support.running import Deeds, Duties, Rival, Work, breathe, running, soon

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

POISON = -1
STARTS = 4
"""One, and one more after each of the three recoveries that are allowed."""


class Town:
    """Workers that die when they run a poison job, one after the other, each with its own line to one store."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.work = Work(clock=self.clock)
        self.poisoned: list[str] = []
        self.events: list[tuple[str, str]] = []

    async def live(self, innocent: Callable[[int], Awaitable[object]], *, concurrency: int) -> bool:
        """Let a worker run what there is; answer whether it survived. A dead one says nothing more to the store."""
        driver = FaultyDriver(self.work.driver.inner)
        died = asyncio.Event()

        async def act(number: int) -> object:
            if number != POISON:
                return await innocent(number)
            self.poisoned.append(current_job().id)
            driver.fail("step", "heartbeat", "wait")
            died.set()
            return await asyncio.Event().wait()

        async def note_failed(event: JobEvent) -> None:
            self.events.append(("failed", event.id))
            assert isinstance(event.error, LeaseLost)

        async def note_recovered(event: JobEvent) -> None:
            self.events.append(("recovered", event.id))

        jobs = Duties(context=Deeds(act), driver=driver)
        hooks = Hooks(on_job_failed=note_failed, on_lease_recovered=note_recovered)
        life = asyncio.create_task(Runner(jobs, concurrency=concurrency, hooks=hooks).run_once())
        death = asyncio.create_task(died.wait())
        await asyncio.wait((life, death), return_when=asyncio.FIRST_COMPLETED)
        death.cancel()
        if not died.is_set():
            await life
            return True
        # The first cancellation would have it give back what it holds; the second one has it leave.
        for _ in range(2):
            life.cancel()
            await breathe()
        with contextlib.suppress(asyncio.CancelledError):
            await soon(life)
        self.clock.advance("31s")
        return False


async def quick(_: int) -> object:
    """Take a moment, in which a poison job beside it has already struck."""
    for _ in range(3):
        await asyncio.sleep(0)
    return None


async def test_a_job_that_kills_its_worker_fails_after_four_starts() -> None:
    town = Town()
    (poison,) = await town.work.add(POISON)
    deaths = 0
    while not await town.live(quick, concurrency=1):
        deaths += 1
        assert deaths <= STARTS
    assert town.poisoned == [poison] * STARTS
    record = await town.work.job(poison)
    assert (record.state, record.recoveries, record.attempts_made) == ("failed", STARTS, 0)
    assert record.last_error is not None
    assert "worker lost" in record.last_error.message
    assert town.events == [("recovered", poison)] * STARTS + [("failed", poison)], "somebody is told"


async def test_the_innocents_beside_a_poison_job_survive() -> None:
    """They lose their workers with it, until it is handed out alone."""
    town = Town()
    innocents = [*await town.work.add(*range(20))]
    (poison,) = await town.work.add(POISON)
    innocents += await town.work.add(*range(20, 30))
    deaths = 0
    while not await town.live(quick, concurrency=50):
        deaths += 1
        assert deaths <= 40
    assert await town.work.states([poison]) == ["failed"]
    assert set(await town.work.states(innocents)) == {"completed"}
    assert town.poisoned == [poison] * STARTS
    assert max([(await town.work.job(one)).recoveries for one in innocents]) == 3
    assert [event for event in town.events if event[0] == "failed"] == [("failed", poison)]


async def test_two_poison_jobs_do_not_take_each_other_down_early() -> None:
    town = Town()
    poisons = await town.work.add(POISON, POISON)
    innocents = await town.work.add(*range(10))
    deaths = 0
    while not await town.live(quick, concurrency=50):
        deaths += 1
        assert deaths <= 40
    assert await town.work.states(poisons) == ["failed", "failed"]
    assert set(await town.work.states(innocents)) == {"completed"}


async def make_suspects(work: Work, clock: ManualClock, *numbers: int) -> list[str]:
    """Enqueue jobs that have lost as many workers as they may."""
    ids = await work.add(*numbers)
    for worker in range(3):
        await Rival(work.driver.inner, f"dying {worker}").step(want=len(numbers))
        clock.advance("31s")
    return ids


async def test_suspects_are_run_one_at_a_time_beside_what_is_not_suspect() -> None:
    """And a running suspect holds up nothing but other suspects."""
    town = Town()
    work = town.work
    suspects = await make_suspects(work, town.clock, 100, 101, 102)
    running_suspects: list[int] = []
    release = asyncio.Event()

    async def act(number: int) -> None:
        if number >= 100:
            running_suspects.append(number)
            await release.wait()

    work.deeds.act = act
    async with running(Runner(work.jobs, concurrency=10)):
        for number in range(3):
            (other,) = await work.add(number)
            await work.until(other, "completed")
        assert len(running_suspects) == 1
        release.set()
        for suspect in suspects:
            await work.until(suspect, "completed")


async def test_a_suspect_that_is_lost_makes_room_for_the_next() -> None:
    """It ends without an ack, so there is no step that would ask for another anyway."""
    town = Town()
    work = town.work
    first, second = await make_suspects(work, town.clock, 1, 2)
    work.driver.taken.add(first)

    async def act(number: int) -> None:
        if number == 1:
            await asyncio.Event().wait()

    work.deeds.act = act
    assert await work.run(lease="1s") == RunCounts(completed=1, lost=1, recovered=2)
    assert await work.states([second]) == ["completed"]


@pytest.mark.parametrize("most", [0, 1])
async def test_how_often_a_worker_may_be_lost_is_configurable(most: int) -> None:
    clock = ManualClock()
    work = Work(clock=clock, max_recoveries=most)
    (record_id,) = await work.add(1)
    deaths = 0
    while (await Rival(work.driver.inner, f"dying {deaths}").step()).reserved:
        deaths += 1
        clock.advance("31s")
    assert deaths == most + 1
    assert await work.states([record_id]) == ["failed"]
