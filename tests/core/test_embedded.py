"""The embedded runner: restarted if it fails, stopped before the application ends."""

import asyncio

import pytest

from flowli_core import DefinitionError, Hooks, JobEvent, Runner, StoreUnavailable, StrategyError
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.embedded import EmbeddedRunner, embedded
from tests.support.counting import CountingDriver
from tests.support.running import Deeds, Duties, Hold, Work, breathe, soon, until
from tests.support.store import find


class BrokenError(Exception):
    pass


class UnclosableDriver(MemoryDriver):
    def __repr__(self) -> str:
        return "UnclosableDriver()"

    async def close(self) -> None:
        await asyncio.Event().wait()


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pause before a restart."""
    monkeypatch.setattr("flowli_core.embedded.LONGEST_PAUSE", 0.001)


async def test_an_embedded_runner_runs_jobs_inside_the_application() -> None:
    work = Work()
    async with embedded(work.jobs, runner=Runner(work.jobs)) as embedded_runner:
        assert embedded_runner is not None
        (record_id,) = await work.add(1)
        await work.until(record_id, "completed")
        health = embedded_runner.health()
        assert health.runner.is_running
        assert (health.restarts, health.last_error) == (0, None)
    assert not embedded_runner.health().runner.is_running
    with pytest.raises(StrategyError, match="closed"):
        await work.add(1)


async def test_an_application_may_only_enqueue() -> None:
    work = Work()
    async with embedded(work.jobs, runner=None) as embedded_runner:
        assert embedded_runner is None
        await work.add(1)


@pytest.mark.usefixtures("short_pauses")
async def test_a_runner_that_fails_is_restarted(caplog: pytest.LogCaptureFixture) -> None:
    work = Work()
    tries: list[int] = []

    def make() -> Deeds:
        tries.append(1)
        if len(tries) < 4:
            raise BrokenError("no database")
        return work.deeds

    jobs = Duties(context=make, driver=work.driver)
    embedded_runner = EmbeddedRunner(Runner(jobs))
    embedded_runner.start()
    await until(lambda: embedded_runner.health().runner.is_running and len(tries) == 4)
    health = embedded_runner.health()
    assert (health.restarts, health.last_error) == (3, "BrokenError: no database")
    assert caplog.text.count("the embedded runner failed and will be restarted") == 3
    receipt = await jobs.act.enqueue(1)
    await work.until(receipt.id, "completed")
    await soon(embedded_runner.stop())
    assert not embedded_runner.health().runner.is_running


async def test_a_runner_that_keeps_failing_is_restarted_after_a_pause() -> None:
    tries: list[int] = []

    def make() -> Deeds:
        tries.append(1)
        raise BrokenError

    jobs = Duties(context=make, driver=Work().driver)
    embedded_runner = EmbeddedRunner(Runner(jobs))
    embedded_runner.start()
    for _ in range(50):
        await breathe()
    assert 1 <= len(tries) <= 3
    await soon(embedded_runner.stop())


async def test_a_stop_drains_the_runner() -> None:
    work = Work()
    hold = work.deeds.act = Hold()
    (record_id,) = await work.add(1)
    embedded_runner = EmbeddedRunner(Runner(work.jobs))
    embedded_runner.start()
    await soon(hold.started.wait())
    stopping = asyncio.create_task(embedded_runner.stop())
    await breathe()
    assert not stopping.done()
    hold.release.set()
    await soon(stopping)
    assert await work.states([record_id]) == ["completed"]
    await soon(embedded_runner.stop())


async def test_a_job_that_exceeds_the_drain_returns_to_the_queue() -> None:
    work = Work()
    hold = work.deeds.act = Hold()
    (record_id,) = await work.add(1)
    embedded_runner = EmbeddedRunner(Runner(work.jobs), drain="10ms")
    embedded_runner.start()
    await soon(hold.started.wait())
    await soon(embedded_runner.stop())
    record = await work.job(record_id)
    assert (record.state, record.attempts_made) == ("queued", 0)


async def test_a_cancelled_stop_returns_the_jobs_to_the_queue() -> None:
    """The server ends the lifespan early. The runner must not continue after it."""
    work = Work()
    hold = work.deeds.act = Hold()
    (record_id,) = await work.add(1)
    closed: list[bool] = []

    async def serve() -> None:
        try:
            async with embedded(work.jobs, runner=Runner(work.jobs), drain="1h"):
                await hold.started.wait()
        finally:
            closed.append(work.driver.calls["close"] == 1)

    server = asyncio.create_task(serve())
    await soon(hold.started.wait())
    await breathe()
    server.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(server)
    assert closed == [True], "the driver is closed too"
    stored = await find(work.driver.inner, record_id)
    assert stored is not None
    assert stored.state == "queued"


async def test_a_stop_right_after_the_start_runs_nothing() -> None:
    work = Work()
    await work.add(1)
    embedded_runner = EmbeddedRunner(Runner(work.jobs))
    embedded_runner.start()
    await soon(embedded_runner.stop())
    assert work.driver.calls["step"] == 0
    await soon(embedded_runner.stop())


async def test_a_stop_before_a_restart_ends_the_supervision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowli_core.embedded.pauses", lambda: iter([3600.0]))
    monkeypatch.setattr("flowli_core.embedded.LONGEST_PAUSE", 3600.0)

    def make() -> Deeds:
        raise BrokenError

    jobs = Duties(context=make, driver=Work().driver)
    embedded_runner = EmbeddedRunner(Runner(jobs))
    embedded_runner.start()
    await until(lambda: embedded_runner.health().restarts == 1)
    await soon(embedded_runner.stop())


async def test_an_application_starts_without_its_store(caplog: pytest.LogCaptureFixture) -> None:
    """Enqueueing raises until the store answers, and the runner retries."""
    work = Work()
    work.driver.fail("open")
    async with embedded(work.jobs, runner=Runner(work.jobs)) as embedded_runner:
        assert embedded_runner is not None
        assert "the store is unreachable, starting without it" in caplog.text
        with pytest.raises(StoreUnavailable):
            await work.add(1)
        await until(lambda: embedded_runner.health().runner.last_error is not None)
        work.driver.mend()
        (record_id,) = await work.add(1)
        await work.until(record_id, "completed")
        assert embedded_runner.health().restarts == 0


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
async def test_an_error_that_would_end_a_process_ends_only_one_run(ending: BaseException) -> None:
    """A task that raises SystemExit would end the event loop of the server."""
    work = Work()
    tries: list[int] = []

    def make() -> Deeds:
        tries.append(1)
        if len(tries) == 1:
            raise ending
        return work.deeds

    jobs = Duties(context=make, driver=work.driver)
    embedded_runner = EmbeddedRunner(Runner(jobs))
    embedded_runner.start()
    receipt = await jobs.act.enqueue(1)
    await work.until(receipt.id, "completed")
    assert embedded_runner.health().restarts == 1
    await soon(embedded_runner.stop())


@pytest.mark.usefixtures("short_pauses")
async def test_a_runner_is_restarted_after_a_handler_raised_keyboard_interrupt() -> None:
    work = Work()

    async def act(number: int) -> None:
        if number == 1:
            raise KeyboardInterrupt

    work.deeds.act = act
    async with embedded(work.jobs, runner=Runner(work.jobs)) as embedded_runner:
        assert embedded_runner is not None
        (first,) = await work.add(1)
        await until(lambda: embedded_runner.health().restarts == 1)
        last_error = embedded_runner.health().last_error
        assert last_error is not None
        assert "the application did not" in last_error
        (second,) = await work.add(2)
        await work.until(second, "completed")
        assert await work.states([first]) == ["failed"]


@pytest.mark.usefixtures("short_pauses")
async def test_the_time_since_the_last_answer_survives_a_restart() -> None:
    work = Work()

    async def act(_: int) -> None:
        raise KeyboardInterrupt

    def break_the_store(_: JobEvent) -> None:
        work.driver.fail("step")

    work.deeds.act = act
    runner = Runner(work.jobs, hooks=Hooks(on_job_failed=break_the_store))
    async with embedded(work.jobs, runner=runner) as embedded_runner:
        assert embedded_runner is not None
        await work.add(1)
        await until(
            lambda: embedded_runner.health().runner.since_reserve is None and embedded_runner.health().restarts == 1
        )
        assert embedded_runner.health().since_reserve is not None
        assert not embedded_runner.health().is_ready
        work.driver.mend()
        await until(lambda: embedded_runner.health().is_ready)


async def test_an_embedded_runner_is_started_once() -> None:
    work = Work()
    async with embedded(work.jobs, runner=Runner(work.jobs)) as embedded_runner:
        assert embedded_runner is not None
        with pytest.raises(StrategyError, match="is running already"):
            embedded_runner.start()
        with pytest.raises(StrategyError, match="is open already, in another lifespan of this process"):
            async with embedded(work.jobs, runner=Runner(work.jobs)):
                pass
        (record_id,) = await work.add(1)
        await work.until(record_id, "completed")


async def test_an_application_can_be_started_again() -> None:
    """The driver and the context of its registry are opened and closed each time."""
    work = Work()
    for _ in range(2):
        async with embedded(work.jobs, runner=Runner(work.jobs)):
            (record_id,) = await work.add(1)
            await work.until(record_id, "completed")
    assert (work.driver.calls["open"], work.driver.calls["close"]) == (2, 2)


class Hanging:
    """A context that does not close by itself."""

    def __init__(self) -> None:
        self.cancelled_in: asyncio.Task[object] | None = None

    async def __aenter__(self) -> Deeds:
        return Deeds()

    async def __aexit__(self, *_: object) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled_in = asyncio.current_task()
            raise


@pytest.mark.parametrize("runners", [0, 1])
async def test_a_context_that_does_not_close_does_not_keep_the_application(
    runners: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowli_core.embedded.CLOSE_WITHIN", 0.02)
    hanging, driver = Hanging(), CountingDriver()

    def make_mailer() -> Hanging:
        return hanging

    jobs = Duties(context=make_mailer, driver=driver)
    async with embedded(jobs, runner=Runner(jobs) if runners else None):
        pass
    assert "make_mailer did not close within 0.02s, and was cancelled" in caplog.text
    assert hanging.cancelled_in is asyncio.current_task()
    assert driver.calls["close"] == 1


async def test_a_driver_that_does_not_close_is_named(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowli_core.embedded.CLOSE_WITHIN", 0.02)
    jobs = Duties(context=Deeds(), driver=UnclosableDriver())
    async with embedded(jobs, runner=None):
        pass
    assert "the driver UnclosableDriver() did not close within 0.02s, and was cancelled" in caplog.text


async def test_a_timeout_that_the_context_itself_raises_is_not_hidden() -> None:
    class Slow(Hanging):
        async def __aexit__(self, *_: object) -> None:
            raise TimeoutError("the pool")

    jobs = Duties(context=Slow, driver=MemoryDriver())
    with pytest.raises(TimeoutError, match="the pool"):
        async with embedded(jobs, runner=None):
            pass
