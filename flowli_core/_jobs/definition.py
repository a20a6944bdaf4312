"""What a decorated handler becomes: checked once, at import, and never changed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypedDict, cast

from flowli_core import _checks
from flowli_core._wire.codec import Codec
from flowli_core.durations import Duration, duration
from flowli_core.errors import DefinitionError
from flowli_core.retry import Retry

HANDLER_PARAMETERS = frozenset({"input", "ctx", "meta"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A job as the runtime sees it. `parameters` are those of input, ctx and meta that the handler takes."""

    name: str
    handler: Callable[..., Any]
    parameters: frozenset[str]
    is_async: bool
    input: Codec[Any] | None
    meta: Codec[Any] | None
    retry: Retry | None
    timeout: timedelta | None
    queue: str | None
    keep_completed: timedelta | None
    keep_failed: timedelta | None
    description: str
    tags: tuple[str, ...]
    location: str

    def complete(self) -> None:
        """Resolve what its types named before it was defined. Raises DefinitionError where that still is not."""
        for codec in (self.input, self.meta):
            if codec is not None:
                codec.complete()


class Settings(TypedDict, total=False):
    """What `@job` takes beside the types; what is left out follows the runtime's `Defaults`.

    `name` is the handler's own unless given. `keep_completed` and `keep_failed` say how long finished records are kept;
    `description` is the handler's docstring unless given.
    """

    name: str
    retry: Retry
    timeout: Duration
    queue: str
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


def define(handler: object, *, declared_input: object, declared_meta: object, settings: Settings) -> Definition:
    """Check a handler and what is declared about it. Raises DefinitionError."""
    location = _location(handler)
    if not callable(handler):
        raise DefinitionError(f"a job's handler must be a function, got {type(handler).__name__}")
    if any(inspect.isasyncgenfunction(called) or inspect.isgeneratorfunction(called) for called in _called(handler)):
        raise DefinitionError(f"handler at {location} is a generator; a job returns one result")
    name = _job_name(handler, settings.get("name"), location)
    _check_settings(settings, name)
    retry = settings.get("retry")
    parameters = _parameters(handler, name, has_input=declared_input is not None, has_meta=declared_meta is not None)
    return Definition(
        name=name,
        handler=handler,
        parameters=parameters,
        is_async=_is_async(handler),
        input=None if declared_input is None else Codec(declared_input, label=f"{name}: input"),
        meta=None if declared_meta is None else Codec(declared_meta, label=f"{name}: meta"),
        retry=None if retry is None else _checks.instance(retry, Retry, argument="retry"),
        timeout=optional_duration(settings.get("timeout"), "timeout"),
        queue=_checks.name(settings["queue"], argument="queue") if "queue" in settings else None,
        keep_completed=optional_duration(settings.get("keep_completed"), "keep_completed", zero=True),
        keep_failed=optional_duration(settings.get("keep_failed"), "keep_failed", zero=True),
        description=settings.get("description") or inspect.getdoc(handler) or "",
        tags=_tags(settings.get("tags", ())),
        location=location,
    )


def optional_duration(value: object, argument: str, *, zero: bool = False) -> timedelta | None:
    """Accept a duration or nothing. Raises DefinitionError."""
    return None if value is None else duration(value, argument=argument, zero=zero)


def _job_name(handler: object, given: object, location: str) -> str:
    name = given if given is not None else getattr(handler, "__name__", None)
    if given is None and (not isinstance(name, str) or not name.isidentifier()):
        raise DefinitionError(f"the job at {location} needs a name of its own: @job(..., name='...')")
    return _checks.name(name, argument="name")


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
            f"{name}: the parameters of this handler cannot be seen; wrap it in a function of your own"
        ) from None
    for parameter in signature.parameters.values():
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
            continue
        if parameter.name in HANDLER_PARAMETERS and parameter.kind is not parameter.POSITIONAL_ONLY:
            if parameter.default is not parameter.empty:
                raise DefinitionError(f"{name}: {parameter.name} is always given to a handler; it takes no default")
            found.add(parameter.name)
        elif parameter.default is parameter.empty:
            raise DefinitionError(f"{name}: a handler takes input, ctx and meta by name, not {parameter.name!r}")
    if has_input and "input" not in found:
        raise DefinitionError(f"{name}: an input type is declared, but the handler takes no parameter `input`")
    if not has_input and "input" in found:
        raise DefinitionError(f"{name}: the handler takes `input`; declare its type: @job(Model)")
    if not has_meta and "meta" in found:
        raise DefinitionError(f"{name}: the handler takes `meta`; declare its type: @job(..., meta=Model)")
    return frozenset(found)


def _is_async(handler: Callable[..., Any]) -> bool:
    return any(map(inspect.iscoroutinefunction, _called(handler)))


def _called(handler: Callable[..., Any]) -> tuple[object, ...]:
    """What a call may run: the function itself, the one that a decorator wrapped, the `__call__` of an object."""
    return (handler, inspect.unwrap(handler), getattr(handler, "__call__", None))  # noqa: B004 - for its kind


def _location(handler: object) -> str:
    code = getattr(inspect.unwrap(handler) if callable(handler) else handler, "__code__", None)
    where = f" (line {code.co_firstlineno})" if code is not None else ""
    return (
        f"{getattr(handler, '__module__', '?')}.{getattr(handler, '__qualname__', type(handler).__qualname__)}{where}"
    )


def _tags(tags: object) -> tuple[str, ...]:
    if isinstance(tags, str) or not isinstance(tags, Sequence):
        raise DefinitionError(f"tags must be a list of names, got {type(tags).__name__}")
    return tuple(_checks.name(tag, argument="tags") for tag in cast("Sequence[object]", tags))
