"""The definition of a job: its handler and its settings, checked once, when it is declared."""

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict, cast

from flowli_core import _checks
from flowli_core._jobs.limit import Limit, LimitOf
from flowli_core._jobs.result_codec import ResultCodec
from flowli_core._wire.codec import Codec
from flowli_core.durations import Duration, duration
from flowli_core.errors import DefinitionError
from flowli_core.retry import Retry

HANDLER_PARAMETERS = frozenset({"input", "ctx", "meta"})

_CALLS = frozenset({"run", "enqueue", "enqueue_many", "delay", "options", "get", "schedule"})
"""The methods of a job of a registry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A declared job, without the types that checkers see.

    `parameters` are the names that the handler takes, out of `input`, `ctx` and `meta`. `location` says where the
    handler is, for error messages. `aliases` are other names that stored records of this job may have. A setting that
    is None follows the `Defaults` of the registry.
    """

    name: str
    aliases: tuple[str, ...]
    handler: Callable[..., Any]
    parameters: frozenset[str]
    is_async: bool
    input: Codec[Any] | None
    meta: Codec[Any] | None
    result: ResultCodec
    retry: Retry | None
    timeout: timedelta | None
    expires: timedelta | None
    queue: str | None
    limit: Limit[Any] | None
    keep_completed: timedelta | None
    keep_failed: timedelta | None
    description: str
    docstring: str | None
    tags: tuple[str, ...]
    location: str

    def is_called(self, name: str) -> bool:
        """Return True if this is the job's name or one of its aliases."""
        return name == self.name or name in self.aliases

    def complete(self) -> None:
        """Resolve the names in its types that were not defined yet. Raises DefinitionError if one still is not."""
        for codec in (self.input, self.meta):
            if codec is not None:
                codec.complete()


class Settings(TypedDict, total=False):
    """The options of `@job` beside the types.

    `name` defaults to that of the handler, `description` to its docstring, and all else to the `Defaults` of the
    registry. `aliases` are names that the job had before: this job runs what is stored under them. A record that has
    not begun within `expires`, counted from when it is due, is cancelled. `limit` says how many calls run at once, or
    start in a period. `keep_completed` and `keep_failed` say how long finished records are kept.
    """

    name: str
    aliases: list[str] | tuple[str, ...]
    retry: Retry
    timeout: Duration
    expires: Duration
    queue: str
    limit: LimitOf[Any]
    keep_completed: Duration
    keep_failed: Duration
    description: str
    tags: list[str] | tuple[str, ...]


_SETTINGS = frozenset(Settings.__annotations__)


class JobDecoratorBase:
    """The base class of what `@job(...)` returns. The registry refuses one that was never applied to a handler."""


class JobBase:
    """The part of `Job` that needs no type parameters."""

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.__doc__ = definition.docstring

    def __repr__(self) -> str:
        return f"<job {self.definition.name}, declared at {self.definition.location}>"

    if not TYPE_CHECKING:  # type checkers refuse these uses

        def __getattr__(self, name: str) -> object:
            """Refuse a call of a declaration, which has neither a context nor a driver."""
            if name in _CALLS:
                job = self.definition.name
                raise AttributeError(
                    f"{job} is a declaration; call it through an instance of its registry: jobs.{job}.{name}(...)"
                )
            raise AttributeError(f"a job has no attribute {name!r}")

        def __call__(self, *_: object, **__: object) -> object:
            """Refuse to be called like the handler."""
            job = self.definition.name
            raise TypeError(
                f"{job} is a declaration and not its function: await jobs.{job}.run(...) runs it here, "
                f"jobs.{job}.enqueue(...) stores the call for a worker, where jobs is an instance of its registry"
            )


def define(handler: object, *, declared_input: object, declared_meta: object, settings: Settings) -> Definition:
    """Check a handler and its settings. Raises DefinitionError."""
    location = _location(handler)
    if not callable(handler) or isinstance(handler, JobBase):
        raise DefinitionError(f"a job's handler must be a function, got {type(handler).__name__}")
    called = _called_function(handler)
    if inspect.isasyncgenfunction(called) or inspect.isgeneratorfunction(called):
        raise DefinitionError(f"handler at {location} is a generator; a job returns one result")
    name = _job_name(handler, settings.get("name"), location)
    _check_settings(settings, name)
    retry = settings.get("retry")
    docstring = _docstring(handler)
    parameters = _parameters(handler, name, has_input=declared_input is not None, has_meta=declared_meta is not None)
    return Definition(
        name=name,
        aliases=_names(settings.get("aliases", ()), "aliases"),
        handler=handler,
        parameters=parameters,
        is_async=inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(called),
        input=None if declared_input is None else Codec(declared_input, label=f"{name}: input"),
        meta=None if declared_meta is None else Codec(declared_meta, label=f"{name}: meta"),
        result=ResultCodec(handler, job=name),
        retry=None if retry is None else _checks.instance(retry, Retry, argument="retry"),
        timeout=_duration(settings.get("timeout"), "timeout"),
        expires=_duration(settings.get("expires"), "expires"),
        queue=_checks.name(settings["queue"], argument="queue") if "queue" in settings else None,
        limit=_limit(settings.get("limit"), name, has_input=declared_input is not None),
        keep_completed=_duration(settings.get("keep_completed"), "keep_completed", zero=True),
        keep_failed=_duration(settings.get("keep_failed"), "keep_failed", zero=True),
        description=settings.get("description") or docstring or "",
        docstring=docstring,
        tags=_names(settings.get("tags", ()), "tags"),
        location=location,
    )


def _duration(value: object, argument: str, *, zero: bool = False) -> timedelta | None:
    return None if value is None else duration(value, argument=argument, zero=zero)


def _limit(given: object, name: str, *, has_input: bool) -> Limit[Any] | None:
    if given is None:
        return None
    limit: Limit[Any] = _checks.instance(given, Limit, argument="limit")
    if limit.by is not None and not has_input:
        raise DefinitionError(f"{name}: a job without input has no `by` in its limit")
    return limit


def _job_name(handler: object, given: object, location: str) -> str:
    name = given if given is not None else getattr(handler, "__name__", None)
    if given is None and (not isinstance(name, str) or not name.isidentifier()):
        raise DefinitionError(f"the job at {location} needs a name of its own: @job(..., name='...')")
    return _checks.name(name, argument="name")


def _docstring(handler: Callable[..., Any]) -> str | None:
    # A partial has the docstring of `functools.partial`.
    return inspect.getdoc(handler.func if isinstance(handler, functools.partial) else handler)


def _check_settings(settings: Settings, name: str) -> None:
    unknown = sorted(settings.keys() - _SETTINGS)
    if unknown:
        raise DefinitionError(f"{name}: @job takes {', '.join(sorted(_SETTINGS))} and meta, not {', '.join(unknown)}")
    _checks.instance(settings.get("description", ""), str, argument=f"{name}: description")


def _parameters(handler: Callable[..., Any], name: str, *, has_input: bool, has_meta: bool) -> frozenset[str]:
    found: set[str] = set()
    try:
        signature = inspect.signature(handler)
    except ValueError:
        raise DefinitionError(
            f"{name}: the parameters of this handler cannot be inspected; wrap it in a function of your own"
        ) from None
    bound = handler.keywords if isinstance(handler, functools.partial) else {}
    for parameter in signature.parameters.values():
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD} or parameter.name in bound:
            continue
        _check_parameter(parameter, name)
        found.add(parameter.name)
    if has_input and "input" not in found:
        raise DefinitionError(f"{name}: an input type is declared, but the handler takes no parameter `input`")
    if not has_input and "input" in found:
        raise DefinitionError(f"{name}: the handler takes `input`; declare its type: @job(Model)")
    if not has_meta and "meta" in found:
        raise DefinitionError(f"{name}: the handler takes `meta`; declare its type: @job(..., meta=Model)")
    return frozenset(found)


def _check_parameter(parameter: inspect.Parameter, job: str) -> None:
    name, default = parameter.name, parameter.default
    if name not in HANDLER_PARAMETERS:
        raise DefinitionError(f"{job}: a handler takes input, ctx and meta, not {name!r}; put the rest in ctx")
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise DefinitionError(f"{job}: a handler takes {name} by name, so it cannot be positional-only")
    if default is not parameter.empty and (name != "meta" or default is not None):
        allowed = " but None" if name == "meta" else ""
        raise DefinitionError(f"{job}: a handler is always given {name}, so it takes no default{allowed}")


def _called_function(handler: Callable[..., Any]) -> object:
    """Return the function that a call enters first: the wrapper, if the handler is wrapped by a decorator."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    return handler if inspect.isroutine(handler) else type(handler).__call__


def _location(handler: object) -> str:
    code = getattr(inspect.unwrap(handler) if callable(handler) else handler, "__code__", None)
    line = f" (line {code.co_firstlineno})" if code is not None else ""
    return f"{getattr(handler, '__module__', '?')}.{getattr(handler, '__qualname__', type(handler).__qualname__)}{line}"


def _names(given: object, argument: str) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise DefinitionError(f"{argument} must be a list of names, got {type(given).__name__}")
    return tuple(_checks.name(name, argument=argument) for name in cast("Sequence[object]", given))
