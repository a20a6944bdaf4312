"""Natural mistakes in code: the error says what is wrong and what to write instead."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from flowli_core import DefinitionError, Jobs, SchedulingError, ValidationError, job
from flowli_core.drivers.memory import MemoryDriver


class Email(BaseModel):
    to: str
    queue: str = "none"


@job(Email)
async def send_email(input: Email) -> None:
    """Send an email."""


class AppJobs(Jobs[None]):
    send_email = send_email


@pytest.fixture
def jobs() -> Any:
    """The registry, as code sees it that no type checker has seen."""
    return AppJobs(context=None, driver=MemoryDriver())


def test_a_declaration_is_not_called() -> None:
    declared: Any = send_email
    for call in ("enqueue", "run", "delay", "enqueue_many", "options", "schedule"):
        with pytest.raises(
            AttributeError, match=rf"call it through an instance of its registry: jobs.send_email.{call}\("
        ):
            getattr(declared, call)
    assert not hasattr(declared, "other")
    with pytest.raises(TypeError, match=r"await jobs.send_email.run\(...\) runs it here, jobs.send_email.enqueue\("):
        declared(Email(to="ada"))
    with pytest.raises(DefinitionError, match="handler must be a function, got Job"):
        job()(declared)


def test_a_job_of_a_registry_is_not_called_itself(jobs: Any) -> None:
    with pytest.raises(TypeError, match=r"await jobs.send_email.run\(...\) runs it here"):
        jobs.send_email(to="ada")


async def test_delay_without_a_delay_names_enqueue(jobs: Any) -> None:
    with pytest.raises(SchedulingError, match=r"enqueue\(...\) runs the job as soon as possible"):
        await jobs.send_email.delay(to="ada")


async def test_an_option_among_the_fields_is_named_with_its_cure(jobs: Any) -> None:
    for option in ("key", "meta", "id", "retry", "timeout"):
        cure = rf"{option} is an option of the call, not a field of its input: jobs.send_email.options\({option}=...\)"
        with pytest.raises(ValidationError, match=cure):
            await jobs.send_email.enqueue(to="ada", **{option: "x"})
    with pytest.raises(ValidationError, match=r'jobs.send_email.delay\("5m", ...\)'):
        await jobs.send_email.enqueue(to="ada", delay="5m")
    assert (await jobs.send_email.enqueue(to="ada", queue="a field of the input")).state == "queued"


def test_fields_of_a_schedule_are_refused_with_the_cure() -> None:
    declared: Any = send_email
    with pytest.raises(ValidationError, match="not to; fields are given in the input itself: input="):
        declared.scheduled("key", every="1h", to="ada")


def test_a_registry_refuses_a_plain_function_but_not_a_method() -> None:
    async def forgotten() -> None:
        """Lack its @job()."""

    with pytest.raises(
        DefinitionError, match=r"Wrong.forgotten is a plain function; declare it with @job\(...\) first"
    ):
        type("Wrong", (Jobs,), {"forgotten": forgotten})

    class Helpful(AppJobs):
        def count(self) -> int:
            return 1

        count_again = count

    assert Helpful(context=None).count_again() == 1


def test_a_registry_names_the_same_job_under_two_attributes() -> None:
    with pytest.raises(DefinitionError, match=r"Wrong.b is the same job as a; remove one"):
        type("Wrong", (Jobs,), {"a": send_email, "b": send_email})


def test_a_forgotten_comma_is_named() -> None:
    schedule = send_email.scheduled("key", every="1h", input=Email(to="ada"))
    with pytest.raises(DefinitionError, match="write a comma after a single one"):
        type("Wrong", (AppJobs,), {"schedules": schedule})
    with pytest.raises(DefinitionError, match=r"must be a list of names, got str; write \('bulk',\)"):
        type("Wrong", (AppJobs,), {"queues": "bulk"})


def test_a_job_and_a_registry_are_named_by_their_repr(jobs: Any) -> None:
    assert repr(send_email).startswith("<job send_email, declared at ")
    assert repr(jobs.send_email).startswith("<job send_email of ")
    assert repr(jobs) == "<AppJobs with 1 jobs, on MemoryDriver()>"
