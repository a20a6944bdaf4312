"""The surroundings of a handler: its context variables, and the event loop as its thread sees it."""

from __future__ import annotations

import asyncio
import sys
from contextvars import ContextVar
from pathlib import Path

import anyio
import anyio.from_thread

from flowli_core import Hooks, JobEvent, Jobs, Runner, job
from flowli_core.drivers.memory import MemoryDriver
from tests.support.running import Work, running, soon, until

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


async def test_the_context_variables_of_whoever_started_the_runner_do_not_reach_the_jobs() -> None:
    work = Work()
    seen: list[str] = []

    async def act(_: int) -> None:
        seen.append(tenant.get())
        tenant.set("job")

    async def note(_: JobEvent) -> None:
        seen.append(tenant.get())

    def note_in_thread(_: JobEvent) -> None:
        seen.append(tenant.get())

    work.deeds.act = act
    work.deeds.toil = lambda _: seen.append(tenant.get())
    hooks = Hooks(on_job_started=note, on_job_completed=note_in_thread)
    tenant.set("request")
    await work.add(1, 2)
    await work.jobs.toil.enqueue(3)
    async with running(Runner(work.jobs, hooks=hooks)):
        await until(lambda: len(seen) == 9)
    assert set(seen) == {"nobody"}


async def test_jobs_see_the_context_variables_with_which_their_registry_was_made() -> None:
    """For example the precision of `decimal`, which an application sets when it is imported."""
    tenant.set("application")
    work = Work()
    seen: list[str] = []

    async def act(_: int) -> None:
        seen.append(tenant.get())

    work.deeds.act = act
    await work.add(1)
    await work.run()
    assert seen == ["application"]


async def double(number: int) -> int:
    return 2 * number


@job(int)
def call_back(input: int) -> int:
    """Call the event loop as a plain route of FastAPI may."""
    return anyio.from_thread.run(double, input) + anyio.from_thread.run_sync(abs, -input)


class CallingJobs(Jobs[None]):
    call_back = call_back


async def test_a_plain_handler_reaches_the_event_loop_with_anyio_in_a_worker_and_in_run() -> None:
    async with CallingJobs(context=None, driver=MemoryDriver()) as jobs:
        assert await soon(jobs.call_back.run(2)) == 6
        receipt = await jobs.call_back.enqueue(2)
        await soon(Runner(jobs).run_once())
        record = await jobs.call_back.get(receipt)
    assert record is not None
    assert record.result == 6


async def test_a_plain_handler_may_be_the_first_to_import_anyio(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(FIRST_IMPORT)
    child = await asyncio.create_subprocess_exec(sys.executable, str(program), stdout=asyncio.subprocess.PIPE)
    output, _ = await soon(child.communicate())
    assert (
        output
        == b"RunCounts(completed=1, failed=0, retried=0, released=0, cancelled=0, lost=0, recovered=0, expired=0)\n"
    )


FIRST_IMPORT = """
import asyncio, sys
from flowli_core import Jobs, Runner, job
from flowli_core.drivers.memory import MemoryDriver

@job()
def sleep() -> None:
    import anyio
    anyio.from_thread.run(asyncio.sleep, 0)

class AppJobs(Jobs[None]):
    sleep = sleep

async def main() -> None:
    async with AppJobs(context=None, driver=MemoryDriver()) as jobs:
        await jobs.sleep.enqueue()
        assert "anyio" not in sys.modules
        print(await Runner(jobs).run_once())
asyncio.run(main())
"""
