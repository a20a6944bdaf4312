"""Where a handler's `ctx` comes from, how often it is made, and that it is closed once."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Generic, TypeAlias, TypeVar, cast, overload

from flowli_core.errors import DefinitionError

C = TypeVar("C")
C_co = TypeVar("C_co", covariant=True)


class PerJob(Generic[C_co]):
    """A context that is made for each execution and left after it. Made by `per_job`."""

    def __init__(self, factory: Callable[[], object]) -> None:
        self.factory = factory


@overload
def per_job(factory: Callable[[], AbstractAsyncContextManager[C]], /) -> PerJob[C]: ...
@overload
def per_job(factory: Callable[[], Awaitable[C]], /) -> PerJob[C]: ...
@overload
def per_job(factory: Callable[[], C], /) -> PerJob[C]: ...
def per_job(factory: Callable[[], object], /) -> PerJob[Any]:
    """Make a context for each execution, entered before the handler and left after it with the handler's exception.

    So an async context manager around a database session can commit on success and roll back on failure. It is entered
    and left in the task that runs the handler.
    """
    given: object = factory
    if not callable(given):
        raise DefinitionError(f"per_job takes a callable, got {type(given).__name__}")
    return PerJob(factory)


ContextSource: TypeAlias = (
    PerJob[C] | Callable[[], AbstractAsyncContextManager[C]] | Callable[[], Awaitable[C]] | Callable[[], C] | C
)
"""A value, or a callable, async callable or callable that gives an async context manager; or `per_job` of a callable.

Whatever is callable is called: a context that is itself callable goes behind a lambda.
"""


class ContextScope:
    """The context of one runtime: made once and shared, or made for each execution.

    `expected` is the class that the registry declares, where it declares a class: another type is a DefinitionError.
    """

    def __init__(self, source: object, *, expected: type | None) -> None:
        self._source = source
        self._factory = cast("PerJob[object]", source).factory if isinstance(source, PerJob) else None
        self._expected = expected
        self._lock = asyncio.Lock()
        self._stack = AsyncExitStack()
        self._shared: object = None
        self._is_made = False

    @property
    def is_per_job(self) -> bool:
        """Whether each execution has its own."""
        return self._factory is not None

    @property
    def is_ready(self) -> bool:
        """Whether `shared` answers without waiting."""
        return self._is_made

    @property
    def shared(self) -> object:
        """The context that was made by `open`."""
        return self._shared

    async def open(self) -> None:
        """Make the shared context, unless it is there already or belongs to each execution."""
        if self._is_made or self.is_per_job:
            return
        async with self._lock:
            if not self._is_made:
                async with AsyncExitStack() as stack:
                    self._shared = await self._make(self._source, stack)
                    # Only now: what is of the wrong type is left again at once.
                    self._stack = stack.pop_all()
                self._is_made = True

    async def close(self) -> None:
        """Leave the shared context, once."""
        async with self._lock:
            self._is_made, self._shared = False, None
            stack, self._stack = self._stack, AsyncExitStack()
            await stack.aclose()

    def reopen(self) -> None:
        """Be ready to be opened again, on another event loop perhaps."""
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def execution(self) -> AsyncGenerator[object]:
        """Give the context for one execution. What is raised inside is raised again, even if a context swallows it."""
        if self._factory is not None:
            failure: BaseException | None = None
            async with AsyncExitStack() as stack:
                made = await self._make(self._factory, stack)
                try:
                    yield made
                except BaseException as error:
                    failure = error
                    raise
            if failure is not None:
                raise failure
        else:
            await self.open()
            yield self._shared

    async def _make(self, source: object, stack: AsyncExitStack) -> object:
        made = source() if callable(source) else source
        if callable(source):
            # First of all: a pool of connections may be both, and is closed only where it was entered.
            if isinstance(made, AbstractAsyncContextManager):
                made = await stack.enter_async_context(cast("AbstractAsyncContextManager[object]", made))
            elif inspect.isawaitable(made):
                made = await made
        self._check(made)
        return made

    def _check(self, made: object) -> None:
        if inspect.isasyncgen(made) or inspect.isgenerator(made):
            raise DefinitionError("the context factory is a bare generator; decorate it with @asynccontextmanager")
        if self._expected is not None and not isinstance(made, self._expected):
            declared, got = self._expected.__qualname__, type(made).__name__
            raise DefinitionError(f"the context must be {declared}, as the registry declares, got {got}")
