"""`AppJobs.current()`: the registry whose job is running, for handlers that call other jobs."""

import asyncio
import re

import pytest

from flowli_core import Jobs, Runner, StrategyError, job
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import drain
from tests.support.running import soon


@job(str)
async def greet(input: str, ctx: list[str]) -> None:
    ctx.append(input)


@job(str)
async def greet_later(input: str) -> str:
    return (await AppJobs.current().greet.enqueue(input)).id


@job()
def in_thread(ctx: list[str]) -> str:
    AppJobs.current()
    return type(Jobs[list[str]].current()).__name__


@job()
async def run_other() -> tuple[str, str]:
    inner = await OtherJobs(context=["inner"]).whose.run()
    return inner, type(Jobs[list[str]].current()).__name__


@job()
async def whose() -> str:
    return type(Jobs[list[str]].current()).__name__


@job()
async def ask_for_app() -> None:
    AppJobs.current()


class AppJobs(Jobs[list[str]]):
    greet = greet
    greet_later = greet_later
    in_thread = in_thread
    run_other = run_other


class LargerJobs(AppJobs):
    whose = whose


class OtherJobs(Jobs[list[str]]):
    whose = whose
    ask_for_app = ask_for_app


async def test_a_handler_enqueues_on_the_registry_that_runs_it() -> None:
    said: list[list[str]] = [[], []]
    for words in said:
        async with AppJobs(context=words, driver=MemoryDriver()) as jobs:
            await jobs.greet_later.enqueue("from the worker")
            await jobs.greet_later.run("from run")
            await drain(jobs)
    assert [sorted(words) for words in said] == [["from run", "from the worker"]] * 2


async def test_a_handler_in_a_thread_has_it_too() -> None:
    async with AppJobs(context=[], driver=MemoryDriver()) as jobs:
        receipt = await jobs.in_thread.enqueue()
        await drain(jobs)
        record = await jobs.in_thread.get(receipt)
        assert record is not None
        assert record.result == await jobs.in_thread.run() == "AppJobs"


async def test_two_registries_that_run_at_once_each_have_their_own() -> None:
    first, second = LargerJobs(context=[], driver=MemoryDriver()), OtherJobs(context=[], driver=MemoryDriver())
    receipts = await first.whose.enqueue(), await second.whose.enqueue()
    await soon(asyncio.gather(Runner(first).run_once(), Runner(second).run_once()))
    records = await first.whose.get(receipts[0]), await second.whose.get(receipts[1])
    assert [record and record.result for record in records] == ["LargerJobs", "OtherJobs"]


async def test_a_job_that_runs_one_of_another_registry_has_its_own_again_afterwards() -> None:
    assert await AppJobs(context=[]).run_other.run() == ("OtherJobs", "AppJobs")


async def test_a_base_class_finds_the_registry_of_a_subclass() -> None:
    words: list[str] = []
    async with LargerJobs(context=words, driver=MemoryDriver()) as jobs:
        await jobs.greet_later.run("hello")
        await drain(jobs)
    assert words == ["hello"]


def test_outside_of_a_job_there_is_none() -> None:
    with pytest.raises(StrategyError, match=re.escape("AppJobs.current() was called outside of a job")):
        AppJobs.current()


async def test_the_registry_of_another_class_is_refused_by_name() -> None:
    with pytest.raises(StrategyError, match=re.escape("AppJobs.current(): the running job belongs to OtherJobs")):
        await OtherJobs(context=[]).ask_for_app.run()
