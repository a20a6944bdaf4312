"""Hooks are called for what has happened, and nothing that they do changes it."""

import asyncio
import threading
from datetime import timedelta
from typing import Any, NoReturn

import pytest

from flowli_core import DefinitionError, Hook, Hooks, JobEvent, Retry, RunCounts, Runner, fixed
from flowli_core.testing import ManualClock
from tests.support.running import PATIENCE, Rival, Work, breathe, running, soon, until

NAMES = (
    "on_job_started",
    "on_job_completed",
    "on_job_failed",
    "on_job_retry_scheduled",
    "on_job_expired",
    "on_lease_recovered",
    "on_lease_lost",
)


class Recorder:
    """Hooks that record their calls."""

    def __init__(self, *, plain: bool = False) -> None:
        self.entries: list[tuple[str, JobEvent]] = []
        self.hooks = Hooks(**{name: self._hook(name, plain=plain) for name in NAMES})

    def _hook(self, name: str, *, plain: bool) -> Hook:
        async def note(event: JobEvent) -> None:
            for _ in range(20 if name == "on_job_started" else 1):
                await asyncio.sleep(0)
            self.entries.append((name, event))

        return (lambda event: self.entries.append((name, event))) if plain else note

    def of(self, job_id: str) -> list[str]:
        return [name for name, event in self.entries if event.id == job_id]


@pytest.mark.parametrize("way", ["async", "plain"])
async def test_the_hooks_of_a_job_are_called_in_order(way: str) -> None:
    clock = ManualClock()
    work = Work(clock=clock)
    recorder = Recorder(plain=way == "plain")
    recovered, dropped = await work.add(3, 4)
    await Rival(work.driver.inner).step(want=2)
    clock.advance("31s")

    async def act(number: int) -> None:
        if number == 1:
            raise ValueError("no")
        if number == 4:
            clock.advance("31s")
            (held,) = (await Rival(work.driver.inner, "thief").step()).reserved
            assert held.id == dropped

    work.deeds.act = act
    (completed,) = await work.add(0)
    failed = (await work.jobs.act.options(retry=Retry(max_attempts=2, backoff=fixed("0s"))).enqueue(1)).id
    runner = Runner(work.jobs, concurrency=1, hooks=recorder.hooks)
    assert await soon(runner.run_once()) == RunCounts(completed=2, failed=1, retried=1, recovered=2, lost=1)
    assert recorder.of(completed) == ["on_job_started", "on_job_completed"]
    assert recorder.of(failed) == ["on_job_started", "on_job_retry_scheduled", "on_job_started", "on_job_failed"]
    assert recorder.of(recovered) == ["on_lease_recovered", "on_job_started", "on_job_completed"]
    assert recorder.of(dropped) == ["on_lease_recovered", "on_job_started", "on_lease_lost"]


async def test_an_event_describes_what_happened() -> None:
    clock = ManualClock()
    work = Work(clock=clock)
    recorder = Recorder()

    async def act(_: int) -> None:
        raise ValueError("no")

    work.deeds.act = act
    receipt = await work.jobs.act.options(retry=Retry(max_attempts=2, backoff=fixed("1m")), queue="mail").enqueue(1)
    await work.run(queues=["mail"], hooks=recorder.hooks)
    clock.advance("1m")
    await work.run(queues=["mail"], hooks=recorder.hooks)
    started, retried, started_again, failed = [event for _, event in recorder.entries]
    assert {(event.id, event.name, event.queue, event.recoveries) for _, event in recorder.entries} == {
        (receipt.id, "act", "mail", 0)
    }
    assert [event.attempt for _, event in recorder.entries] == [1, 1, 2, 2]
    assert (started.error, started.duration, started.retry_in) == (None, None, None)
    assert isinstance(retried.error, ValueError)
    assert retried.retry_in == timedelta(minutes=1)
    assert retried.duration is not None
    assert retried.duration >= timedelta(0)
    assert isinstance(failed.error, ValueError)
    assert failed.retry_in is None
    assert started.worker == retried.worker != started_again.worker


async def test_the_completed_hook_is_called_after_the_store_has_accepted_the_outcome() -> None:
    work = Work()
    states: list[str] = []

    async def on_completed(event: JobEvent) -> None:
        states.append((await work.job(event.id)).state)

    await work.add(1, 2, 3)
    assert await work.run(hooks=Hooks(on_job_completed=on_completed)) == RunCounts(completed=3)
    assert states == ["completed"] * 3


async def test_no_hook_is_called_before_the_store_has_accepted_the_outcome() -> None:
    work = Work()
    recorder = Recorder()
    started = asyncio.Event()

    async def act(_: int) -> None:
        started.set()

    work.deeds.act = act
    (record_id,) = await work.add(1)
    work.driver.hold("step").opened.set()
    gate = work.driver.hold("step")
    async with running(Runner(work.jobs, hooks=recorder.hooks)):
        await soon(gate.reached.wait())
        assert started.is_set()
        await breathe()
        assert recorder.of(record_id) == ["on_job_started"]
        gate.opened.set()
        await until(lambda: recorder.of(record_id) == ["on_job_started", "on_job_completed"])


async def test_no_outcome_hook_is_called_for_a_returned_or_cancelled_job() -> None:
    work = Work()
    recorder = Recorder()

    async def act(_: int) -> None:
        await asyncio.Event().wait()

    work.deeds.act = act
    first, second = await work.add(1, 2)
    runner = Runner(work.jobs, lease="1s", hooks=recorder.hooks)
    async with running(runner):
        await work.until(second, "active")
        await work.jobs.control.cancel(first)
        await work.until(first, "cancelled")
        await soon(runner.stop(drain="0s"))
    assert recorder.of(first) == recorder.of(second) == ["on_job_started"]


class UnprintableError(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("cannot be printed")

    __str__ = __repr__


def throw(error: BaseException) -> NoReturn:
    raise error


@pytest.mark.parametrize("way", ["async", "plain"])
@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        SystemExit(1),
        KeyboardInterrupt(),
        GeneratorExit(),
        StopIteration(),
        UnprintableError(),
        asyncio.CancelledError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_error_of_a_hook_changes_nothing(
    error: BaseException, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    work = Work()

    async def raising(_: JobEvent) -> None:
        throw(error)

    hook: Hook = (lambda _: throw(error)) if way == "plain" else raising
    hooks = Hooks(**dict.fromkeys(NAMES, hook))
    ids = await work.add(1, 2)
    assert await work.run(hooks=hooks) == RunCounts(completed=2)
    assert await work.states(ids) == ["completed"] * 2
    assert f"hook on_job_completed failed for job {ids[0]} (act)" in caplog.text
    assert f"hook on_job_started failed for job {ids[1]} (act)" in caplog.text


@pytest.fixture
def short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the time that a hook may take."""
    monkeypatch.setattr("flowli_core._running.hooks.HOOK_TIMEOUT", timedelta(milliseconds=30))


@pytest.mark.usefixtures("short_timeout")
@pytest.mark.parametrize("way", ["async", "stubborn", "plain"])
async def test_a_hook_that_hangs_is_not_awaited_for_ever(way: str, caplog: pytest.LogCaptureFixture) -> None:
    """Even one that ignores its cancellation. The next hook of the same job is called, and the runner ends."""
    work = Work()
    release, thread_release = asyncio.Event(), threading.Event()
    completed: list[str] = []

    async def hang(_: JobEvent) -> None:
        await release.wait()

    async def be_stubborn(_: JobEvent) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    def block(_: JobEvent) -> None:
        assert thread_release.wait(PATIENCE)

    async def on_completed(event: JobEvent) -> None:
        completed.append(event.id)

    hooks = Hooks(
        on_job_started={"async": hang, "stubborn": be_stubborn, "plain": block}[way], on_job_completed=on_completed
    )
    (record_id,) = await work.add(1)
    assert await work.run(hooks=hooks) == RunCounts(completed=1)
    assert completed == [record_id]
    assert "the hook did not return within" in caplog.text
    release.set()
    thread_release.set()
    await breathe()


async def test_a_slow_hook_does_not_hold_up_jobs() -> None:
    """It delays neither its job, nor the ack, nor other jobs."""
    work = Work()
    release = asyncio.Event()
    completed: list[str] = []

    async def slow(event: JobEvent) -> None:
        await release.wait()
        completed.append(event.id)

    async with running(Runner(work.jobs, concurrency=1, hooks=Hooks(on_job_started=slow))) as task:
        ids = await work.add(*range(5))
        for record_id in ids:
            await work.until(record_id, "completed")
        assert completed == []
        release.set()
        await until(lambda: sorted(completed) == sorted(ids))
        assert not task.done()


async def test_a_run_waits_for_its_hooks() -> None:
    work = Work()
    completed: list[str] = []

    async def slow(event: JobEvent) -> None:
        for _ in range(10):
            await asyncio.sleep(0)
        completed.append(event.id)

    ids = await work.add(1)
    await work.run(hooks=Hooks(on_job_completed=slow))
    assert completed == ids


async def test_a_hook_may_be_an_object_with_an_async_call() -> None:
    work = Work()

    class Note:
        def __init__(self) -> None:
            self.ids: list[str] = []

        async def __call__(self, event: JobEvent) -> None:
            self.ids.append(event.id)

    note = Note()
    ids = await work.add(1)
    await work.run(hooks=Hooks(on_job_completed=note))
    assert note.ids == ids


async def test_what_a_plain_hook_returns_is_ignored_unless_it_is_an_awaitable(
    caplog: pytest.LogCaptureFixture,
) -> None:
    work = Work()
    seen: dict[str, str] = {}
    awaited = asyncio.Event()

    async def later() -> None:
        awaited.set()

    def remember(event: JobEvent) -> Any:
        return seen.setdefault(event.id, event.name)

    (job_id,) = await work.add(1)
    await work.run(hooks=Hooks(on_job_started=remember, on_job_completed=lambda _: later()))
    assert seen == {job_id: "act"}
    assert awaited.is_set()
    assert "hook" not in caplog.text


def test_a_hook_must_be_a_function() -> None:
    with pytest.raises(DefinitionError, match="on_job_failed must be a function, got str"):
        Hooks(on_job_failed="log")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.usefixtures("short_timeout")
async def test_a_plain_hook_that_found_no_thread_in_time_is_not_called_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """All threads are blocked by other hooks. The call would come too late."""
    monkeypatch.setattr("flowli_core._running.hooks._MAX_THREADS", 1)
    work = Work()
    release = threading.Event()
    completed: list[str] = []

    def block(event: JobEvent) -> None:
        completed.append(event.id)
        assert release.wait(PATIENCE)

    ids = await work.add(1, 2, 3)
    async with running(Runner(work.jobs, concurrency=1, hooks=Hooks(on_job_completed=block))):
        await until(lambda: caplog.text.count("the hook did not return within") == 3)
        release.set()
        later = await work.add(4)
        await until(lambda: completed[1:] == later)
    assert completed == [ids[0], *later]
