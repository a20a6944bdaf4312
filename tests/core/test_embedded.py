"""A runner beside an application: restarted when it falls, stopped before the application ends."""

from __future__ import annotations

import asyncio

import pytest

from flowli_core import DefinitionError, Hooks, JobEvent, Runner, StoreUnavailable, StrategyError
from flowli_core.embedded import EmbeddedRunner, embedded
from tests.support.running import Deeds, Duties, Work, breathe, soon, until


class BrokenError(Exception):
    pass


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a fallen runner be started again soon."""
    monkeypatch.setattr("flowli_core.embedded.LONGEST_PAUSE", 0.001)


async def test_a_runner_works_beside_the_application() -> None:
    work = Work()
    async with embedded(work.jobs, runner=Runner(work.jobs)) as beside:
        assert beside is not None
        (record_id,) = await work.add(1)
        await work.until(record_id, "completed")
        health = beside.health()
        assert health.runner.is_running
        assert (health.restarts, health.last_error) == (0, None)
    assert not beside.health().runner.is_running
    with pytest.raises(StrategyError, match="closed"):
        await work.add(1)


async def test_an_application_may_only_enqueue() -> None:
    work = Work()
    async with embedded(work.jobs, runner=None) as beside:
        assert beside is None
        await work.add(1)


@pytest.mark.usefixtures("short_pauses")
async def test_a_runner_that_falls_is_started_again(caplog: pytest.LogCaptureFixture) -> None:
    work = Work()
    tries: list[int] = []

    def make() -> Deeds:
        tries.append(1)
        if len(tries) < 4:
            raise BrokenError("no database")
        return work.deeds

    jobs = Duties(context=make, driver=work.driver)
    beside = EmbeddedRunner(Runner(jobs))
    beside.start()
    await until(lambda: beside.health().runner.is_running and len(tries) == 4)
    health = beside.health()
    assert (health.restarts, health.last_error) == (3, "BrokenError: no database")
    assert caplog.text.count("the embedded runner failed and will be restarted") == 3
    receipt = await jobs.act.enqueue(1)
    await work.until(receipt.id, "completed")
    await soon(beside.stop())
    assert not beside.health().runner.is_running


async def test_a_runner_that_falls_again_and_again_is_not_started_without_a_pause() -> None:
    tries: list[int] = []

    def make() -> Deeds:
        tries.append(1)
        raise BrokenError

    jobs = Duties(context=make, driver=Work().driver)
    beside = EmbeddedRunner(Runner(jobs))
    beside.start()
    for _ in range(50):
        await breathe()
    assert 1 <= len(tries) <= 3
    await soon(beside.stop())


async def test_a_stop_drains_the_runner() -> None:
    work = Work()
    started, release = asyncio.Event(), asyncio.Event()

    async def act(_: int) -> None:
        started.set()
        await release.wait()

    work.deeds.act = act
    (record_id,) = await work.add(1)
    beside = EmbeddedRunner(Runner(work.jobs))
    beside.start()
    await soon(started.wait())
    stopping = asyncio.create_task(beside.stop())
    await breathe()
    assert not stopping.done()
    release.set()
    await soon(stopping)
    assert await work.states([record_id]) == ["completed"]
    await soon(beside.stop())


async def test_a_stop_gives_back_what_does_not_end_in_time() -> None:
    work = Work()
    started = asyncio.Event()

    async def act(_: int) -> None:
        started.set()
        await asyncio.Event().wait()

    work.deeds.act = act
    (record_id,) = await work.add(1)
    beside = EmbeddedRunner(Runner(work.jobs), drain="10ms")
    beside.start()
    await soon(started.wait())
    await soon(beside.stop())
    record = await work.job(record_id)
    assert (record.state, record.attempts_made) == ("queued", 0)


async def test_a_stop_that_is_cancelled_gives_back_what_the_runner_holds() -> None:
    """The server has lost its patience; the runner must not go on behind its back."""
    work = Work()
    started = asyncio.Event()

    async def act(_: int) -> None:
        started.set()
        await asyncio.Event().wait()

    work.deeds.act = act
    (record_id,) = await work.add(1)
    closed: list[bool] = []

    async def serve() -> None:
        try:
            async with embedded(work.jobs, runner=Runner(work.jobs), drain="1h"):
                await started.wait()
        finally:
            closed.append(work.driver.calls["close"] == 1)

    server = asyncio.create_task(serve())
    await soon(started.wait())
    await breathe()
    server.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(server)
    assert closed == [True], "the driver is closed all the same"
    stored = await work.driver.inner.get(record_id)
    assert stored is not None
    assert stored.state == "queued"


async def test_a_stop_right_after_the_start_runs_nothing() -> None:
    work = Work()
    await work.add(1)
    beside = EmbeddedRunner(Runner(work.jobs))
    beside.start()
    await soon(beside.stop())
    assert work.driver.calls["step"] == 0
    await soon(beside.stop())


async def test_a_stop_while_the_runner_has_fallen_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowli_core.embedded.pauses", lambda: iter([3600.0]))
    monkeypatch.setattr("flowli_core.embedded.LONGEST_PAUSE", 3600.0)

    def make() -> Deeds:
        raise BrokenError

    jobs = Duties(context=make, driver=Work().driver)
    beside = EmbeddedRunner(Runner(jobs))
    beside.start()
    await until(lambda: beside.health().restarts == 1)
    await soon(beside.stop())


async def test_an_application_starts_without_its_store(caplog: pytest.LogCaptureFixture) -> None:
    """Enqueueing says so until it is there; the runner goes on trying."""
    work = Work()
    work.driver.fail("open")
    async with embedded(work.jobs, runner=Runner(work.jobs)) as beside:
        assert beside is not None
        assert "the store is unreachable, starting without it" in caplog.text
        with pytest.raises(StoreUnavailable):
            await work.add(1)
        await until(lambda: beside.health().runner.last_error is not None)
        work.driver.mend()
        (record_id,) = await work.add(1)
        await work.until(record_id, "completed")
        assert beside.health().restarts == 0


async def test_a_runner_needs_a_driver_and_its_own_registry() -> None:
    work = Work()
    with pytest.raises(DefinitionError, match="another registry"):
        async with embedded(work.jobs, runner=Runner(work.registry())):
            pass
    without = Duties(context=Deeds())
    with pytest.raises(StrategyError, match="no driver"):
        async with embedded(without, runner=Runner(without)):
            pass


@pytest.mark.parametrize("ending", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
@pytest.mark.usefixtures("short_pauses")
async def test_what_would_end_a_process_only_ends_one_run(ending: BaseException) -> None:
    """A task that lets SystemExit out takes the event loop of the server with it."""
    work = Work()
    tries: list[int] = []

    def make() -> Deeds:
        tries.append(1)
        if len(tries) == 1:
            raise ending
        return work.deeds

    jobs = Duties(context=make, driver=work.driver)
    beside = EmbeddedRunner(Runner(jobs))
    beside.start()
    receipt = await jobs.act.enqueue(1)
    await work.until(receipt.id, "completed")
    assert beside.health().restarts == 1
    await soon(beside.stop())


@pytest.mark.usefixtures("short_pauses")
async def test_a_handler_that_raises_keyboard_interrupt_does_not_end_the_runner_for_good() -> None:
    work = Work()

    async def act(number: int) -> None:
        if number == 1:
            raise KeyboardInterrupt

    work.deeds.act = act
    async with embedded(work.jobs, runner=Runner(work.jobs)) as beside:
        assert beside is not None
        (first,) = await work.add(1)
        await until(lambda: beside.health().restarts == 1)
        last_error = beside.health().last_error
        assert last_error is not None
        assert "the application did not" in last_error
        (second,) = await work.add(2)
        await work.until(second, "completed")
        assert await work.states([first]) == ["failed"]


@pytest.mark.usefixtures("short_pauses")
async def test_the_time_since_the_last_reserve_outlives_a_restart() -> None:
    work = Work()

    async def act(_: int) -> None:
        raise KeyboardInterrupt

    def break_the_store(_: JobEvent) -> None:
        work.driver.fail("step")

    work.deeds.act = act
    runner = Runner(work.jobs, hooks=Hooks(on_job_failed=break_the_store))
    async with embedded(work.jobs, runner=runner) as beside:
        assert beside is not None
        await work.add(1)
        await until(lambda: beside.health().runner.since_reserve is None and beside.health().restarts == 1)
        assert beside.health().since_reserve is not None
        assert not beside.health().is_ready
        work.driver.mend()
        await until(lambda: beside.health().is_ready)


async def test_an_embedded_runner_is_started_once() -> None:
    work = Work()
    async with embedded(work.jobs, runner=Runner(work.jobs)) as beside:
        assert beside is not None
        with pytest.raises(StrategyError, match="is running already"):
            beside.start()
        with pytest.raises(StrategyError, match="is open already, in another lifespan of this process"):
            async with embedded(work.jobs, runner=Runner(work.jobs)):
                pass
        (record_id,) = await work.add(1)
        await work.until(record_id, "completed")


async def test_an_application_can_be_started_again() -> None:
    """With the same registry, whose driver and context are opened and closed each time."""
    work = Work()
    for _ in range(2):
        async with embedded(work.jobs, runner=Runner(work.jobs)):
            (record_id,) = await work.add(1)
            await work.until(record_id, "completed")
    assert (work.driver.calls["open"], work.driver.calls["close"]) == (2, 2)
