"""The twenty defects of Flowli 0.4 for TypeScript: each test shows that this library does not have one of them.

The same is tested in more depth: for every driver in tests/conformance (1 to 5, 14 to 17), for the runner in
tests/running (6 to 12, 20), for cron in tests/schedules (18) and for validators in tests/wire (19).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import BaseModel, BeforeValidator

from flowli_core import Defaults, Hooks, JobEvent, Jobs, Keep, Runner, StoreUnavailable, job
from flowli_core.driver import Retried
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.durations import ZERO
from flowli_core.limits import RECOVER_PER_STEP
from flowli_core.retry import Retry
from flowli_core.testing import ManualClock, drain
from tests.conformance.builders import Worker
from tests.support.counting import CountingDriver
from tests.support.running import until

if TYPE_CHECKING:
    from flowli_core.driver import Step, StepAnswer

PATIENCE = 20


@dataclass
class Log:
    """Counts how often each input ran, and has the events that handlers set and wait for."""

    ran: Counter[int] = field(default_factory=Counter[int])
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    started: asyncio.Event = field(default_factory=asyncio.Event)


@job(int)
async def work(input: int, ctx: Log) -> int:
    if input < 0:
        raise ValueError(input)
    ctx.ran[input] += 1
    return input


@job(int)
async def wait(input: int, ctx: Log) -> int:
    ctx.started.set()
    await ctx.go_on.wait()
    ctx.ran[input] += 1
    return input


@job(retry=Retry(max_attempts=1), timeout="20ms")
async def hang(ctx: Log) -> None:
    ctx.started.set()
    await asyncio.Event().wait()


def shout(text: str) -> str:
    return text + "!"


class Shouted(BaseModel):
    text: Annotated[str, BeforeValidator(shout)]


@job(Shouted)
async def say(input: Shouted) -> str:
    return input.text


class AppJobs(Jobs[Log]):
    work = work
    wait = wait
    hang = hang
    say = say


class App:
    """A registry with a driver that counts calls and a clock that tests advance."""

    def __init__(self, **options: Any) -> None:
        self.clock = ManualClock()
        self.memory = MemoryDriver(clock=self.clock)
        self.driver = CountingDriver(self.memory)
        self.log = Log()
        self.jobs = AppJobs(context=self.log, driver=self.driver, **options)
        self._names = (f"dead {number}" for number in range(1_000))

    async def reserve(self, want: int = 1) -> Worker:
        """Reserve jobs for a worker that then dies."""
        worker = Worker(self.memory, next(self._names), queues=("default",))
        await worker.take(want)
        return worker

    def expire(self) -> None:
        """Let all leases expire."""
        self.clock.advance("31s")


@pytest.fixture
def app() -> App:
    return App()


async def test_1_a_worker_that_dies_after_reserving_loses_no_job(app: App) -> None:
    await app.jobs.work.enqueue_many(range(3))
    await app.reserve(3)
    counts = await app.jobs.inspect.get_queue_counts()
    assert (counts.queued, counts.active) == (0, 3)
    app.expire()
    assert (await drain(app.jobs)).completed == 3
    assert app.log.ran == {0: 1, 1: 1, 2: 1}


async def test_2_a_worker_that_lost_its_lease_can_neither_complete_nor_fail_the_job(app: App) -> None:
    await app.jobs.work.enqueue(1)
    dead = Worker(app.memory, "dead", queues=("default",))
    held = await dead.take_one()
    app.expire()
    await drain(app.jobs)
    before = await app.jobs.inspect.get_job(held.id)
    assert await dead.settle(held, Retried(delay=ZERO, attempts=b"{}")) == "lost"
    assert await app.jobs.inspect.get_job(held.id) == before


async def test_3_runners_that_recover_at_the_same_time_run_each_job_once(app: App) -> None:
    await app.jobs.work.enqueue_many(range(20))
    await app.reserve(20)
    app.expire()
    counts = await asyncio.gather(*(drain(app.jobs) for _ in range(4)))
    assert sum(count.recovered for count in counts) == 20
    assert sum(count.completed for count in counts) == 20
    assert set(app.log.ran.values()) == {1}


async def test_4_any_number_of_expired_leases_is_recovered(app: App) -> None:
    many = 3 * RECOVER_PER_STEP + 100
    await app.jobs.work.enqueue_many(range(many))
    await app.reserve(many)
    app.expire()
    counts = await drain(app.jobs)
    assert (counts.recovered, counts.completed) == (many, many)


async def test_5_a_job_that_kills_its_workers_fails(app: App) -> None:
    poison = await app.jobs.work.enqueue(1)
    for _ in range(4):
        await app.reserve()
        app.expire()
    await app.jobs.work.enqueue(2)
    await drain(app.jobs)
    found = await app.jobs.inspect.get_job(poison.id)
    assert found is not None
    assert (found.state, found.recoveries, found.attempts_made) == ("failed", 4, 0)
    assert found.last_error is not None
    assert "worker lost" in found.last_error.message
    assert app.log.ran == {2: 1}


async def test_6_a_handler_whose_lease_is_lost_is_cancelled_and_its_result_ignored(app: App) -> None:
    lost = asyncio.Event()

    async def note(_: JobEvent) -> None:
        lost.set()

    receipt = await app.jobs.wait.enqueue(1)
    async with asyncio.timeout(PATIENCE), Runner(app.jobs, lease="1s", hooks=Hooks(on_lease_lost=note)):
        await app.log.started.wait()
        app.expire()
        (recovered,) = (await Worker(app.memory, "other", queues=("nothing",)).step()).recovered
        await lost.wait()
        app.log.go_on.set()
    found = await app.jobs.inspect.get_job(receipt.id)
    assert found is not None
    assert (recovered.id, found.recoveries) == (receipt.id, 1)
    assert app.log.ran[1] == found.attempts_made <= 1


class Stumbling(CountingDriver):
    """A driver that fails every other step."""

    async def step(self, step: Step) -> StepAnswer:
        self.calls["tried"] += 1
        if self.calls["tried"] % 2:
            raise StoreUnavailable("just now")
        return await super().step(step)


async def test_7_an_error_of_the_store_does_not_stop_a_runner() -> None:
    done = asyncio.Queue[str]()

    async def note(event: JobEvent) -> None:
        done.put_nowait(event.id)

    jobs = AppJobs(context=Log(), driver=Stumbling())
    runner = Runner(jobs, concurrency=1, hooks=Hooks(on_job_completed=note))
    async with asyncio.timeout(PATIENCE), runner:
        for number in range(3):
            receipt = await jobs.work.enqueue(number)
            assert await done.get() == receipt.id
            assert runner.health().is_running
    assert not runner.health().is_running


async def test_8_a_hook_that_raises_changes_no_outcome(app: App, caplog: pytest.LogCaptureFixture) -> None:
    def breaks(_: JobEvent) -> None:
        raise RuntimeError("the hook is broken")

    receipt = await app.jobs.work.enqueue(1)
    counts = await Runner(app.jobs, hooks=Hooks(on_job_started=breaks, on_job_completed=breaks)).run_once()
    found = await app.jobs.inspect.get_job(receipt.id)
    assert found is not None
    assert (counts.completed, found.state, app.log.ran) == (1, "completed", {1: 1})
    warned = [record.message.split(" failed")[0] for record in caplog.records if record.levelno >= logging.WARNING]
    assert warned == ["hook on_job_started", "hook on_job_completed"]


async def test_9_stopping_waits_for_running_jobs(app: App) -> None:
    receipt = await app.jobs.wait.enqueue(1)
    runner = Runner(app.jobs)
    async with asyncio.timeout(PATIENCE), runner:
        await app.log.started.wait()
        stopping = asyncio.create_task(runner.stop(drain="1h"))
        await asyncio.sleep(0)
        assert not stopping.done()
        app.log.go_on.set()
        await stopping
        found = await app.jobs.inspect.get_job(receipt.id)
        assert found is not None
        assert found.state == "completed"


async def test_10_a_slot_is_filled_as_soon_as_it_is_free(app: App) -> None:
    """The long job ends after the last short one. A runner that waits for a whole batch would never end."""

    @job(int)
    async def short(input: int, ctx: Log) -> None:
        ctx.ran[input] += 1
        if len(ctx.ran) == 6:
            ctx.go_on.set()

    class Mixed(AppJobs):
        quick = short

    jobs = Mixed(context=app.log, driver=app.driver)
    await jobs.wait.enqueue(100)
    await jobs.quick.enqueue_many(range(6))
    async with asyncio.timeout(PATIENCE):
        counts = await drain(jobs, concurrency=2)
    assert counts.completed == 7


async def test_11_a_runner_does_not_wait_while_there_is_work(app: App) -> None:
    await app.jobs.work.enqueue_many(range(100))
    async with asyncio.timeout(PATIENCE):
        await Runner(app.jobs).run_once()
    assert app.driver.calls["wait"] == 0
    assert sum(app.log.ran.values()) == 100


async def test_12_a_job_costs_a_fraction_of_a_round_trip(app: App) -> None:
    """A step settles finished jobs and reserves new ones, for at least half of the slots."""
    await app.jobs.work.enqueue_many(range(200))
    await drain(app.jobs, concurrency=50)
    trips = app.driver.calls
    assert trips["enqueue"] == 1
    assert trips["step"] <= 200 / 25 + 4  # two of them are the last steps of the two runs of drain
    assert set(trips) <= {"open", "enqueue", "step", "heartbeat", "overview"}
    assert trips["overview"] <= 3  # made by drain, to find the queues


async def test_13_runners_do_not_compete_for_the_same_jobs(app: App) -> None:
    """No two steps reserve the same job, and no runner loses one that it reserved."""
    await app.jobs.work.enqueue_many(range(100))
    await asyncio.gather(*(drain(app.jobs, concurrency=5) for _ in range(4)))
    reserved = [one.id for answer in app.driver.answers for one in answer.reserved]
    assert len(reserved) == len(set(reserved)) == 100
    assert {code for answer in app.driver.answers for code in answer.acks} == {"ok"}


async def test_14_finished_records_are_removed() -> None:
    app = App(defaults=Defaults(keep=Keep(completed=5), keep_completed="1h"))
    await app.jobs.work.enqueue_many(range(20))
    await drain(app.jobs)
    assert (await app.jobs.inspect.get_queue_counts()).completed == 5
    app.clock.advance("1h")
    await drain(app.jobs)
    assert (await app.jobs.inspect.get_queue_counts()).completed == 0


async def test_15_counts_take_one_call_and_pages_are_newest_first(app: App) -> None:
    for number in range(3):
        await app.jobs.work.enqueue(number)
        app.clock.advance("1s")
        await drain(app.jobs)
    app.driver.calls.clear()
    assert (await app.jobs.inspect.get_queue_counts()).completed == 3
    page = await app.jobs.inspect.find("completed", limit=2)
    assert [record.result for record in page.items] == [2, 1]
    assert app.driver.calls == {"overview": 1, "records": 1}


async def test_16_a_runner_that_dies_while_it_fires_a_schedule_does_not_fire_it_twice(app: App) -> None:
    """It dies after storing the job of the tick. The next runner finds the job, and the next tick moved on."""
    await app.jobs.work.schedule("minutely", every="1m", input=1)
    app.clock.advance("1m")
    dying = asyncio.create_task(Runner(app.jobs).run_once())

    async def has_fired() -> bool:
        return bool((await app.jobs.inspect.get_queue_counts()).by_queue)

    await until(has_fired)
    dying.cancel()
    await asyncio.wait((dying,))
    for _ in range(3):
        await Runner(app.jobs).run_once()
    page = await app.jobs.inspect.find("completed")
    assert len(page.items) == 1
    assert app.log.ran == {1: 1}


async def test_17_registering_again_keeps_the_next_run_and_schedules_can_be_paused_and_removed(app: App) -> None:
    first = await app.jobs.work.schedule("hourly", every="1h", input=1)
    app.clock.advance("59m")
    again = await app.jobs.work.schedule("hourly", every="1h", input=1)
    assert again.disposition == "unchanged"
    assert again.next_runs[0] == first.next_runs[0]
    assert await app.jobs.control.pause("hourly")
    app.clock.advance("2h")
    assert (await Runner(app.jobs).run_once()).completed == 0
    assert await app.jobs.control.resume("hourly")
    assert await app.jobs.control.unschedule("hourly")
    assert await app.jobs.inspect.get_schedule("hourly") is None


@pytest.mark.parametrize(
    ("cron", "following"),
    [
        ("0 8 * * mon-fri", "2026-01-01T08:00"),
        ("0 8-18/5 * * *", "2026-01-01T08:00"),
        ("0 0 13 * fri", "2026-01-02T00:00"),
        ("0 0 29 2 *", "2028-02-29T00:00"),
    ],
)
async def test_18_cron_expressions_may_use_all_of_cron(app: App, cron: str, following: str) -> None:
    """Names, stepped ranges, days of the month or of the week, and the 29th of February."""
    receipt = await app.jobs.work.schedule("k", cron=cron, input=1)
    assert receipt.next_runs[0].isoformat()[:16] == following


async def test_19_the_output_of_a_validator_is_not_validated_again(app: App) -> None:
    receipt = await app.jobs.say.enqueue(text="hi")
    await drain(app.jobs)
    found = await app.jobs.inspect.get_job(receipt.id)
    assert found is not None
    assert (found.input, found.result) == ({"text": "hi"}, "hi!")


async def test_20_there_are_timeouts_cancellation_results_keys_and_tracebacks(app: App) -> None:
    timed_out = await app.jobs.hang.enqueue()
    kept = await app.jobs.work.options(key="k").enqueue(7)
    again = await app.jobs.work.options(key="k").enqueue(8)
    failing = await app.jobs.work.enqueue(-1)
    cancelled = await app.jobs.work.enqueue(9)
    assert (again.id, again.disposition) == (kept.id, "existing")
    assert await app.jobs.control.cancel(cancelled.id) == "cancelled"
    async with asyncio.timeout(PATIENCE):
        await drain(app.jobs)
    hung, failed, result = [await app.jobs.inspect.get_job(one.id) for one in (timed_out, failing, kept)]
    assert hung is not None
    assert hung.last_error is not None
    assert hung.last_error.type == "flowli_core.JobTimeout"
    assert failed is not None
    assert failed.last_error is not None
    assert "in work\n" in failed.last_error.traceback
    assert result is not None
    assert result.result == 7
    assert app.log.ran == {7: 1}
