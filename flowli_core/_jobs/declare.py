"""The decorators that declare jobs: `@job(...)`, and `@app.job(...)` of `app = With[AppContext]()`.

The overloads are the static typing of the library. For each shape of a handler they say what it requires of the
context, which arguments a call takes and what it returns. Each of them lists the options by name, because some type
checkers accept unknown names beside `Unpack[TypedDict]`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Unpack, overload

from typing_extensions import TypeVar

from flowli_core._jobs.definition import JobBase, JobDecoratorBase, Settings, define
from flowli_core._jobs.handlers import (
    TakesContext,
    TakesContextMeta,
    TakesInput,
    TakesInputContext,
    TakesInputContextMeta,
    TakesInputMeta,
    TakesMeta,
    TakesNothing,
)
from flowli_core._jobs.job import Job, NoMeta
from flowli_core._jobs.limit import Limit, LimitOf
from flowli_core.durations import Duration
from flowli_core.errors import DefinitionError
from flowli_core.retry import Retry

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from pydantic import BaseModel
    from typing_extensions import TypeForm

P = ParamSpec("P")
In = TypeVar("In")
Plain = TypeVar("Plain", bound="tuple[Any, ...] | str | bytes | int | float | None")
"""Types without fields. Some checkers would match them with `Callable[P, Fields]`, so their overload comes first."""
Fields = TypeVar("Fields", bound="BaseModel | DataclassInstance")
M = TypeVar("M")
Meta = TypeVar("Meta", default=NoMeta)
R = TypeVar("R")
C = TypeVar("C")


class _JobDecorator(JobDecoratorBase):
    def __init__(self, input: object, meta: object, settings: Settings) -> None:
        self._input, self._meta, self._settings = input, meta, settings

    def _declare(self, handler: object) -> Job[Any, Any, Any, Any, Any]:
        return Job(define(handler, declared_input=self._input, declared_meta=self._meta, settings=self._settings))


class JobDecorator(_JobDecorator, Generic[P, In, M]):
    """The decorator that `job(Model)` returns."""

    @overload
    def __call__(self, handler: TakesInput[In, R], /) -> Job[object, P, In, M, R]: ...
    @overload
    def __call__(self, handler: TakesInputMeta[In, M, R], /) -> Job[object, P, In, M, R]: ...
    @overload
    def __call__(self, handler: TakesInputContext[In, C, R], /) -> Job[C, P, In, M, R]: ...
    @overload  # Last, because checkers explain why the last one does not match: it names the parameter that is wrong.
    def __call__(self, handler: TakesInputContextMeta[In, C, M, R], /) -> Job[C, P, In, M, R]: ...
    def __call__(self, handler: object, /) -> Job[Any, Any, Any, Any, Any]:
        """Make a job of the handler."""
        return self._declare(handler)


class BareJobDecorator(_JobDecorator, Generic[M]):
    """The decorator that `job()` returns: the job takes no input."""

    @overload
    def __call__(self, handler: TakesNothing[R], /) -> Job[object, [], None, M, R]: ...
    @overload
    def __call__(self, handler: TakesMeta[M, R], /) -> Job[object, [], None, M, R]: ...
    @overload
    def __call__(self, handler: TakesContext[C, R], /) -> Job[C, [], None, M, R]: ...
    @overload
    def __call__(self, handler: TakesContextMeta[C, M, R], /) -> Job[C, [], None, M, R]: ...
    def __call__(self, handler: object, /) -> Job[Any, Any, Any, Any, Any]:
        """Make a job of the handler."""
        return self._declare(handler)


class ScopedJobDecorator(_JobDecorator, Generic[C, P, In, M]):
    """The decorator that `app.job(Model)` returns."""

    @overload
    def __call__(self, handler: TakesInput[In, R], /) -> Job[C, P, In, M, R]: ...
    @overload
    def __call__(self, handler: TakesInputMeta[In, M, R], /) -> Job[C, P, In, M, R]: ...
    @overload
    def __call__(self, handler: TakesInputContext[In, C, R], /) -> Job[C, P, In, M, R]: ...
    @overload
    def __call__(self, handler: TakesInputContextMeta[In, C, M, R], /) -> Job[C, P, In, M, R]: ...
    def __call__(self, handler: object, /) -> Job[Any, Any, Any, Any, Any]:
        """Make a job of the handler."""
        return self._declare(handler)


class BareScopedJobDecorator(_JobDecorator, Generic[C, M]):
    """The decorator that `app.job()` returns: the job takes no input."""

    @overload
    def __call__(self, handler: TakesNothing[R], /) -> Job[C, [], None, M, R]: ...
    @overload
    def __call__(self, handler: TakesMeta[M, R], /) -> Job[C, [], None, M, R]: ...
    @overload
    def __call__(self, handler: TakesContext[C, R], /) -> Job[C, [], None, M, R]: ...
    @overload
    def __call__(self, handler: TakesContextMeta[C, M, R], /) -> Job[C, [], None, M, R]: ...
    def __call__(self, handler: object, /) -> Job[Any, Any, Any, Any, Any]:
        """Make a job of the handler."""
        return self._declare(handler)


# fmt: off
@overload
def job(*, meta: type[Meta] | None = None,
        name: str = ..., aliases: list[str] | tuple[str, ...] = ...,
        retry: Retry = ..., timeout: Duration = ..., expires: Duration = ..., queue: str = ...,
        limit: Limit[None] = ..., keep_completed: Duration = ..., keep_failed: Duration = ...,
        description: str = ..., tags: list[str] | tuple[str, ...] = ...) -> BareJobDecorator[Meta]: ...
@overload
def job(input: TypeForm[Plain], /, *, meta: type[Meta] | None = None,  # type: ignore[overload-overlap]
        name: str = ..., aliases: list[str] | tuple[str, ...] = ...,
        retry: Retry = ..., timeout: Duration = ..., expires: Duration = ..., queue: str = ...,
        limit: LimitOf[Plain] = ..., keep_completed: Duration = ..., keep_failed: Duration = ...,
        description: str = ..., tags: list[str] | tuple[str, ...] = ...) -> JobDecorator[[Plain], Plain, Meta]: ...
@overload  # A class with fields matches the next overload as well; by this one calls know its fields.
def job(input: Callable[P, Fields], /, *, meta: type[Meta] | None = None,  # type: ignore[overload-overlap]
        name: str = ..., aliases: list[str] | tuple[str, ...] = ...,
        retry: Retry = ..., timeout: Duration = ..., expires: Duration = ..., queue: str = ...,
        limit: LimitOf[Fields] = ..., keep_completed: Duration = ..., keep_failed: Duration = ...,
        description: str = ..., tags: list[str] | tuple[str, ...] = ...) -> JobDecorator[P, Fields, Meta]: ...
@overload
def job(input: TypeForm[In], /, *, meta: type[Meta] | None = None,
        name: str = ..., aliases: list[str] | tuple[str, ...] = ...,
        retry: Retry = ..., timeout: Duration = ..., expires: Duration = ..., queue: str = ...,
        limit: LimitOf[In] = ..., keep_completed: Duration = ..., keep_failed: Duration = ...,
        description: str = ..., tags: list[str] | tuple[str, ...] = ...) -> JobDecorator[[In], In, Meta]: ...
# fmt: on
def job(input: Any = None, /, *, meta: Any = None, **settings: Unpack[Settings]) -> Any:
    """Declare a job: `@job(Model, meta=Meta, retry=Retry(...), timeout="30s", queue="mail")`.

    `input` is any type that pydantic can validate: a model, a dataclass, a TypedDict, `int`, `list[int]`, `int | str`.
    Without it the job takes no input. The handler takes `input`, `ctx` and `meta` by name, each only if it needs it. It
    is async, or a plain function, which runs in a thread. Raises DefinitionError.
    """
    _refuse_handler(input)
    decorator: Any = BareJobDecorator if input is None else JobDecorator
    return decorator(input, meta, settings)


class With(Generic[C]):
    """The decorator of jobs for one context: `app = With[AppContext]()`, then `@app.job(Model)`.

    A handler whose `ctx` is not satisfied by that context is a type error where it is declared.
    """

    # fmt: off
    @overload
    def job(self, /, *, meta: type[Meta] | None = None,
            name: str = ..., aliases: list[str] | tuple[str, ...] = ...,
            retry: Retry = ..., timeout: Duration = ..., expires: Duration = ..., queue: str = ...,
            limit: Limit[None] = ..., keep_completed: Duration = ..., keep_failed: Duration = ...,
            description: str = ..., tags: list[str] | tuple[str, ...] = ...) -> BareScopedJobDecorator[C, Meta]: ...
    @overload
    def job(self, input: TypeForm[Plain], /, *, meta: type[Meta] | None = None,  # type: ignore[overload-overlap]
            name: str = ..., aliases: list[str] | tuple[str, ...] = ...,
            retry: Retry = ..., timeout: Duration = ..., expires: Duration = ..., queue: str = ...,
            limit: LimitOf[Plain] = ..., keep_completed: Duration = ..., keep_failed: Duration = ...,
            description: str = ..., tags: list[str] | tuple[str, ...] = ...,
            ) -> ScopedJobDecorator[C, [Plain], Plain, Meta]: ...
    @overload
    def job(self, input: Callable[P, Fields], /, *, meta: type[Meta] | None = None,  # type: ignore[overload-overlap]
            name: str = ..., aliases: list[str] | tuple[str, ...] = ...,
            retry: Retry = ..., timeout: Duration = ..., expires: Duration = ..., queue: str = ...,
            limit: LimitOf[Fields] = ..., keep_completed: Duration = ..., keep_failed: Duration = ...,
            description: str = ..., tags: list[str] | tuple[str, ...] = ...,
            ) -> ScopedJobDecorator[C, P, Fields, Meta]: ...
    @overload
    def job(self, input: TypeForm[In], /, *, meta: type[Meta] | None = None,
            name: str = ..., aliases: list[str] | tuple[str, ...] = ...,
            retry: Retry = ..., timeout: Duration = ..., expires: Duration = ..., queue: str = ...,
            limit: LimitOf[In] = ..., keep_completed: Duration = ..., keep_failed: Duration = ...,
            description: str = ..., tags: list[str] | tuple[str, ...] = ...,
            ) -> ScopedJobDecorator[C, [In], In, Meta]: ...
    # fmt: on
    def job(self, input: Any = None, /, *, meta: Any = None, **settings: Unpack[Settings]) -> Any:
        """Declare a job, as `job` does."""
        _refuse_handler(input)
        decorator: Any = BareScopedJobDecorator if input is None else ScopedJobDecorator
        return decorator(input, meta, settings)

    def use(self, job: Job[C, P, In, M, R], /) -> Job[C, P, In, M, R]:
        """Return a job that was declared elsewhere. A type error if this context does not satisfy it."""
        _refuse_other(job)
        return job


def _refuse_handler(input: object) -> None:
    if inspect.isroutine(input):
        raise DefinitionError("@job needs its parentheses: @job() for a job without input, @job(Model) for one with")


def _refuse_other(job: object) -> None:
    if not isinstance(job, JobBase):
        raise DefinitionError(f"use(...) takes a job, got {type(job).__name__}")
