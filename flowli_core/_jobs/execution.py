"""The execution of a handler: the call of the handler itself, and the middleware around it."""

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeAlias, cast

from typing_extensions import TypeVar

from flowli_core import _checks
from flowli_core._current import CurrentJob, current_job, running_meta
from flowli_core._jobs.definition import Definition
from flowli_core._loops import let_anyio_reach
from flowli_core._wire.codec import pack_result
from flowli_core._wire.trace import trace_of
from flowli_core.errors import DefinitionError, StrategyError, ValidationError

C = TypeVar("C")
C_co = TypeVar("C_co", covariant=True, default=object)

Started: TypeAlias = tuple[Any, contextvars.Context | None]
"""The result of a plain handler, and its context if the result is an awaitable: then the handler has only begun."""

InThread: TypeAlias = Callable[[Callable[..., Started], dict[str, Any]], Awaitable[Started]]
"""Calls a function in a thread."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Execution(Generic[C_co]):
    """An execution of a handler, by `run` or by a worker, as middleware sees it.

    `Execution[Mailer]` has a context of this type; a bare `Execution` takes any.
    """

    job: CurrentJob
    """The running job: its id, name, queue, attempt, ..., as `current_job()` returns it."""
    input: object
    """The validated input, or None if the job takes none."""
    meta: object
    """The validated meta, or None."""
    ctx: C_co
    """The context of this execution, even if the handler does not take it."""
    trace: bytes | None
    """The bytes that the tracer of the caller stored with the record. None in `run`."""


Proceed: TypeAlias = Callable[[], Coroutine[Any, Any, object]]
"""Runs the rest of an execution (the next middleware, or the handler), and returns its result."""

Middleware: TypeAlias = Callable[[Execution[C], Proceed], Awaitable[object]]
"""An async function that is called around each execution: `async def timing(call: Execution, proceed: Proceed)`."""


class CallHandler(Protocol):
    """Calls a handler with the arguments that it takes, and returns its result."""

    async def __call__(
        self, definition: Definition, *, input: object, meta: object, ctx: object, in_thread: InThread
    ) -> Any: ...


class Replaced(NamedTuple):
    """A result that middleware returned in place of the handler's."""

    result: object

    def checked(self, definition: Definition) -> Any:
        """Return the result as it will be read from the store. Raises ValidationError if it is not of the job's type.

        That is as late as a handler's result is checked: after the context of the execution was closed.
        """
        try:
            return definition.result.unpack(pack_result(self.result))
        except ValidationError as error:
            cure = "; write `return await proceed()`" if self.result is None else ""
            message = f"{error}; middleware returned it in place of the handler's{cure}"
            raise _checks.internal(ValidationError(message, error.issues)) from None


def check_middleware(given: object) -> tuple[Middleware[Any], ...]:
    """Accept a list of async functions that take two arguments. Raises DefinitionError."""
    if not isinstance(given, list | tuple):
        raise DefinitionError(f"middleware must be a list of async functions, got {type(given).__name__}")
    functions = cast("Sequence[Any]", given)
    for function in functions:
        name = _name(function)
        if not callable(function) or isinstance(function, type):
            raise DefinitionError(f"middleware must be a list of async functions, not {name}")
        if inspect.isfunction(inspect.unwrap(function)) and not inspect.iscoroutinefunction(inspect.unwrap(function)):
            raise DefinitionError(f"the middleware {name} must be async: async def {name}(call, proceed)")
        try:
            inspect.signature(function).bind(None, None)
        except TypeError:
            raise DefinitionError(
                f"the middleware {name} must take two arguments: async def {name}(call, proceed)"
            ) from None
        except ValueError:
            pass  # A builtin, whose signature is unknown.
    return tuple(functions)


async def call_through(
    middleware: Sequence[Middleware[Any]],
    definition: Definition,
    *,
    input: object,
    meta: object,
    ctx: object,
    in_thread: InThread,
) -> Any:
    """Call a handler through middleware, the first outermost. A result that is not the handler's is a `Replaced`."""
    execution = Execution(job=current_job(), input=input, meta=meta, ctx=ctx, trace=trace_of(running_meta()))
    returned: list[object] = []

    async def proceed() -> object:
        result = await call_handler(definition, input=input, meta=meta, ctx=ctx, in_thread=in_thread)
        returned.append(result)
        return result

    rest: Proceed = proceed
    for function in reversed(middleware):
        rest = _Layer(function, execution, rest)
    result = await rest()
    return result if any(result is own for own in returned) else Replaced(result)


class _Layer:
    """A middleware, and the rest of the execution that it proceeds to."""

    def __init__(self, function: Middleware[Any], execution: Execution[Any], rest: Proceed) -> None:
        self._function = function
        self._execution = execution
        self._rest: Proceed | None = rest
        self._is_running = False

    async def __call__(self) -> object:
        try:
            result = await self._function(self._execution, self._proceed)
        finally:
            self._rest = None
        if self._is_running:
            raise StrategyError(f"the middleware {_name(self._function)} returned before proceed() did; await it")
        return result

    def _proceed(self) -> Coroutine[Any, Any, object]:
        rest, self._rest = self._rest, None
        if rest is None:
            raise StrategyError(
                f"the middleware {_name(self._function)} may call proceed() once, and before it returns; a job is run "
                "again by its retry policy"
            )
        self._is_running = True
        return self._run(rest)

    async def _run(self, rest: Proceed) -> object:
        try:
            return await rest()
        finally:
            self._is_running = False


def _name(function: object) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


async def call_handler(
    definition: Definition,
    *,
    input: object,
    meta: object,
    ctx: object,
    in_thread: Callable[[Callable[..., Started], dict[str, Any]], Awaitable[Started]],
) -> Any:
    """Call a handler with the arguments that it takes and return its result.

    A coroutine function is called here, a plain function by `in_thread`. An awaitable that a plain function returns
    is awaited here, with the context variables that the function has set.
    """
    given = {"input": input, "meta": meta, "ctx": ctx}
    arguments = {name: given[name] for name in definition.parameters}
    if definition.is_async:
        return await definition.handler(**arguments)
    result, context = await in_thread(_start, {"handler": definition.handler, "arguments": arguments})
    if context is None:
        return result
    for variable, value in context.items():
        if variable.get(None) is not value:
            variable.set(value)
    return await result


def _start(handler: Callable[..., Any], arguments: dict[str, Any]) -> Started:
    result = handler(**arguments)
    passes_on = inspect.isgenerator(result) and inspect.isgeneratorfunction(inspect.unwrap(handler))
    if passes_on or inspect.isasyncgen(result):
        raise TypeError("the handler returned a generator, whose code has not run; return a list of what it yields")
    return result, contextvars.copy_context() if inspect.isawaitable(result) else None


async def call_in_thread(handler: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Call a function in a thread of the event loop's own pool."""
    return await asyncio.to_thread(_call, handler, arguments, asyncio.get_running_loop())


def _call(handler: Callable[..., Any], arguments: dict[str, Any], loop: asyncio.AbstractEventLoop) -> Any:
    try:
        with let_anyio_reach(loop):
            return handler(**arguments)
    except StopIteration as error:
        # A future cannot carry a StopIteration. A coroutine that raises one ends with a RuntimeError too.
        raise RuntimeError("the handler raised StopIteration") from error
