"""Damage to a store, and a check that everything which it did not touch goes on.

`outlive(store)` fills a store with jobs in every state, damages one value, and then uses the store as an application, a
worker and an operator do. It fails unless every job that the damage did not touch runs and completes, no call raises an
error that is not ours, and no command prints a traceback.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

import pytest
from click.testing import CliRunner

from flowli_core import Defaults, Jobs, Runner, StoreDamaged, ValidationError, job
from flowli_core._jobs.registry import runtime_of
from flowli_core.cli._common.operation import RegistryLoader
from flowli_core.cli._main import flowli
from flowli_core.driver import Ack, Completed, Failed, Outcome, Retried, Step
from flowli_core.reports import Report
from flowli_core.stored import FINISHED, STATES
from flowli_core.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flowli_core import JobRecord
    from flowli_core.clock import Clock
    from flowli_core.driver import Driver, Reserved
    from flowli_core.stored import State

MANY = tuple(f"job-many-{number}" for number in range(120))
"""More jobs than a worker reserves, a listing shows and fsck checks at once."""

INNOCENTS = frozenset(MANY) | {
    f"job-{name}" for name in ("recovered", "retried", "active-1", "active-2", "suspect", "1", "keyed", "later")
}
"""The jobs that are to be run, and are stored before the damage."""

NEW = frozenset({"job-new", "job-new-2"})
"""The jobs that are enqueued after the damage."""

DONE = Completed(b'"x"')
_sequences = itertools.count(1)
COMMANDS = (("status",), ("jobs", "list", "failed"), ("schedules", "list"), ("doctor",))


@dataclass(frozen=True, slots=True)
class Damage:
    """One damaged value.

    `victims` are the ids of records and the keys of schedules that it touches. `stops_all` is True if the store cannot
    be used until an operator has repaired it, so that every call has to raise StoreDamaged.
    """

    what: str
    victims: frozenset[str] = frozenset()
    stops_all: bool = False


class DamagedStore(Protocol):
    """An empty store that a test may damage."""

    def driver(self, clock: Clock) -> Driver:
        """Make a driver of the store, as each process does."""
        ...

    def damage(self) -> Damage:
        """Damage one value, or one key, of the filled store."""
        ...


@dataclass(slots=True)
class Figures:
    """The results of many damages."""

    damages: int = 0
    refused: int = 0
    set_aside: int = 0
    innocents: int = 0

    def __str__(self) -> str:
        return (
            f"{self.damages} damages: {self.innocents} untouched jobs completed, {self.set_aside} damaged records are "
            f"shown as such, {self.refused} damages were refused with StoreDamaged"
        )


@job(str, queue="a")
async def one(input: str, ctx: set[str]) -> str:
    ctx.add(input)
    return input


@job(str, meta=str, queue="b", timeout="9s")
async def two(input: str, meta: str | None, ctx: set[str]) -> None:
    ctx.add(input)


class Duties(Jobs[set[str]]):
    one = one
    two = two
    schedules = (one.scheduled("tick-one", every="30m", input="tick-one"),)


class Scene:
    """A store with jobs in every state, and the processes that use it."""

    def __init__(self, store: DamagedStore) -> None:
        self.clock = ManualClock()
        self.ran: set[str] = set()
        self._store = store

    def registry(self, *, max_recoveries: int = 3) -> Duties:
        """Make the registry of another process."""
        driver = self._store.driver(self.clock)
        return Duties(context=self.ran, driver=driver, defaults=Defaults(max_recoveries=max_recoveries))

    async def fill(self) -> None:
        """Store records in every state. Those whose ids start with "job-" are to be run."""
        async with self.registry() as jobs, self.registry(max_recoveries=0) as suspicious:
            driver = await runtime_of(jobs).store()
            await enqueue(jobs, "old-taken")
            await driver.step(_step(*[Ack(one.id, one.token, DONE) for one in await _take(driver, 1)]))
            await jobs.two.options(id="job-recovered").enqueue("job-recovered")
            await _take(driver, 1)
            self.clock.advance("31s")
            await jobs.control.purge_all("completed")
            assert [one.id for one in (await driver.step(_step(worker="alive"))).recovered] == ["job-recovered"]
            await enqueue(jobs, "old-completed", "old-failed", "old-cancelling", "job-retried")
            await enqueue(jobs, "job-active-1", "job-active-2")
            held = await _take(driver, 6)
            outcomes: dict[str, Outcome] = {
                "old-completed": DONE,
                "old-failed": Failed(b"{}"),
                "job-retried": Retried(timedelta(minutes=1), b'{"attempts_made":1}'),
            }
            acks = [Ack(one.id, one.token, outcomes[one.id]) for one in held if one.id in outcomes]
            await driver.step(_step(*acks))
            reports = [Report(one.id, one.token, b'{"done":1}', (b'["2026-11-30T00:00:00Z","one"]',)) for one in held]
            await driver.heartbeat("dead", [], timedelta(seconds=30), reports)
            await enqueue(suspicious, "job-suspect")
            await enqueue(jobs, "old-cancelled", "job-1", *MANY)
            await jobs.control.cancel("old-cancelled")
            await jobs.control.cancel("old-cancelling")
            await jobs.two.options(id="job-keyed", key="key", meta="meta").enqueue("job-keyed")
            await jobs.two.options(id="job-later").delay("5m", "job-later")
            await jobs.two.schedule(every="1h", key="tick-two", input="tick-two")
            await jobs.one.schedule(every="1h", key="paused", input="paused")
            await jobs.control.pause("paused")
            await Runner(jobs, queues=("none",)).run_once()

    async def work_on(self) -> None:
        """Enqueue more jobs, and run all."""
        async with self.registry() as jobs:
            await enqueue(jobs, "job-new", "old-taken")
            await jobs.two.options(id="job-new-2", key="new", meta="m").enqueue("job-new-2")
        self.clock.advance("2h")
        for _ in range(3):
            async with self.registry() as jobs:
                await Runner(jobs).run_once()

    async def read(self) -> dict[str, JobRecord]:
        """Read everything as a dashboard does, and return the records."""
        found: dict[str, JobRecord] = {}
        async with self.registry() as jobs:
            await jobs.inspect.get_overview()
            for last in ("1h", "1d"):
                await jobs.inspect.history(last)
            for state in STATES:
                async for record in _list(jobs, state):
                    with contextlib.suppress(ValidationError):  # its id was damaged, so that no call can name it
                        assert await jobs.inspect.get_job(record.id) is not None, f"{record.id} is listed but not found"
                    found[record.id] = record
                await jobs.inspect.find(state, limit=100, payloads=False)
                await jobs.inspect.find(state, name="one", queue="a", error="KeyError", older_than="0s")
                await jobs.inspect.count(state, error="StoreDamaged")
            for schedule in (await jobs.inspect.get_schedules(limit=100)).items:
                with contextlib.suppress(ValidationError):  # the same of its key
                    await jobs.inspect.next_runs(schedule.key)
        return found

    async def change_all(self) -> None:
        """Change all finished jobs as an operator does: those that cannot be changed are skipped."""
        async with self.registry() as jobs:
            await jobs.control.requeue_all("cancelled", older_than="0s")
            await jobs.control.cancel_all("queued", queue="a")
            await jobs.control.requeue_all("failed", error="StoreDamaged")
            for state in FINISHED:
                await jobs.control.purge_all(state, name="one")
                await jobs.control.purge_all(state)

    def command(self, *words: str) -> str:
        """Run a command as an operator does, and return its output. It may end only with an exit code."""
        done = CliRunner().invoke(flowli, words, obj=RegistryLoader(self.registry))
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise AssertionError(f"flowli {' '.join(words)} ended with a traceback") from done.exception
        assert "Traceback" not in done.output, done.output
        return done.output

    async def commands(self) -> list[str]:
        """Run the commands that show the store, and return their output."""
        return [await asyncio.to_thread(self.command, *words) for words in COMMANDS]


async def enqueue(jobs: Duties, *ids: str) -> None:
    """Enqueue a job for each id."""
    await asyncio.gather(*[jobs.one.options(id=record_id).enqueue(record_id) for record_id in ids])


async def _list(jobs: Duties, state: State) -> AsyncIterator[JobRecord]:
    """Read all pages of a listing."""
    cursor = None
    while True:
        page = await jobs.inspect.find(state, limit=100, cursor=cursor)
        for record in page.items:
            yield record
        cursor = page.cursor
        if cursor is None:
            return


async def _take(driver: Driver, want: int) -> tuple[Reserved, ...]:
    """Reserve jobs for a worker that does not go on."""
    held = (await driver.step(_step(want=want))).reserved
    assert len(held) == want
    return held


async def outlive(store: DamagedStore, figures: Figures) -> None:
    """Fill a store, damage one value, and check that everything which it did not touch goes on."""
    scene = Scene(store)
    await scene.fill()
    damage = store.damage()
    figures.damages += 1
    try:
        if damage.stops_all:
            await _check_refusal(scene)
            figures.refused += 1
            return
        await scene.commands()
        await scene.read()
        await scene.work_on()
        found = await scene.read()
        await scene.commands()
        await scene.change_all()
        untouched = (INNOCENTS | NEW) - damage.victims
        states = {record_id: found[record_id].state if record_id in found else "gone" for record_id in untouched}
        assert set(states.values()) <= {"completed"}, states
        assert untouched <= scene.ran
        assert scene.ran >= {"tick-one", "tick-two"} - damage.victims
        assert "old-taken" not in scene.ran - damage.victims
        figures.innocents += len(untouched)
        figures.set_aside += sum(record.damage is not None for record in found.values())
    except Exception as error:
        error.add_note(f"after this damage: {damage.what}")
        raise


async def _check_refusal(scene: Scene) -> None:
    with pytest.raises(StoreDamaged):
        await scene.read()
    with pytest.raises(StoreDamaged):
        await scene.work_on()
    for output in await scene.commands():
        assert output.startswith("Error: "), output


def _step(*acks: Ack, want: int = 0, worker: str = "dead") -> Step:
    lease, sequence = timedelta(seconds=30), next(_sequences)
    return Step(worker=worker, sequence=sequence, queues=("a", "b"), want=want, lease=lease, acks=acks)
