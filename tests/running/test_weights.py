"""A runner shares its slots among queues by their weights."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest

from flowli_core import DefinitionError, Jobs, RunCounts, Runner, job
from flowli_core._running.queue_order import QueueOrder
from flowli_core.drivers.memory import MemoryDriver

if TYPE_CHECKING:
    from collections.abc import Iterator

ran: list[str] = []


@job(str)
async def note(input: str) -> None:
    ran.append(input)


class AppJobs(Jobs[None]):
    note = note
    queues = ("mail", "bulk", "slow")


@pytest.fixture
def jobs() -> Iterator[AppJobs]:
    ran.clear()
    yield AppJobs(context=None, driver=MemoryDriver())
    ran.clear()


async def fill(jobs: AppJobs, count: int, *queues: str) -> None:
    for queue in queues:
        await jobs.note.enqueue_many([queue] * count, queue=queue)


async def test_queues_that_always_have_jobs_share_the_runner_by_their_weights(jobs: AppJobs) -> None:
    await fill(jobs, 400, "mail", "bulk", "slow")
    assert await Runner(jobs, concurrency=5, queues={"mail": 3, "bulk": 1, "slow": 1}).run_once() == RunCounts(
        completed=1200
    )
    shares = Counter(ran[:300])
    assert abs(shares["mail"] - 180) <= 10
    assert abs(shares["bulk"] - 60) <= 10
    assert abs(shares["slow"] - 60) <= 10


async def test_an_empty_queue_leaves_its_share_to_the_others(jobs: AppJobs) -> None:
    await fill(jobs, 50, "bulk")
    assert await Runner(jobs, queues={"mail": 100, "bulk": 1}).run_once() == RunCounts(completed=50)


async def test_a_list_of_queues_is_served_in_its_order(jobs: AppJobs) -> None:
    await fill(jobs, 20, "bulk", "mail")
    await Runner(jobs, concurrency=3, queues=["mail", "bulk"]).run_once()
    assert ran == ["mail"] * 20 + ["bulk"] * 20


def test_a_queue_that_was_empty_gets_no_more_than_its_share_afterwards() -> None:
    order = QueueOrder(("mail", "bulk"), {"mail": 1, "bulk": 1})
    for _ in range(1000):
        order.note(["mail"])
    firsts: list[str] = []
    for _ in range(10):
        firsts.append(order.next()[0])
        order.note(firsts[-1:])
    assert Counter(firsts) == {"mail": 5, "bulk": 5}


def test_a_strict_order_stays_whatever_was_served() -> None:
    order = QueueOrder(("mail", "bulk"))
    order.note(["mail"] * 10)
    assert order.next() == ("mail", "bulk")


@pytest.mark.parametrize("weight", [0, 101, -1, 1.5, "3", True, None])
def test_a_weight_must_be_a_whole_number_from_1_to_100(jobs: AppJobs, weight: Any) -> None:
    with pytest.raises(DefinitionError, match="the weight of bulk"):
        Runner(jobs, queues={"mail": 1, "bulk": weight})


def test_at_least_one_queue_must_have_a_weight(jobs: AppJobs) -> None:
    with pytest.raises(DefinitionError, match="or a dict of weights"):
        Runner(jobs, queues={})


def test_a_dict_keeps_the_order_of_its_queues(jobs: AppJobs) -> None:
    assert list(islice(Runner(jobs, queues={"mail": 1, "bulk": 2}).queues, 2)) == ["mail", "bulk"]
