"""A handler's context is made once and shared, or made for each run, and always closed."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, Generic, NewType, Optional, Protocol, Self, TypeVar
from unittest.mock import Mock, create_autospec

import pytest
from typing_extensions import TypeAliasType, TypedDict

from flowli_core import DefinitionError, Jobs, PerJob, current_job, job, per_job
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import drain
from tests.support.sessions import AppJobs, Session, rest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator


T = TypeVar("T")

any_jobs: Any = AppJobs
made = Session()


def factory() -> Session:
    return made


async def async_factory() -> Session:
    await asyncio.sleep(0)
    return made


@asynccontextmanager
async def manager() -> AsyncGenerator[Session]:
    yield made


@pytest.mark.parametrize(
    "source",
    [made, factory, async_factory, manager, per_job(factory), per_job(async_factory), per_job(manager)],
    ids=["value", "factory", "async", "manager", "per_job factory", "per_job async", "per_job manager"],
)
async def test_every_context_source_works_in_run_and_in_a_worker(source: Any) -> None:
    made.log.clear()
    async with AppJobs(context=source, driver=MemoryDriver()) as jobs:
        assert await jobs.work.run("run") == id(made)
        await jobs.work.enqueue("worker")
        await jobs.toil.enqueue()
        counts = await drain(jobs)
    assert counts.completed == 2
    assert sorted(made.log) == ["run", "toil", "worker"]


class Scope:
    """A context factory that counts how often its context was entered, and logs how it was exited."""

    def __init__(self, *, swallows: bool = False) -> None:
        self.log: list[str] = []
        self.entered = 0
        self.swallows = swallows

    @asynccontextmanager
    async def __call__(self) -> AsyncGenerator[Session]:
        self.entered += 1
        self.log.append("enter")
        await asyncio.sleep(0)
        try:
            yield Session(self.log)
        except ValueError:
            self.log.append("rollback")
            if not self.swallows:
                raise
        else:
            self.log.append("commit")


async def test_a_shared_context_is_made_once_under_concurrent_first_use_and_closed_once() -> None:
    scope = Scope()
    jobs = AppJobs(context=scope, driver=MemoryDriver())
    assert len({*await asyncio.gather(*(jobs.work.run("w") for _ in range(10)))}) == 1
    await jobs.work.enqueue("w")
    await drain(jobs)
    assert scope.entered == 1
    await jobs.aclose()
    await jobs.aclose()
    assert scope.log == ["enter", *["w"] * 11, "commit"]


async def test_closing_a_runtime_that_ran_nothing_makes_no_context() -> None:
    scope = Scope()
    await AppJobs(context=scope, driver=MemoryDriver()).aclose()
    assert scope.log == []


async def test_opening_a_runtime_makes_its_shared_context_but_not_one_per_job() -> None:
    shared, own = Scope(), Scope()
    async with AppJobs(context=shared), AppJobs(context=per_job(own)):
        assert (shared.entered, own.entered) == (1, 0)


@pytest.mark.parametrize("mode", ["run", "worker"])
async def test_a_per_job_context_is_entered_before_the_handler_and_exited_after_it(mode: str) -> None:
    scope = Scope()
    jobs = AppJobs(context=per_job(scope), driver=MemoryDriver())
    for _ in range(2):
        await _perform(jobs, mode, "w")
    assert scope.log == ["enter", "w", "commit", "enter", "w", "commit"]


@pytest.mark.parametrize("mode", ["run", "worker"])
async def test_a_per_job_context_receives_the_handlers_exception(mode: str) -> None:
    scope = Scope()
    jobs = AppJobs(context=per_job(scope), driver=MemoryDriver())
    await _perform(jobs, mode, "fail")
    assert scope.log == ["enter", "fail", "rollback"]


@pytest.mark.parametrize("mode", ["run", "worker"])
async def test_a_context_that_suppresses_an_exception_does_not_turn_a_failure_into_a_success(mode: str) -> None:
    scope = Scope(swallows=True)
    jobs = AppJobs(context=per_job(scope), driver=MemoryDriver())
    await _perform(jobs, mode, "fail")
    assert scope.log == ["enter", "fail", "rollback"]


async def test_a_context_that_raises_on_exit_fails_the_job() -> None:
    @asynccontextmanager
    async def fails_to_commit() -> AsyncGenerator[Session]:
        yield Session()
        raise ValueError("no commit")

    jobs = AppJobs(context=per_job(fails_to_commit), driver=MemoryDriver())
    with pytest.raises(ValueError, match="no commit"):
        await jobs.work.run("w")
    await jobs.work.enqueue("w")
    assert (await drain(jobs)).failed == 1


async def test_concurrent_jobs_have_a_context_each() -> None:
    scope = Scope()
    jobs = AppJobs(context=per_job(scope), driver=MemoryDriver())
    await jobs.work.enqueue_many(["w"] * 5)
    await drain(jobs, concurrency=5)
    assert scope.entered == 5
    assert scope.log.count("commit") == 5


async def test_current_job_is_set_while_the_context_is_made() -> None:
    names: list[str] = []

    @asynccontextmanager
    async def named() -> AsyncGenerator[Session]:
        names.append(current_job().name)
        yield Session()

    jobs = AppJobs(context=per_job(named), driver=MemoryDriver())
    await jobs.work.run("w")
    await jobs.toil.enqueue()
    await drain(jobs)
    assert names == ["work", "toil"]


class Pool(Session):
    """A connection pool as database libraries have them: awaitable, and a context manager that closes it."""

    def __await__(self) -> Generator[Any, None, Self]:
        self.log.append("awaited")
        yield from asyncio.sleep(0).__await__()
        return self

    async def __aenter__(self) -> Self:
        self.log.append("entered")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.log.append("left")


async def test_a_context_that_is_awaitable_and_a_context_manager_is_entered_and_closed() -> None:
    pool = Pool()
    async with AppJobs(context=lambda: pool) as jobs:
        await jobs.work.run("w")
    assert pool.log == ["entered", "w", "left"]


class HasLog(Protocol):
    @property
    def log(self) -> list[str]: ...


class Settings(TypedDict):
    log: list[str]


async def log(ctx: Any) -> object:
    return ctx


class Sender:
    """A client that is called to send. Entered or called without a text, it would be another object."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def __call__(self, text: str = "") -> object:
        self.log.append(text)
        return object()

    async def __aenter__(self) -> object:
        return object()

    async def __aexit__(self, *_: object) -> None: ...


class Maker(Sender, Generic[T]):
    """A parametrised class, such as a session maker."""


class Mailing(Protocol):
    def __call__(self, text: str) -> object: ...


def send_text(text: str) -> object:
    return text


def send_any(text: str = "") -> object:
    return text


UserSender = NewType("UserSender", Sender)
AnySender = TypeAliasType("AnySender", Sender)


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        pytest.param(Sender, Sender(), id="callable object"),
        pytest.param(Sender, Maker[int](), id="object of a subclass"),
        pytest.param(Maker[int], Maker[int](), id="object of a parametrised class"),
        pytest.param(Annotated[Maker[int], "of int"], Maker[int](), id="Annotated"),
        pytest.param(UserSender, Sender(), id="NewType"),
        pytest.param(AnySender, Sender(), id="type alias"),
        pytest.param(Sender | None, Sender(), id="optional"),
        pytest.param(Optional[Maker[int]], Maker[int](), id="optional of a parametrised class"),  # noqa: UP045 - the other spelling
        pytest.param(type[Sender], Sender, id="class"),
        pytest.param(Session, Mock(spec=Session), id="mock of a class"),
        pytest.param(Session, create_autospec(Session, instance=True), id="autospec of a class"),
        pytest.param(functools.partial, functools.partial(send_any), id="partial"),
        pytest.param(Mailing, send_text, id="function that is declared by a protocol"),
        pytest.param(Callable[[str], object], send_text, id="function that is declared by its signature"),
        pytest.param(Any, send_text, id="function that needs an argument"),
    ],
)
async def test_a_callable_value_of_the_declared_type_is_the_context_itself(declared: Any, value: Any) -> None:
    class Calling(Jobs[declared]):
        log = job()(log)

    async with Calling(context=value, driver=MemoryDriver()) as jobs:
        assert await jobs.log.run() is value


@pytest.mark.parametrize("declared", [Sender, Maker[int], Sender | None, Callable[[str], object], Mailing, Any])
@pytest.mark.parametrize("lifetime", ["shared", "per job"])
async def test_a_function_that_returns_a_callable_context_is_called(declared: Any, lifetime: str) -> None:
    class Holder(Maker[int]):
        __aenter__: Any = None  # not a context manager, so the factory's value is the context
        __aexit__: Any = None

    value = Holder()

    class Calling(Jobs[declared]):
        log = job()(log)

    source: Any = per_job(lambda: value) if lifetime == "per job" else lambda: value
    async with Calling(context=source, driver=MemoryDriver()) as jobs:
        assert await jobs.log.run() is value
    assert value.log == []


async def test_a_context_of_another_parametrised_class_is_refused() -> None:
    class Calling(Jobs[Maker[int] | None]):
        log = job()(log)

    any_calling: Any = Calling
    with pytest.raises(DefinitionError, match="must be Maker or NoneType, as the registry declares, got str"):
        await any_calling(context="a text").log.run()


@pytest.mark.parametrize("declared", [Any, object, HasLog, Settings, dict[str, Any], "Session"])
async def test_a_declared_context_that_isinstance_cannot_check_accepts_any_value(declared: Any) -> None:
    """Type checkers check a protocol, a TypedDict or Any."""

    class Loose(Jobs[declared]):
        log = job()(log)

    value: Any = {"log": []}
    assert await Loose(context=value).log.run() is value


async def test_a_registry_without_a_context_takes_none() -> None:
    class Bare(Jobs[None]):
        rest = rest

    any_bare: Any = Bare
    assert await Bare(context=None).rest.run() == "rested"
    with pytest.raises(DefinitionError, match="the context must be NoneType"):
        await any_bare(context=Session()).rest.run()


async def test_a_subclass_inherits_the_declared_context() -> None:
    class Derived(AppJobs):
        pass

    any_derived: Any = Derived
    with pytest.raises(DefinitionError, match="the context must be Session"):
        await any_derived(context="a text").work.run("w")


def test_per_job_takes_a_callable() -> None:
    any_per_job: Any = per_job
    assert isinstance(per_job(factory), PerJob)
    with pytest.raises(DefinitionError, match="per_job takes a callable, got Session"):
        any_per_job(Session())


async def _perform(jobs: AppJobs, mode: str, input: str) -> None:
    """Run a job in process or in a worker, and check that it fails if the input says so."""
    if mode == "run":
        if input == "fail":
            with pytest.raises(ValueError, match="fail"):
                await jobs.work.run(input)
        else:
            await jobs.work.run(input)
        return
    await jobs.work.enqueue(input)
    counts = await drain(jobs)
    assert (counts.completed, counts.failed) == ((0, 1) if input == "fail" else (1, 0))
