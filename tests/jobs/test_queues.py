"""The queues that a registry declares, and the calls that it refuses."""

from __future__ import annotations

from typing import Any, cast

import pytest

from flowli_core import Defaults, DefinitionError, Jobs, Runner, ValidationError, job
from flowli_core.drivers.memory import MemoryDriver


@job(int, queue="mail")
async def send(input: int) -> int:
    return input


class AppJobs(Jobs[None]):
    send = send
    queues = ("bulk", "mail")


def made() -> AppJobs:
    return AppJobs(context=None, driver=MemoryDriver(), defaults=Defaults(queue="common"))


def test_a_runner_serves_those_of_the_jobs_then_the_default_then_those_of_the_registry() -> None:
    assert Runner(made()).queues == ("mail", "common", "bulk")


@pytest.mark.parametrize("queue", ["mail", "common", "bulk"])
async def test_a_call_may_use_each_declared_queue(queue: str) -> None:
    jobs = made()
    assert await jobs.send.options(queue=queue).run(1) == 1
    await jobs.send.enqueue(2, queue=queue)
    assert (await Runner(jobs).run_once()).completed == 1


@pytest.mark.parametrize(
    ("queue", "cure"),
    [
        ("bulkk", r"AppJobs declares no queue 'bulkk'; did you mean 'bulk'\?"),
        ("nightly", r"AppJobs declares no queue 'nightly'; declare it in AppJobs: queues = \('nightly',\)"),
    ],
)
async def test_a_queue_that_is_not_declared_is_refused_at_the_call(queue: str, cure: str) -> None:
    jobs = made()
    for call in (
        lambda: jobs.send.options(queue=queue),
        lambda: jobs.send.enqueue(1, queue=queue),
        lambda: jobs.send.delay("1s", 1, queue=queue),
        lambda: jobs.send.enqueue_many([1], queue=queue),
    ):
        with pytest.raises(ValidationError, match=cure):
            await cast("Any", call())
    assert not (await jobs.inspect.get_queue_counts()).by_queue


async def test_a_schedule_in_a_queue_that_is_not_declared_is_refused() -> None:
    with pytest.raises(ValidationError, match="declares no queue"):
        await made().send.options(queue="nightly").schedule(every="1h", input=1)


@pytest.mark.parametrize("given", ["bulk", None, 3, ("a b",), [3], {"bulk"}])
def test_queues_that_are_no_list_of_names_are_refused_with_the_class(given: object) -> None:
    with pytest.raises(DefinitionError, match=r"Other\.queues must be|Other\.queues"):
        type("Other", (Jobs,), {"send": send, "queues": given})
