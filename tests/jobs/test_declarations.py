"""Declarations that are accepted, in addition to those in tests/typing."""

from __future__ import annotations

import functools
import pydoc
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from flowli_core import Defaults, DefinitionError, Jobs, Keep, Retry, Runner, With, exponential, fixed, job
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import drain


class Nothing(Jobs[None]):
    pass


async def do_nothing() -> None: ...


def test_an_inherited_job_may_be_taken_away_and_its_name_given_to_another() -> None:
    class Base(Jobs[None]):
        old = job(name="same")(do_nothing)

    class Derived(Base):
        old = None  # type: ignore[assignment]  # takes the inherited one away
        new = job(name="same")(do_nothing)

    assert Derived(context=None).new is not None


class Tree(BaseModel):
    leaf: Leaf


async def takes_tree(input: Tree) -> int:
    return input.leaf.size


early = job(Tree)(takes_tree)


class Leaf(BaseModel):
    size: int


async def test_a_type_may_be_defined_between_its_job_and_the_registry() -> None:
    class AppJobs(Jobs[None]):
        takes_tree = early

    assert await AppJobs(context=None).takes_tree.run(leaf=Leaf(size=3)) == 3


async def test_a_lambda_and_a_callable_object_are_accepted_with_a_name() -> None:
    """Case 10."""

    @dataclass
    class Doubler:
        by: int

        async def __call__(self, input: int) -> int:
            return input * self.by

    def local() -> str:
        return "local"

    class AppJobs(Jobs[None]):
        one = job(name="one")(lambda: 1)
        double = job(int, name="double")(Doubler(2))
        partial = job(int, name="partial")(functools.partial(Doubler.__call__, Doubler(3)))
        local_one = job()(local)

    jobs = AppJobs(context=None)
    assert [await jobs.one.run(), await jobs.double.run(3), await jobs.partial.run(3)] == [1, 6, 9]
    assert await jobs.local_one.run() == "local"


async def test_a_decorated_handler_is_called_as_what_it_is() -> None:
    """A decorator may make a plain function async, or return the coroutine of an async one."""

    def plain() -> str:
        return "plain"

    @functools.wraps(plain)
    async def made_async() -> str:
        return plain() + " made async"

    async def inner() -> str:
        return "async"

    @functools.wraps(inner)
    def passed_on() -> Any:
        return inner()

    class AppJobs(Jobs[None]):
        first = job(name="first")(made_async)
        second = job(name="second")(passed_on)

    jobs = AppJobs(context=None)
    assert await jobs.first.run() == "plain made async"
    assert await jobs.second.run() == "async"


async def test_the_coroutine_that_a_plain_handler_returns_is_awaited() -> None:
    async def double(input: int) -> int:
        return input * 2

    def passed_on(input: int) -> Any:
        return double(input)

    class AppJobs(Jobs[None]):
        double = job(int)(passed_on)

    async with AppJobs(context=None, driver=MemoryDriver()) as jobs:
        assert await jobs.double.run(2) == 4
        receipt = await jobs.double.enqueue(3)
        await drain(jobs)
        record = await jobs.inspect.get_job(receipt.id)
        assert record is not None
        assert record.result == 6


async def test_a_partial_may_bind_parameters_of_its_own() -> None:
    async def multiplied(input: int, *, by: int) -> int:
        """Multiply."""
        return input * by

    class AppJobs(Jobs[None]):
        multiply = job(int, name="multiply")(functools.partial(multiplied, by=3))

    jobs = AppJobs(context=None)
    assert await jobs.multiply.run(4) == 12
    assert jobs.multiply.__doc__ == "Multiply."


async def test_the_meta_of_a_handler_may_default_to_none() -> None:
    async def handler(meta: Tree | None = None) -> int:
        return meta.leaf.size if meta else 0

    class AppJobs(Jobs[None]):
        size = job(meta=Tree, name="size")(handler)

    jobs = AppJobs(context=None)
    assert [await jobs.size.run(), await jobs.size.run(None, meta=Tree(leaf=Leaf(size=2)))] == [0, 2]


async def test_a_plain_function_may_return_a_coroutine_which_is_awaited() -> None:
    async def tripled(number: int) -> int:
        return number * 3

    def started(input: int) -> Awaitable[int]:
        return tripled(input)

    class AppJobs(Jobs[None]):
        triple = job(int)(started)

    assert await AppJobs(context=None).triple.run(4) == 12


def test_the_docstring_of_the_handler_is_that_of_the_job() -> None:
    async def documented() -> None:
        """Send the report.

        Once a day.
        """

    class AppJobs(Jobs[None]):
        report = job(description="Sends.")(documented)
        bare = job()(do_nothing)

    jobs = AppJobs(context=None)
    assert AppJobs.report.__doc__ == jobs.report.__doc__ == "Send the report.\n\nOnce a day."
    assert "Once a day." in pydoc.render_doc(jobs.report)
    assert "Each call takes the input itself" in pydoc.render_doc(jobs.bare)


@dataclass
class Context:
    name: str


app = With[Context]()


@app.job(int, meta=Tree)
async def authored(input: int, ctx: Context, meta: Tree | None) -> str:
    return f"{ctx.name} {input} {meta.leaf.size if meta else 0}"


@app.job()
def authored_bare(ctx: Context) -> str:
    return ctx.name


@job()
async def elsewhere(ctx: Context) -> str:
    return ctx.name


async def test_jobs_may_be_authored_against_a_context() -> None:
    class AppJobs(Jobs[Context]):
        with_input = authored
        bare = authored_bare
        adopted = app.use(elsewhere)

    jobs = AppJobs(context=Context("c"))
    assert await jobs.with_input.run(1) == "c 1 0"
    assert await jobs.with_input.run(1, meta=Tree(leaf=Leaf(size=2))) == "c 1 2"
    assert [await jobs.bare.run(), await jobs.adopted.run()] == ["c", "c"]


def test_a_timeout_may_be_longer_than_a_lease() -> None:
    """Case 39."""

    class AppJobs(Jobs[None]):
        long = job(timeout="2h")(do_nothing)

    Runner(AppJobs(context=None, driver=MemoryDriver()), lease="1s")


def test_what_is_at_the_limit_is_accepted() -> None:
    job(name="n" * 128, keep_completed="0s", keep_failed="3653d", timeout="3653d")(do_nothing)
    job(name="_a.b:c/d-9", queue="é", tags=[])(do_nothing)
    Retry(max_attempts=1_000_000, backoff=fixed("0s", jitter=(0, 1)), retry_on=(), give_up_on=(BaseException,))
    exponential("1s", max_delay="1s", factor=1, jitter=(0.5, 0.5))
    jobs = Nothing(context=None, driver=MemoryDriver(), defaults=Defaults(keep=Keep(0, 0, 0), max_recoveries=0))
    Runner(jobs, concurrency=10_000, lease="24h")
    Runner(jobs, concurrency=1, lease="1s")


def test_a_declaration_without_its_handler_is_found_at_import() -> None:
    with pytest.raises(DefinitionError, match=r"Forgetful.work is a @job\(...\) without its handler"):
        type("Forgetful", (Nothing,), {"work": job(Tree)})


def test_what_wants_a_registry_is_given_an_instance() -> None:
    wrong: list[tuple[Any, str]] = [(Nothing, "got the class Nothing"), (None, "got NoneType"), ("jobs", "got str")]
    for given, said in wrong:
        with pytest.raises(DefinitionError, match=f"must be an instance of a registry.*{said}"):
            Runner(given)


def test_only_a_job_can_be_adopted() -> None:
    anything: Any = 3
    with pytest.raises(DefinitionError, match=r"use\(...\) takes a job, got int"):
        With[None]().use(anything)


def test_a_duration_is_quoted_as_it_was_written() -> None:
    for written in ("0s", timedelta(0)):
        with pytest.raises(DefinitionError, match=r"timeout must be longer than zero, got '?0"):
            job(name="brief", timeout=written)(do_nothing_at_all)


async def do_nothing_at_all() -> None: ...
