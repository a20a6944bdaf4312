"""The context of a registry: how a handler's `ctx` is made, how often, and how it is closed."""

import asyncio
import inspect
import types
import typing
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Generic, TypeAlias, TypeVar, cast, overload

from flowli_core._loops import LoopLock
from flowli_core._wire.declared import class_of
from flowli_core.errors import DefinitionError, StrategyError

C = TypeVar("C")
C_co = TypeVar("C_co", covariant=True)

CLOSED = (
    "this registry is closed: its `async with` block has ended, or aclose() was called; keep all uses in one block (in "
    "a script, in one asyncio.run), or make a new registry for each"
)


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

A callable is called, unless it is an instance of the class in `Jobs[...]`: then it is the context itself. If that class
cannot tell them apart (a protocol, `Any`, `Callable`), a callable that needs arguments is the context itself. Wrap any
other callable context in a lambda.
"""


class ContextScope:
    """The context of one runtime: made once and shared by all runs, or made for each run.

    `expected` are the classes in `Jobs[...]`, or None if isinstance cannot check the type there. A context of another
    type raises DefinitionError.
    """

    def __init__(self, source: object, *, expected: tuple[type, ...] | None) -> None:
        self._source = source
        self._factory = cast("PerJob[object]", source).factory if isinstance(source, PerJob) else None
        self._expected = expected
        self._lock = LoopLock()
        self._stack = AsyncExitStack()
        self._made: tuple[object] | None = None
        self._is_closed = False
        self.is_closing = False
        self.loop: asyncio.AbstractEventLoop | None = None
        """The event loop on which the context was opened, shared or not. What it holds may belong to that loop."""

    @property
    def name(self) -> str:
        """The name of the factory of the context, or of the context's class, for messages."""
        source = self._source if self._factory is None else self._factory
        return str(getattr(source, "__qualname__", type(source).__qualname__))

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
        if self._factory is not None:
            self.loop = asyncio.get_running_loop()
        elif made is None:
            async with self._lock:
                if self._is_closed:
                    raise StrategyError(CLOSED)
                made = self._made
                if made is None:
                    async with AsyncExitStack() as stack:
                        made = (await self._make(self._source, stack),)
                        # Only now: a context that `_make` refuses is closed with `stack`.
                        self._stack = stack.pop_all()
                    self._made, self.loop = made, asyncio.get_running_loop()
        return None if made is None else made[0]

    async def close(self) -> None:
        """Close the shared context. A second call does nothing. `is_closing` stays True if this is cancelled."""
        async with self._lock:
            self._is_closed = self.is_closing = True
            self._made = self.loop = None
            stack, self._stack = self._stack, AsyncExitStack()
            await stack.aclose()
            self.is_closing = False

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
        if not callable(source) or (self._factory is None and not _is_factory(source, self._expected)):
            self._check(source)
            return source
        made = source()
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
            declared = " or ".join(cls.__qualname__ for cls in self._expected)
            raise DefinitionError(
                f"the context must be {declared}, as the registry declares, got {type(made).__name__}"
            )


def checkable_classes(declared: object) -> tuple[type, ...] | None:
    """Return the classes that a declared context type allows, or None if isinstance cannot check the type."""
    stripped = class_of(declared)
    if typing.get_origin(stripped) in {typing.Union, types.UnionType}:
        members = [checkable_classes(member) for member in typing.get_args(stripped)]
        return None if None in members else tuple(cls for member in members for cls in member or ())
    # Any, protocols and TypedDicts are types too, but isinstance cannot check them.
    if not isinstance(stripped, type) or getattr(stripped, "_is_protocol", False):
        return None
    try:
        isinstance(None, stripped)
    except TypeError:
        return None
    return (stripped,)


def _is_factory(source: Callable[..., object], expected: tuple[type, ...] | None) -> bool:
    """Return True if a callable makes the context, False if it is the context."""
    if expected is not None and not isinstance(_plain_function, expected):
        return not isinstance(source, expected)
    # The declared type allows any function, so it does not decide.
    try:
        inspect.signature(source).bind()
    except TypeError:
        return False
    except ValueError:
        pass  # A builtin, whose signature is unknown.
    return True


def _plain_function() -> None: ...
