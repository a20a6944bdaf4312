"""The commands of an operator on a store that has more queues than a person can read."""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING

import pytest

from flowli_core._wire.about import pack_about
from tests.conformance.builders import record, step

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.operated import Output

ALL = pack_about(("mail", "default"), ["send_email", "nightly"])


@pytest.fixture
def filled(flowli: Callable[..., Output]) -> Callable[..., Output]:
    """Run commands on a store with two jobs in a queue, one in each of 119 others, and a worker that serves none."""
    flowli("status")
    driver = importlib.import_module("operated").driver()

    async def fill() -> None:
        await driver.open()
        await driver.enqueue([record(queue=f"tenant-{number}") for number in [*range(120), 7]])
        await driver.step(step("there:1:ab", queues=("mail", "default"), about=ALL))
        await driver.close()

    asyncio.run(fill())
    return flowli


def test_check_and_doctor_name_ten_queues_and_count_the_others(filled: Callable[..., Output]) -> None:
    """The queues with the most waiting jobs come first."""
    first, *more, last = filled("check").err.splitlines()
    assert first == "2 jobs wait in the queue tenant-7, which no worker serves"
    assert len(more) == 9
    assert last == "other queues with waiting jobs that no worker serves: 110 (110 waiting)"
    assert last in filled("doctor").out


def test_status_lists_a_hundred_queues_and_adds_up_the_others(filled: Callable[..., Output]) -> None:
    """Programs get them all."""
    output = filled("status")
    rows = [line.split("\t") for line in output.lines if line.startswith(("tenant-", "(", "all"))]
    assert len(rows) == 102
    assert [row[:2] for row in rows[-2:]] == [["(20 others)", "20"], ["all", "121"]]
    assert ["tenant-7", "2"] in [row[:2] for row in rows]
    assert "other queues: 110 (110 waiting)" in output.out
    assert len(filled("status", "--json").json["counts"]["by_queue"]) == 120
