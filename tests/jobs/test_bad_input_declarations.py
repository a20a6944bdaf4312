"""Wrong declarations fail where they are written: at decoration, at class creation, or when a registry is made."""

from __future__ import annotations

import functools
import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import BaseModel, Field

from flowli_core import (
    Defaults,
    DefinitionError,
    Exponential,
    Fixed,
    Jobs,
    Keep,
    Retry,
    Runner,
    exponential,
    fixed,
    job,
)
from flowli_core.drivers.memory import MemoryDriver
from tests.support.refusals import Refused, refuse, table

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator


class Letter(BaseModel):
    to: str


class Nothing(Jobs[None]):
    pass


any_job: Any = job
any_defaults: Any = Defaults
any_keep: Any = Keep
any_retry: Any = Retry
any_fixed: Any = fixed
any_exponential: Any = exponential
any_fixed_class: Any = Fixed
any_exponential_class: Any = Exponential
any_jobs: Any = Nothing
any_runner: Any = Runner


async def bare() -> None: ...
async def takes_input(input: Letter) -> None: ...
async def takes_meta(meta: Letter | None) -> None: ...
async def takes_more(input: Letter, mailer: object) -> None: ...
async def takes_by_place(input: Letter, /) -> None: ...
async def takes_anything(*args: object, **kwargs: object) -> None: ...
async def takes_a_default(input: Letter | None = None) -> None: ...
async def takes_a_context(ctx: object = None) -> None: ...
async def takes_a_setting(input: Letter, times: int = 2) -> None: ...
async def defaults_to_a_meta(meta: Letter | None = Letter(to="a")) -> None: ...  # noqa: B008 - refused


def yields() -> Generator[int]:
    yield 1


async def yields_too() -> AsyncGenerator[int]:
    yield 1


class YieldsWhenCalled:
    def __call__(self) -> Generator[int]:
        yield 1


def declared(**settings: Any) -> Callable[[], object]:
    """Declare a job with these settings."""
    return lambda: any_job(**settings)(bare)


def of(input: Any, handler: Any = takes_input) -> Callable[[], object]:
    """Declare a job with this input."""
    return lambda: any_job(input)(handler)


def of_meta(handler: Any) -> Callable[[], object]:
    """Declare a job with a meta and no input."""
    return lambda: any_job(meta=Letter)(handler)


def registry(**attributes: object) -> Callable[[], object]:
    """Make a registry with these attributes."""
    return lambda: type("AppJobs", (Jobs,), attributes)


def made(**options: Any) -> Callable[[], object]:
    """Make a runtime with these options."""
    return lambda: any_jobs(context=None, **options)


def runner(**options: Any) -> Callable[[], object]:
    """Make a runner with these options."""
    return lambda: any_runner(Nothing(context=None, driver=MemoryDriver()), **options)


def wrong(case: int | str, what: str, do: Callable[[], object], *says: str) -> Refused:
    """Describe what raises a DefinitionError."""
    return Refused(case, what, lambda _: do(), DefinitionError, says)


NAMES = [
    wrong(1, "empty name", declared(name=""), "name must not be empty"),
    wrong(2, "name over 128", declared(name="n" * 129), "name", "at most 128", "got 129"),
    wrong(3, "space in name", declared(name="a b"), "name may have letters"),
    wrong(3, "newline in name", declared(name="a\n"), "name may have letters"),
    wrong(3, "NUL in name", declared(name="a\0b"), "name may have letters"),
    wrong(4, "braces in name", declared(name="{x}"), "name may have letters"),
    wrong(4, "star in name", declared(name="a*"), "name may have letters"),
    wrong(4, "surrogate in name", declared(name="a\ud800"), "name may have letters"),
    wrong(5, "a number for a name", declared(name=5), "name must be a str, got int"),
    wrong(5, "bytes for a name", declared(name=b"x"), "name must be a str, got bytes"),
    wrong("1-5", "bad queue of a job", declared(queue="a b"), "queue may have letters"),
    wrong("1-5", "bad default queue", lambda: any_defaults(queue=""), "queue must not be empty"),
    wrong("1-5", "bad queue of a runner", runner(queues=["ok", "a*"]), "name of a queue may have letters"),
    wrong("1-5", "a text for the queues of a runner", runner(queues="mail"), "queues must be a list"),
    wrong("1-5", "no queue for a runner", runner(queues=[]), "at least one name"),
    wrong("1-5", "bad tag", declared(tags=["fine", "not fine"]), "tags may have letters"),
    wrong("1-5", "a text for tags", declared(tags="mail"), "tags must be a list of names, got str"),
]

HANDLERS = [
    wrong(7, "handler is a number", lambda: any_job()(5), "handler must be a function, got int"),
    wrong(7, "handler is nothing", lambda: any_job()(None), "handler must be a function, got NoneType"),
    wrong(7, "job without parentheses", lambda: any_job(bare), "@job()", "@job(Model)"),
    wrong(7, "handler that cannot be inspected", lambda: any_job(name="n")(dict), "n:", "wrap it in a function"),
    wrong(8, "input declared, not taken", of(Letter, bare), "no parameter `input`"),
    wrong(8, "input taken, not declared", lambda: any_job()(takes_input), "declare its type: @job(Model)"),
    wrong(8, "meta taken, not declared", lambda: any_job()(takes_meta), "meta=Model"),
    wrong(8, "a parameter of its own", of(Letter, takes_more), "not 'mailer'"),
    wrong(8, "input by place", of(Letter, takes_by_place), "takes input by name", "positional-only"),
    wrong(8, "input among anything", of(Letter, takes_anything), "no parameter `input`"),
    wrong(8, "a parameter with a default", of(Letter, takes_a_setting), "not 'times'", "put the rest in ctx"),
    wrong(8, "input with a default", of(Letter, takes_a_default), "given input, so it takes no default"),
    wrong(8, "a context with a default", lambda: any_job()(takes_a_context), "given ctx, so it takes no default"),
    wrong(8, "meta with a default of its own", of_meta(defaults_to_a_meta), "given meta", "no default but None"),
    wrong(9, "generator", lambda: any_job()(yields), "is a generator"),
    wrong(9, "async generator", lambda: any_job()(yields_too), "is a generator"),
    wrong(9, "object that generates", lambda: any_job(name="n")(YieldsWhenCalled()), "is a generator"),
    wrong(10, "lambda without a name", lambda: any_job()(lambda: 1), "needs a name of its own"),
    wrong(10, "partial without a name", lambda: any_job()(functools.partial(bare)), "needs a name of its own"),
    wrong("8a", "unknown setting", declared(retries=3), "not retries", "retry"),
    wrong("8a", "description is no text", declared(description=5), "description must be a str, got int"),
    wrong("8a", "input of no type", of(5), "takes_input: input cannot be 5"),
    wrong("8a", "input of a type unknown to pydantic", of(YieldsWhenCalled), "input cannot be", "schema", "Give an id"),
    wrong("8a", "input with a broken pattern", of(Annotated[str, Field(pattern="(")]), "input cannot be"),
]

NUMBERS = [
    *[
        wrong(33, f"max_attempts {value!r}", functools.partial(any_retry, max_attempts=value), "max_attempts", "1 to")
        for value in (0, -1, 1.5, True, "3", 10**7, math.nan)
    ],
    wrong(33, "retry is a number", declared(retry=3), "retry must be a Retry(...), got int"),
    wrong(33, "default retry is nothing", lambda: any_defaults(retry=None), "retry must be a Retry(...)"),
    wrong(33, "retry_on is a list", lambda: any_retry(retry_on=[OSError]), "retry_on must be a tuple of exception"),
    wrong(33, "retry_on is an empty list", lambda: any_retry(retry_on=[]), "retry_on must be a tuple of exception"),
    wrong(33, "give_up_on holds no class", lambda: any_retry(give_up_on=(5,)), "give_up_on must be a tuple"),
    wrong(34, "backoff is a text", lambda: any_retry(backoff="2s"), "backoff", "got str"),
    wrong(34, "first delay of zero", lambda: any_exponential("0s"), "first must be longer than zero"),
    wrong(34, "negative first delay", lambda: any_exponential(timedelta(-1)), "first must"),
    wrong(34, "negative delay", lambda: any_fixed(timedelta(-1)), "delay must not be negative"),
    wrong(34, "factor below 1", lambda: any_exponential("1s", factor=0.5), "factor must be at least 1, got 0.5"),
    wrong(34, "factor of NaN", lambda: any_exponential("1s", factor=math.nan), "factor must be a finite number"),
    wrong(34, "factor of infinity", lambda: any_exponential("1s", factor=math.inf), "factor must be a finite number"),
    wrong(34, "factor of True", lambda: any_exponential("1s", factor=True), "factor must be a finite number"),
    wrong(34, "cap below the first", lambda: any_exponential("2s", max_delay="1s"), "max_delay must not be shorter"),
    wrong(34, "a class given a text", lambda: any_fixed_class(delay="5s"), "delay must be a timedelta, got str"),
    wrong(
        34, "a class given less than zero", lambda: any_fixed_class(delay=timedelta(-1)), "delay must not be negative"
    ),
    wrong(34, "a class given zero", lambda: any_exponential_class(first=timedelta()), "first must be longer than zero"),
    *[
        wrong(35, f"jitter {value!r}", functools.partial(any_fixed, "1s", jitter=value), "jitter")
        for value in ((0.5, 1.5), (-0.1, 1), (1, 0.5), (0.5,), "yes", 1, [0.5, 1.0], (math.nan, 1), (True, 1), ("a", 1))
    ],
    wrong(35, "a class given no pair", lambda: any_fixed_class(delay=timedelta(1), jitter=5), "jitter must be two"),
    wrong(36, "lease under 1 s", runner(lease="999ms"), "lease must be from 1s to 24h"),
    wrong(36, "lease over 24 h", runner(lease="25h"), "lease must be at most 1d, got 25h"),
    wrong(36, "lease is a number", runner(lease=30), "lease must be a duration, got int", '"30s"'),
    *[
        wrong(38, f"concurrency {value!r}", runner(concurrency=value), "concurrency must be a whole number from 1 to")
        for value in (0, -1, 10**6, "auto", True, 1.5)
    ],
    wrong(39, "timeout of zero", declared(timeout="0s"), "timeout must be longer than zero"),
    wrong(39, "timeout is a number", declared(timeout=30), "timeout must be a duration, got int"),
    wrong(39, "negative default timeout", lambda: any_defaults(timeout=timedelta(-1)), "timeout must"),
    wrong(39, "expiry of zero", declared(expires="0s"), "expires must be longer than zero"),
    wrong(39, "expiry of 11 years", declared(expires="4016d"), "expires must be at most 3653d"),
    wrong(39, "expiry at a moment", declared(expires=datetime.now(UTC)), "expires must be a duration, got datetime"),
    wrong(40, "negative retention", declared(keep_completed=timedelta(-1)), "keep_completed must not be negative"),
    wrong(40, "infinite retention", declared(keep_failed=math.inf), "keep_failed must be a duration, got float"),
    wrong(40, "retention of 11 years", declared(keep_failed="4016d"), "keep_failed must be at most 3653d"),
    wrong(40, "default retention is a number", lambda: any_defaults(keep_completed=60), "keep_completed must be a dur"),
    wrong(40, "negative number to keep", lambda: any_defaults(keep=Keep(failed=-1)), "keep.failed must be a whole"),
    wrong(40, "keep is a number", lambda: any_defaults(keep=5), "keep.completed must be a whole number"),
    wrong(40, "negative recoveries", lambda: any_defaults(max_recoveries=-1), "max_recoveries must be a whole number"),
]

RUNTIMES = [
    wrong("r", "a job hides inspect", registry(inspect=job()(bare)), "AppJobs.inspect", "is used by Jobs itself"),
    wrong("r", "a job hides control", registry(control=job()(bare)), "AppJobs.control", "is used by Jobs itself"),
    wrong("r", "a job hides aclose", registry(aclose=job()(bare)), "AppJobs.aclose", "is used by Jobs itself"),
    wrong("r", "a job hides a private attribute", registry(_runtime=job()(bare)), "_runtime", "is used by Jobs itself"),
    wrong("r", "defaults are no Defaults", made(defaults={"queue": "q"}), "defaults must be a Defaults(...), got dict"),
    wrong("r", "the driver is a URL", made(driver="redis://"), "driver must be a driver", "got str"),
    wrong("r", "the driver is a class", made(driver=MemoryDriver), "MemoryDriver()", "the class itself"),
    wrong("r", "hooks are no Hooks", runner(hooks=bare), "hooks must be a Hooks(...), got function"),
]


@table(*NAMES, *HANDLERS, *NUMBERS, *RUNTIMES)
def test_a_wrong_declaration_is_refused_where_it_is_written(row: Refused) -> None:
    refuse(row)


def test_two_jobs_of_one_name_are_refused_with_the_places_of_both() -> None:
    """Case 6."""

    async def one() -> None: ...

    async def other() -> None: ...

    first, second = job(name="same")(one), job(name="same")(other)
    with pytest.raises(DefinitionError, match="two jobs named 'same'") as caught:
        type("AppJobs", (Jobs,), {"first": first, "second": second})
    for part in ("first", "second", "<locals>.one", "<locals>.other", __name__, "line "):
        assert part in str(caught.value)


def test_a_type_that_never_gets_defined_is_refused_when_the_registry_is_made() -> None:
    lost = any_job(list["NeverDefined"])(takes_input)  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore[reportUndefinedVariable]
    with pytest.raises(DefinitionError, match=r"takes_input: input cannot be .*NeverDefined"):
        type("AppJobs", (Jobs,), {"lost": lost})
