"""enqueue_many stores all inputs, or names the one that is invalid."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest
from pydantic import BaseModel

from flowli_core import Issue, Jobs, ValidationError, job
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import drain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Email(BaseModel):
    to: str
    copies: int = 1


@job(Email)
async def send(input: Email) -> str:
    return input.to


@job(str)
async def say(input: str) -> str:
    return input


class AppJobs(Jobs[None]):
    send = send
    say = say


@pytest.fixture
async def jobs() -> AsyncIterator[AppJobs]:
    async with AppJobs(context=None, driver=MemoryDriver()) as made:
        yield made


async def test_receipts_are_in_the_order_of_the_inputs(jobs: AppJobs) -> None:
    receipts = await jobs.send.enqueue_many(Email(to=f"{number}@example.com") for number in range(2_500))
    await drain(jobs, concurrency=100)
    records = [await jobs.inspect.get_job(receipt.id) for receipt in receipts[-500:]]
    assert [record and record.result for record in records] == [
        f"{number}@example.com" for number in range(2_000, 2_500)
    ]


async def test_the_error_names_the_position_of_the_invalid_input_and_nothing_is_stored(jobs: AppJobs) -> None:
    bad = cast("Any", {"to": "b@example.com", "copies": "many"})
    with pytest.raises(ValidationError, match=r"inputs\[1\]: send: input is not valid: copies") as caught:
        await jobs.send.enqueue_many([Email(to="a@example.com"), bad])
    assert [issue.path for issue in caught.value.issues] == ["[1].copies"]
    assert isinstance(caught.value.issues[0], Issue)
    assert (await jobs.inspect.get_queue_counts()).queued == 0


@pytest.mark.parametrize("inputs", [Email(to="a@example.com"), {"to": "a"}, "abc", None, 5])
async def test_a_single_input_is_refused(jobs: AppJobs, inputs: Any) -> None:
    for bound in (jobs.send, jobs.say):
        with pytest.raises(ValidationError, match="inputs must be a list of inputs, got"):
            await bound.enqueue_many(inputs)


async def test_an_empty_list_is_accepted(jobs: AppJobs) -> None:
    assert await jobs.send.enqueue_many([]) == ()


async def test_other_tasks_run_while_many_inputs_are_stored() -> None:
    async with AppJobs(context=None, driver=MemoryDriver()) as jobs:
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        counting = asyncio.create_task(count_turns())
        await jobs.say.enqueue_many(["a"] * 2_500)
        counting.cancel()
    assert turns >= 16  # 9 while they are checked, and 9 while they are stored, less those for opening
