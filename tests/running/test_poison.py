"""Poison jobs, which kill their workers: they fail in the end, and no other job fails because of them."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from flowli_core import Hooks, JobEvent, LeaseLost, RunCounts, Runner, current_job
from flowli_core.driver import Ack, Released, Step, StepAnswer
from flowli_core.testing import ManualClock
from tests.support.faulty import FaultyDriver
from tests.support.running import Deeds, Duties, Hold, Rival, Work, breathe, running, soon, until

POISON = -1
STARTS = 4
"""The first start, and one after each of the three recoveries that are allowed."""


class Plague:
    """Workers that die one after the other when they run a poison job. Each has its own driver on one store."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.work = Work(clock=self.clock)
        self.poisoned: list[str] = []
        self.events: list[tuple[str, str]] = []

    async def live(self, innocent: Callable[[int], Awaitable[object]], *, concurrency: int) -> bool:
        """Let a worker run the due jobs. Return True if it survived. A dead worker cannot call the store any more."""
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
        # After the first cancellation it tries to return its jobs; the second one ends it at once.
        for _ in range(2):
            life.cancel()
            await breathe()
        with contextlib.suppress(asyncio.CancelledError):
            await soon(life)
        self.clock.advance("31s")
        return False


async def quick(_: int) -> object:
    """Take long enough for a poison job of the same batch to kill the worker."""
    for _ in range(3):
        await asyncio.sleep(0)
    return None


async def test_a_job_that_kills_its_worker_fails_after_four_starts() -> None:
    plague = Plague()
    (poison,) = await plague.work.add(POISON)
    deaths = 0
    while not await plague.live(quick, concurrency=1):
        deaths += 1
        assert deaths <= STARTS
    assert plague.poisoned == [poison] * STARTS
    record = await plague.work.job(poison)
    assert (record.state, record.recoveries, record.attempts_made) == ("failed", STARTS, 0)
    assert record.last_error is not None
    assert "worker lost" in record.last_error.message
    assert plague.events == [("recovered", poison)] * STARTS + [("failed", poison)], "the hooks are called"


async def test_the_jobs_beside_a_poison_job_complete() -> None:
    """They lose their workers too, until the poison job is the only suspect that runs."""
    plague = Plague()
    innocents = [*await plague.work.add(*range(20))]
    (poison,) = await plague.work.add(POISON)
    innocents += await plague.work.add(*range(20, 30))
    deaths = 0
    while not await plague.live(quick, concurrency=50):
        deaths += 1
        assert deaths <= 40
    assert await plague.work.states([poison]) == ["failed"]
    assert set(await plague.work.states(innocents)) == {"completed"}
    assert plague.poisoned == [poison] * STARTS
    assert max([(await plague.work.job(one)).recoveries for one in innocents]) == 3
    assert [event for event in plague.events if event[0] == "failed"] == [("failed", poison)]


async def test_two_poison_jobs_do_not_fail_other_jobs() -> None:
    plague = Plague()
    poisons = await plague.work.add(POISON, POISON)
    innocents = await plague.work.add(*range(10))
    deaths = 0
    while not await plague.live(quick, concurrency=50):
        deaths += 1
        assert deaths <= 40
    assert await plague.work.states(poisons) == ["failed", "failed"]
    assert set(await plague.work.states(innocents)) == {"completed"}


@pytest.mark.parametrize("seed", range(3))
async def test_many_poison_jobs_do_not_fail_other_jobs(seed: int) -> None:
    """A job that has lost as many workers as is allowed, to different poison jobs, runs alone from then on."""
    plague = Plague()
    numbers = [*range(60), *[POISON] * 6]
    random.Random(seed).shuffle(numbers)  # noqa: S311 - no secret
    ids = await plague.work.add(*numbers)
    poisons = {record_id for record_id, number in zip(ids, numbers, strict=True) if number == POISON}
    deaths = 0
    while not await plague.live(quick, concurrency=20):
        deaths += 1
        assert deaths <= STARTS * len(poisons)
    states = dict(zip(ids, await plague.work.states(ids), strict=True))
    assert {record_id for record_id, state in states.items() if state == "failed"} == poisons
    assert set(states.values()) == {"completed", "failed"}
    assert max(Counter(plague.poisoned).values()) <= STARTS


def acks_of(work: Work, record_id: str) -> list[Ack]:
    """Return the acks that were sent for a record."""
    return [ack for step in work.driver.steps for ack in step.acks if ack.id == record_id]


async def make_suspects(work: Work, clock: ManualClock, *numbers: int) -> list[str]:
    """Enqueue jobs that have lost as many workers as is allowed."""
    ids = await work.add(*numbers)
    for worker in range(3):
        await Rival(work.driver.inner, f"dying {worker}").step(want=len(numbers))
        clock.advance("31s")
    return ids


async def test_suspects_run_alone() -> None:
    """The other jobs of a worker wait for its suspect, and its suspects wait for its other jobs."""
    plague = Plague()
    work = plague.work
    suspects = await make_suspects(work, plague.clock, 100, 101, 102)
    others = await work.add(*range(30))
    running_numbers: set[int] = set()
    seen: set[int] = set()

    async def act(number: int) -> None:
        running_numbers.add(number)
        seen.add(number)
        for _ in range(10):
            await asyncio.sleep(0)
            assert number < 100 or running_numbers == {number}
        running_numbers.remove(number)

    work.deeds.act = act
    async with running(Runner(work.jobs, concurrency=10)):
        for record_id in suspects + others:
            await work.until(record_id, "completed")
    assert seen == {*range(30), 100, 101, 102}


async def test_a_suspect_does_not_wait_for_ever_for_long_jobs() -> None:
    """The run reserves nothing else for a while. Then it goes on with other jobs, and tries again later."""
    work = Work()
    release = asyncio.Event()

    async def act(number: int) -> None:
        if number == 1:
            await release.wait()

    work.deeds.act = act
    async with running(Runner(work.jobs, concurrency=10)):
        (long,) = await work.add(1)
        await work.until(long, "active")
        suspect = (await work.registry(max_recoveries=0).act.enqueue(100)).id
        (other,) = await work.add(2)
        await work.until(other, "completed")
        assert await work.states([suspect]) == ["queued"]
        release.set()
        await work.until(suspect, "completed")


async def test_a_suspect_that_arrives_beside_another_job_returns_to_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """No driver should answer so. The suspect may not run beside the other job all the same."""
    work = Work()
    hold = work.deeds.act = Hold()
    step = work.driver.step

    async def answer(sent: Step) -> StepAnswer:
        given = await step(sent)
        others, suspects = given.reserved[:1], [replace(one, suspect=True) for one in given.reserved[1:]]
        return replace(given, reserved=(*others, *suspects))

    monkeypatch.setattr(work.driver, "step", answer)
    _, suspect = await work.add(1, 2)
    async with running(Runner(work.jobs)):
        await soon(hold.started.wait())
        await until(lambda: Released() in [ack.outcome for ack in acks_of(work, suspect)])
        hold.release.set()
        await work.until(suspect, "completed")


async def test_the_next_suspect_runs_after_one_was_lost() -> None:
    """The lost one ends without an ack, so no step follows that would reserve the next."""
    plague = Plague()
    work = plague.work
    first, second = await make_suspects(work, plague.clock, 1, 2)
    work.driver.taken.add(first)

    async def act(number: int) -> None:
        if number == 1:
            await asyncio.Event().wait()

    work.deeds.act = act
    assert await work.run(lease="1s") == RunCounts(completed=1, lost=1, recovered=2)
    assert await work.states([second]) == ["completed"]


@pytest.mark.parametrize("most", [0, 1])
async def test_max_recoveries_is_configurable(most: int) -> None:
    clock = ManualClock()
    work = Work(clock=clock, max_recoveries=most)
    (record_id,) = await work.add(1)
    deaths = 0
    while (await Rival(work.driver.inner, f"dying {deaths}").step()).reserved:
        deaths += 1
        clock.advance("31s")
    assert deaths == most + 1
    assert await work.states([record_id]) == ["failed"]
