"""Jobs that were renamed: `@job(name=..., aliases=...)` runs what was stored under an earlier name."""

from __future__ import annotations

from typing import Any

import pytest

from flowli_core import DefinitionError, Jobs, RunCounts, Runner, ValidationError, current_job, job
from flowli_core.drivers.memory import MemoryDriver

ran: list[tuple[str, int]] = []


@job(int)
async def send_mail(input: int) -> int:
    return input


@job(int, aliases=["send_mail", "mail"])
async def send_email(input: int) -> int:
    ran.append((current_job().name, input))
    return input


class Before(Jobs[None]):
    send_mail = send_mail


class After(Jobs[None]):
    send_email = send_email


@pytest.fixture(autouse=True)
def clean() -> None:
    ran.clear()


async def test_a_renamed_job_runs_what_was_stored_under_its_earlier_name() -> None:
    driver = MemoryDriver()
    receipt = await Before(context=None, driver=driver).send_mail.enqueue(7)
    after = After(context=None, driver=driver)
    await after.send_email.enqueue(8)
    assert await Runner(after).run_once() == RunCounts(completed=2)
    assert ran == [("send_email", 7), ("send_email", 8)]
    record = await after.send_email.get(receipt.id)
    assert record is not None
    assert (record.name, record.input, record.result) == ("send_mail", 7, 7)


async def test_a_receipt_of_the_earlier_name_is_accepted() -> None:
    driver = MemoryDriver()
    receipt = await Before(context=None, driver=driver).send_mail.enqueue(7)
    assert await After(context=None, driver=driver).send_email.get(receipt) is not None


async def test_an_id_that_was_used_under_the_earlier_name_is_a_duplicate() -> None:
    driver = MemoryDriver()
    await Before(context=None, driver=driver).send_mail.options(id="order-1").enqueue(7)
    again = await After(context=None, driver=driver).send_email.options(id="order-1").enqueue(7)
    assert again.disposition == "duplicate"


async def test_schedules_of_the_earlier_name_go_on() -> None:
    driver = MemoryDriver()
    before, after = Before(context=None, driver=driver), After(context=None, driver=driver)
    await before.send_mail.schedule(every="1h", input=9)
    (schedule,) = (await after.inspect.get_schedules()).items
    await after.control.trigger(schedule.key)
    assert await Runner(after).run_once() == RunCounts(completed=1)
    assert ran == [("send_email", 9)]


async def test_a_job_of_another_name_is_still_refused() -> None:
    driver = MemoryDriver()
    receipt = await After(context=None, driver=driver).send_email.enqueue(1)
    with pytest.raises(ValidationError, match="is a receipt of the job 'send_email'"):
        await Before(context=None, driver=driver).send_mail.get(receipt)


def test_an_alias_that_also_names_another_job_is_refused() -> None:
    with pytest.raises(DefinitionError, match="the alias 'send_mail' of 'send_email' also names 'send_mail'"):
        type("Both", (Jobs,), {"send_mail": send_mail, "send_email": send_email})
    other = job(int, name="other", aliases=("mail",))(send_mail.definition.handler)
    with pytest.raises(DefinitionError, match="the alias 'mail' of 'other' also names 'send_email'"):
        type("Both", (Jobs,), {"send_email": send_email, "other": other})


@pytest.mark.parametrize("aliases", ["old", None, 3, ["a b"], [3]])
def test_aliases_that_are_no_list_of_names_are_refused(aliases: Any) -> None:
    with pytest.raises(DefinitionError, match="aliases"):
        job(int, aliases=aliases)(send_mail.definition.handler)
