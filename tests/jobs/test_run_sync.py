"""`run_sync`: calls from code that is not async, in any thread."""

import asyncio
import gc
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
import weakref
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from flowli_core import (
    DefinitionError,
    Jobs,
    Runner,
    StrategyError,
    ValidationError,
    current_job,
    job,
    per_job,
    run_sync,
)
from flowli_core.driver import Driver
from flowli_core.drivers.memory import MemoryDriver
from tests.redis.server import clean_up, fresh_prefix, shared_url
from tests.support.running import PATIENCE, running, soon
from tests.support.stores import STORES, driver_of

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")

Loop = asyncio.AbstractEventLoop


@job(int)
async def double(input: int) -> int:
    return 2 * input


@job()
async def whose() -> str:
    return tenant.get()


@job(int)
def fan_out(input: int) -> int:
    """Enqueue from a plain handler."""
    receipts = [run_sync(AppJobs.current().double.enqueue(number)) for number in range(input)]
    return len({receipt.id for receipt in receipts})


@job()
async def opened_here(ctx: Loop) -> bool:
    return ctx is asyncio.get_running_loop()


@job(str)
async def fail(input: str) -> None:
    raise {"exit": SystemExit, "stop": KeyboardInterrupt, "cancel": asyncio.CancelledError}[input]("asked to")


@job()
async def who() -> str:
    return current_job().name


class AppJobs(Jobs[Loop]):
    double = double
    whose = whose
    fan_out = fan_out
    opened_here = opened_here
    fail = fail
    who = who


async def here() -> Loop:
    return asyncio.get_running_loop()


@pytest.fixture(params=STORES)
def driver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Driver]:
    with driver_of(request.param, tmp_path) as made:
        yield made


@pytest.fixture
def jobs() -> AppJobs:
    return AppJobs(context=here, driver=MemoryDriver())


def run(program: str) -> subprocess.CompletedProcess[str]:
    """Run a script."""
    command = [sys.executable, "-c", textwrap.dedent(program)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


# A script


def test_a_script_enqueues_without_an_event_loop(driver: Driver) -> None:
    jobs = AppJobs(context=here, driver=driver)
    receipt = run_sync(jobs.double.enqueue(21))
    run_sync(Runner(jobs).run_once())
    record = run_sync(jobs.double.get(receipt))
    run_sync(jobs.aclose())
    assert record is not None
    assert record.result == 42


def test_a_call_raises_its_own_error(jobs: AppJobs) -> None:
    wrong: Any = "twenty"
    with pytest.raises(ValidationError, match="double: input is not valid"):
        run_sync(jobs.double.enqueue(wrong))
    run_sync(jobs.aclose())
    with pytest.raises(StrategyError, match="this registry is closed"):
        run_sync(jobs.double.enqueue(1))


@pytest.mark.parametrize(
    ("kind", "error"), [("exit", SystemExit), ("stop", KeyboardInterrupt), ("cancel", asyncio.CancelledError)]
)
def test_an_error_that_ends_an_event_loop_ends_only_the_call(
    jobs: AppJobs, kind: str, error: type[BaseException]
) -> None:
    with pytest.raises(error, match="asked to"):
        run_sync(jobs.fail.run(kind))
    assert run_sync(jobs.double.run(1)) == 2


def test_an_error_leaves_nothing_for_the_garbage_collector() -> None:
    class Refusal(Exception): ...

    async def refuse() -> None:
        raise Refusal

    def call() -> weakref.ref[Refusal]:
        try:
            run_sync(refuse())
        except Refusal as error:
            return weakref.ref(error)
        raise AssertionError

    gc.disable()
    try:
        assert call()() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("store", ["sqlite", pytest.param("redis", marks=pytest.mark.faults)])
def test_a_script_that_closes_nothing_ends_without_a_warning(store: str, tmp_path: Path) -> None:
    drivers = {
        "sqlite": f"SqliteDriver({str(tmp_path / 'jobs.db')!r})",
        "redis": f"RedisDriver.from_url({shared_url()!r}, prefix={fresh_prefix()!r})",
    }
    program = f"""
        from flowli_core import Jobs, job, run_sync
        from flowli_core.drivers.redis import RedisDriver
        from flowli_core.drivers.sqlite import SqliteDriver

        @job(str)
        async def greet(input: str) -> None: ...

        class AppJobs(Jobs[None]):
            greet = greet

        jobs = AppJobs(context=None, driver={drivers[store]})
        print(len([run_sync(jobs.greet.enqueue("Ada")) for _ in range(3)]))
    """
    done = run(program)
    clean_up()
    assert (done.returncode, done.stdout, done.stderr) == (0, "3\n", "")


HANGING = """
    import asyncio, contextlib, threading, time
    from flowli_core import run_sync

    async def hang():
        try:
            await asyncio.sleep(3600)
        finally:
            print("cancelled", flush=True)
            time.sleep({blocked})

    def call():
        with contextlib.suppress(asyncio.CancelledError):
            run_sync(hang())

    threading.Thread(target=call, daemon=True).start()
    time.sleep(0.05)
"""


@pytest.mark.parametrize("blocked", [0, pytest.param(3600, marks=pytest.mark.faults)])
def test_a_call_that_never_returns_does_not_keep_the_process_alive(blocked: int) -> None:
    done = run(HANGING.format(blocked=blocked))
    assert (done.returncode, done.stdout, done.stderr) == (0, "cancelled\n", "")


def test_a_function_that_runs_at_exit_may_call() -> None:
    done = run("""
        import asyncio, atexit
        from flowli_core import run_sync

        run_sync(asyncio.sleep(0))
        atexit.register(lambda: print(run_sync(asyncio.sleep(0, "at exit"))))
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "at exit\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="it has no fork")
def test_a_forked_process_has_an_event_loop_of_its_own() -> None:
    done = run("""
        import asyncio, os
        from flowli_core import run_sync

        async def numbers():
            return os.getpid()

        assert run_sync(numbers()) == os.getpid()
        child = os.fork()
        if child == 0:
            os._exit(0 if run_sync(numbers(), timeout="10s") == os.getpid() else 1)
        _, status = os.waitpid(child, 0)
        assert run_sync(numbers(), timeout="10s") == os.getpid()
        print(status)
    """)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


# The end of a wait


class Endless:
    """A call that never returns, and that records its cancellation."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.cancelled = threading.Event()

    async def __call__(self) -> None:
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


def test_a_timeout_cancels_the_call() -> None:
    endless = Endless()
    with pytest.raises(TimeoutError, match="the call did not return within 20ms, and was cancelled"):
        run_sync(endless(), timeout="20ms")
    assert endless.cancelled.wait(PATIENCE)


def test_a_call_that_is_cancelled_before_it_begins_never_runs() -> None:
    began = threading.Event()

    async def block() -> None:
        began.set()
        time.sleep(0.1)  # noqa: ASYNC251 - no other call can begin meanwhile

    async def never() -> None:
        raise AssertionError

    blocking = threading.Thread(target=lambda: run_sync(block()))
    blocking.start()
    began.wait(PATIENCE)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(TimeoutError, match="did not return within 1ms"):
            run_sync(never(), timeout="1ms")
        blocking.join(PATIENCE)
        run_sync(asyncio.sleep(0))
        gc.collect()
    assert caught == []


def test_a_timeout_of_the_call_itself_is_its_error() -> None:
    async def slow() -> None:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError) as caught:
        run_sync(slow(), timeout="1h")
    assert "did not return within" not in str(caught.value)


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such signal")
def test_an_interrupt_cancels_the_call() -> None:
    endless = Endless()

    def interrupt() -> None:
        endless.started.wait(PATIENCE)
        os.kill(os.getpid(), signal.SIGUSR1)
        while not endless.cancelled.wait(5):  # Python misses a signal that comes just before a thread begins to wait.
            os.kill(os.getpid(), signal.SIGUSR1)

    earlier = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    try:
        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            run_sync(endless())
    finally:
        signal.signal(signal.SIGUSR1, earlier)
    assert endless.cancelled.wait(PATIENCE)


@pytest.mark.parametrize("timeout", [5, "soon", "0s"])
def test_an_invalid_timeout_is_refused_before_the_call(jobs: AppJobs, timeout: Any) -> None:
    with pytest.raises(DefinitionError, match="timeout"):
        run_sync(jobs.double.enqueue(1), timeout=timeout)
    assert run_sync(jobs.inspect.get_overview()).counts.queued == 0


# Wrong uses


async def test_a_thread_with_a_running_event_loop_is_refused_with_the_cure(jobs: AppJobs) -> None:
    with pytest.raises(StrategyError, match="write `await` instead"):
        run_sync(jobs.double.enqueue(1))
    assert (await jobs.inspect.get_overview()).counts.queued == 0


def test_a_call_may_not_wait_for_another_on_the_same_event_loop() -> None:
    async def nested() -> None:
        run_sync(asyncio.sleep(0))

    with pytest.raises(StrategyError, match="write `await` instead"):
        run_sync(nested())


def test_a_call_that_was_not_made_is_refused_with_the_cure(jobs: AppJobs) -> None:
    given: Any = jobs.double.enqueue
    with pytest.raises(StrategyError, match=re.escape("run_sync(jobs.send_email.enqueue(...)), got method")):
        run_sync(given)


# Context variables


def test_a_call_sees_the_context_variables_of_its_caller(jobs: AppJobs) -> None:
    token = tenant.set("acme")
    try:
        assert run_sync(jobs.whose.run()) == "acme"
    finally:
        tenant.reset(token)
    assert run_sync(jobs.whose.run()) == "nobody"


# Threads


def in_threads(call: Callable[[int], object], *, threads: int) -> list[Any]:
    """Make a call in several threads at once, and return the results."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(call, range(threads), timeout=PATIENCE))


def enqueue_from_threads(jobs: AppJobs, *, threads: int, calls: int) -> int:
    """Enqueue from threads, and return how many records are stored. Fails if a receipt is wrong."""
    ids = in_threads(lambda _: {run_sync(jobs.double.enqueue(1)).id for _ in range(calls)}, threads=threads)
    assert len(set[str]().union(*ids)) == threads * calls
    return run_sync(jobs.inspect.get_overview()).counts.queued


def test_threads_call_at_once(driver: Driver) -> None:
    jobs = AppJobs(context=here, driver=driver)
    assert enqueue_from_threads(jobs, threads=8, calls=5) == 40
    run_sync(jobs.aclose())


@pytest.mark.faults
def test_many_threads_make_many_calls(driver: Driver) -> None:
    jobs = AppJobs(context=here, driver=driver)
    started = time.perf_counter()
    assert enqueue_from_threads(jobs, threads=100, calls=20) == 2_000
    took = time.perf_counter() - started
    run_sync(jobs.aclose())
    print(f"{driver}: 100 threads made 20 calls each in {took:.2f} s")  # noqa: T201


def test_all_threads_use_one_event_loop() -> None:
    assert len(set(in_threads(lambda _: run_sync(here()), threads=8))) == 1


# A registry that is open on another event loop


async def test_a_plain_handler_calls_the_registry_that_runs_it(driver: Driver) -> None:
    async with AppJobs(context=here, driver=driver) as jobs:
        receipt = await jobs.fan_out.enqueue(3)
        await soon(Runner(jobs).run_once())
        record = await jobs.fan_out.get(receipt)
        assert record is not None
        assert record.result == 3
        assert await jobs.fan_out.run(2) == 2
        assert (await jobs.inspect.get_overview()).counts.queued == 2


async def test_a_thread_calls_while_the_worker_runs_on_the_main_event_loop(driver: Driver) -> None:
    async with AppJobs(context=here, driver=driver) as jobs, running(Runner(jobs)):

        def enqueue_and_wait() -> object:
            receipt = run_sync(jobs.double.enqueue(21))
            while (record := run_sync(jobs.double.get(receipt))) is None or record.state != "completed":
                time.sleep(0.005)
            return record.result

        assert await soon(asyncio.to_thread(enqueue_and_wait)) == 42


async def test_run_calls_the_handler_on_the_event_loop_that_opened_the_context(tmp_path: Path) -> None:
    @asynccontextmanager
    async def enter() -> AsyncGenerator[Loop]:
        yield asyncio.get_running_loop()

    loop = asyncio.get_running_loop()
    for context in (here, per_job(lambda: loop), enter):
        async with AppJobs(context=context) as jobs:
            assert await asyncio.to_thread(lambda: run_sync(jobs.opened_here.run()))


async def test_an_error_of_a_handler_on_another_event_loop_reaches_the_caller() -> None:
    async with AppJobs(context=here) as jobs:
        for kind, error in (("exit", SystemExit), ("stop", KeyboardInterrupt)):

            def call(kind: str = kind, error: type[BaseException] = error) -> None:
                with pytest.raises(error, match="asked to"):
                    run_sync(jobs.fail.run(kind))

            await asyncio.to_thread(call)
        assert await asyncio.to_thread(lambda: run_sync(jobs.who.run())) == "who"


def test_a_context_whose_event_loop_has_ended_is_used_on_the_one_of_run_sync() -> None:
    async def make() -> AppJobs:
        jobs = AppJobs(context=here)
        await jobs.double.run(1)
        return jobs

    jobs = asyncio.run(make())
    assert run_sync(jobs.double.run(2)) == 4
    run_sync(jobs.aclose())
