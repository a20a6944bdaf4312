"""Declaring jobs: the decorator `@job(...)`, and `With[AppContext]()` to author jobs against one context.

The overloads are long because they are the whole of the static typing: for each shape of a handler they say what it
asks of the context, what a call takes and what it gives. There is one list for handlers with an input and one for those
without, each free (`job`) and tied to a context (`With`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Unpack, overload

from typing_extensions import TypeVar

from flowli_core._jobs import handlers
from flowli_core._jobs.definition import Declared, Settings, Undecorated, define
from flowli_core._jobs.job import Job, NoMeta
from flowli_core.errors import DefinitionError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from pydantic import BaseModel
    from typing_extensions import TypeForm

P = ParamSpec("P")
In = TypeVar("In")
Fields = TypeVar("Fields", bound="BaseModel | DataclassInstance")
M = TypeVar("M")
Meta = TypeVar("Meta", default=NoMeta)
R = TypeVar("R")
C = TypeVar("C")


class _Declaration(Undecorated):
    """What `@job(...)` gives before it sees the handler."""

    def __init__(self, input: object, meta: object, settings: Settings) -> None:
        self._input, self._meta, self._settings = input, meta, settings

    def _declare(self, handler: object) -> Job[Any, Any, Any, Any, Any]:
        return Job(define(handler, declared_input=self._input, declared_meta=self._meta, settings=self._settings))


class Declare(_Declaration, Generic[P, In, M]):
    """`@job(Model)`, waiting for its handler."""

    @overload
    def __call__(self, handler: handlers.HandlerI[In, R], /) -> Job[object, P, In, M, R]: ...
    @overload
    def __call__(self, handler: handlers.HandlerIM[In, M, R], /) -> Job[object, P, In, M, R]: ...
    @overload
    def __call__(self, handler: handlers.HandlerICM[In, C, M, R], /) -> Job[C, P, In, M, R]: ...
    @overload
    def __call__(self, handler: handlers.HandlerIC[In, C, R], /) -> Job[C, P, In, M, R]: ...
    def __call__(self, handler: object, /) -> Job[Any, Any, Any, Any, Any]:
        """Take the handler, and answer the job."""
        return self._declare(handler)


class DeclareBare(_Declaration, Generic[M]):
    """`@job()`, waiting for its handler."""

    @overload
    def __call__(self, handler: handlers.Handler[R], /) -> Job[object, [], None, M, R]: ...
    @overload
    def __call__(self, handler: handlers.HandlerM[M, R], /) -> Job[object, [], None, M, R]: ...
    @overload
    def __call__(self, handler: handlers.HandlerCM[C, M, R], /) -> Job[C, [], None, M, R]: ...
    @overload
    def __call__(self, handler: handlers.HandlerC[C, R], /) -> Job[C, [], None, M, R]: ...
    def __call__(self, handler: object, /) -> Job[Any, Any, Any, Any, Any]:
        """Take the handler, and answer the job."""
        return self._declare(handler)


class DeclareWith(_Declaration, Generic[C, P, In, M]):
    """`@app.job(Model)`, waiting for its handler."""

    @overload
    def __call__(self, handler: handlers.HandlerI[In, R], /) -> Job[C, P, In, M, R]: ...
    @overload
    def __call__(self, handler: handlers.HandlerIM[In, M, R], /) -> Job[C, P, In, M, R]: ...
    @overload
    def __call__(self, handler: handlers.HandlerICM[In, C, M, R], /) -> Job[C, P, In, M, R]: ...
    @overload
    def __call__(self, handler: handlers.HandlerIC[In, C, R], /) -> Job[C, P, In, M, R]: ...
    def __call__(self, handler: object, /) -> Job[Any, Any, Any, Any, Any]:
        """Take the handler, and answer the job."""
        return self._declare(handler)


class DeclareBareWith(_Declaration, Generic[C, M]):
    """`@app.job()`, waiting for its handler."""

    @overload
    def __call__(self, handler: handlers.Handler[R], /) -> Job[C, [], None, M, R]: ...
    @overload
    def __call__(self, handler: handlers.HandlerM[M, R], /) -> Job[C, [], None, M, R]: ...
    @overload
    def __call__(self, handler: handlers.HandlerCM[C, M, R], /) -> Job[C, [], None, M, R]: ...
    @overload
    def __call__(self, handler: handlers.HandlerC[C, R], /) -> Job[C, [], None, M, R]: ...
    def __call__(self, handler: object, /) -> Job[Any, Any, Any, Any, Any]:
        """Take the handler, and answer the job."""
        return self._declare(handler)


@overload
def job(*, meta: type[Meta] | None = None, **settings: Unpack[Settings]) -> DeclareBare[Meta]: ...
@overload  # What has fields is both a callable and a type; the first that fits is meant, so that calls know the fields.
def job(  # type: ignore[overload-overlap]
    input: Callable[P, Fields], /, *, meta: type[Meta] | None = None, **settings: Unpack[Settings]
) -> Declare[P, Fields, Meta]: ...
@overload
def job(
    input: TypeForm[In], /, *, meta: type[Meta] | None = None, **settings: Unpack[Settings]
) -> Declare[[In], In, Meta]: ...
def job(input: Any = None, /, *, meta: Any = None, **settings: Unpack[Settings]) -> Any:
    """Declare a job: `@job(Model, meta=Meta, retry=Retry(...), timeout="30s", queue="mail")`.

    `input` is whatever type pydantic can validate: a model, a dataclass, a TypedDict, `int`, `list[int]`, `int | str`;
    without one the job takes no input. The handler takes any of `input`, `ctx` and `meta` by name; it is async, or a
    plain function, which runs in a thread. Raises DefinitionError.
    """
    _refuse_handler(input)
    declare: Any = DeclareBare if input is None else Declare
    return declare(input, meta, settings)


class With(Generic[C]):
    """Author jobs against a context: `app = With[AppContext]()`. What does not fit it is a type error right there."""

    @overload
    def job(self, /, *, meta: type[Meta] | None = None, **settings: Unpack[Settings]) -> DeclareBareWith[C, Meta]: ...
    @overload
    def job(  # type: ignore[overload-overlap]
        self, input: Callable[P, Fields], /, *, meta: type[Meta] | None = None, **settings: Unpack[Settings]
    ) -> DeclareWith[C, P, Fields, Meta]: ...
    @overload
    def job(
        self, input: TypeForm[In], /, *, meta: type[Meta] | None = None, **settings: Unpack[Settings]
    ) -> DeclareWith[C, [In], In, Meta]: ...
    def job(self, input: Any = None, /, *, meta: Any = None, **settings: Unpack[Settings]) -> Any:
        """Declare a job, as `job` does."""
        _refuse_handler(input)
        declare: Any = DeclareBareWith if input is None else DeclareWith
        return declare(input, meta, settings)

    def use(self, job: Job[C, P, In, M, R], /) -> Job[C, P, In, M, R]:
        """Adopt a job that was declared elsewhere: a type error here when the context lacks what it asks for."""
        _refuse_other(job)
        return job


def _refuse_handler(input: object) -> None:
    if inspect.isroutine(input):
        raise DefinitionError("@job needs its parentheses: @job() for a job without input, @job(Model) for one with")


def _refuse_other(job: object) -> None:
    if not isinstance(job, Declared):
        raise DefinitionError(f"use(...) takes a job, got {type(job).__name__}")
