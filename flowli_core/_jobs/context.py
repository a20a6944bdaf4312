"""The context of a registry: how a handler's `ctx` is made, how often, and how it is closed."""

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Generic, TypeAlias, TypeVar, cast, overload

from flowli_core._loops import LoopLock
from flowli_core.errors import DefinitionError, StrategyError

C = TypeVar("C")
C_co = TypeVar("C_co", covariant=True)


class PerJob(Generic[C_co]):
    """A context that is made for each run of a job and closed after it. Made by `per_job`."""

    def __init__(self, factory: Callable[[], object]) -> None:
        self.factory = factory


@overload
def per_job(factory: Callable[[], AbstractAsyncContextManager[C]], /) -> PerJob[C]: ...
@overload
def per_job(factory: Callable[[], Awaitable[C]], /) -> PerJob[C]: ...
@overload
def per_job(factory: Callable[[], C], /) -> PerJob[C]: ...
def per_job(factory: Callable[[], object], /) -> PerJob[Any]:
    """Make a new context for each run of a job, in `run` and in workers alike.

    If `factory` returns an async context manager, it is entered before the handler and exited after it, and receives
    the handler's exception if there is one. A database session can thus commit on success and roll back on failure. It
    is entered and exited in the task that runs the handler. Raises DefinitionError if `factory` is not callable.
    """
    given: object = factory
    if not callable(given):
        raise DefinitionError(f"per_job takes a callable, got {type(given).__name__}")
    return PerJob(factory)


ContextSource: TypeAlias = (
    PerJob[C] | Callable[[], AbstractAsyncContextManager[C]] | Callable[[], Awaitable[C]] | Callable[[], C] | C
)
"""A value; or a callable that returns the context, an awaitable of it or an async context manager; or a `per_job`.

A callable is always called. If the context itself is callable, wrap it in a lambda.
"""


class ContextScope:
    """The context of one runtime: made once and shared by all runs, or made for each run.

    `expected` is the class in `Jobs[...]`, or None if that cannot be checked with isinstance. A context of another type
    raises DefinitionError.
    """

    def __init__(self, source: object, *, expected: type | None) -> None:
        self._source = source
        self._factory = cast("PerJob[object]", source).factory if isinstance(source, PerJob) else None
        self._expected = expected
        self._lock = LoopLock()
        self._stack = AsyncExitStack()
        self._made: tuple[object] | None = None
        self._is_closed = False

    @property
    def is_ready(self) -> bool:
        """True if the shared context has been made."""
        return self._made is not None

    @property
    def shared(self) -> object:
        """The shared context, made by `open`."""
        return None if self._made is None else self._made[0]

    async def open(self) -> object:
        """Make the shared context, unless it has been made or each run has its own. Return it.

        Raises StrategyError after `close`.
        """
        made = self._made
        if made is None and self._factory is None:
            async with self._lock:
                if self._is_closed:
                    raise StrategyError("this registry is closed; make a new one")
                made = self._made
                if made is None:
                    async with AsyncExitStack() as stack:
                        made = (await self._make(self._source, stack),)
                        # Only now: a context that `_make` refuses is closed with `stack`.
                        self._stack = stack.pop_all()
                    self._made = made
        return None if made is None else made[0]

    async def close(self) -> None:
        """Close the shared context. A second call does nothing."""
        async with self._lock:
            self._is_closed = True
            self._made = None
            stack, self._stack = self._stack, AsyncExitStack()
            await stack.aclose()

    def reopen(self) -> None:
        """Allow `open` again after `close`, even on another event loop."""
        self._is_closed = False

    @asynccontextmanager
    async def execution(self) -> AsyncGenerator[object]:
        """Provide the context of one run. An exception of the run is raised even if the context suppresses it."""
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
            yield await self.open()

    async def _make(self, source: object, stack: AsyncExitStack) -> object:
        made = source() if callable(source) else source
        if callable(source):
            # Check this before awaitables: some connection pools are both, and only one that was entered is closed.
            if isinstance(made, AbstractAsyncContextManager):
                made = await stack.enter_async_context(cast("AbstractAsyncContextManager[object]", made))
            elif inspect.isawaitable(made):
                made = await made
        self._check(made)
        return made

    def _check(self, made: object) -> None:
        if inspect.isasyncgen(made) or inspect.isgenerator(made):
            raise DefinitionError("the context factory is a generator; decorate it with @asynccontextmanager")
        if self._expected is not None and not isinstance(made, self._expected):
            declared, got = self._expected.__qualname__, type(made).__name__
            raise DefinitionError(f"the context must be {declared}, as the registry declares, got {got}")
