"""Registries: `class AppJobs(Jobs[AppContext])`, the jobs of an application with their context and their driver."""

import inspect
import typing
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

from typing_extensions import TypeIs

from flowli_core import _checks
from flowli_core._current import running_registry
from flowli_core._jobs.arguments import CallOptions
from flowli_core._jobs.call import make_spec
from flowli_core._jobs.context import ContextScope, ContextSource, checkable_classes
from flowli_core._jobs.control import Control
from flowli_core._jobs.declared_schedule import DeclaredSchedule
from flowli_core._jobs.definition import Definition, JobBase, JobDecoratorBase
from flowli_core._jobs.execution import Middleware, check_middleware
from flowli_core._jobs.inspect import Inspect
from flowli_core._jobs.runtime import Runtime
from flowli_core._jobs.settings import Defaults, JobSettings, settings_of
from flowli_core._jobs.tracer import Tracer
from flowli_core._schedules.spec import ScheduleSpec
from flowli_core.driver import Driver
from flowli_core.errors import DefinitionError, StrategyError
from flowli_core.outbox import Outbox

C_co = TypeVar("C_co", covariant=True)


class Jobs(Generic[C_co]):
    """The base class of registries: a set of jobs with their context and their driver.

    A subclass has the jobs as attributes. It is checked when it is imported. Without a driver only `run` works.
    `async with jobs:` opens the context and the driver, and closes them at the end. Otherwise they are opened when they
    are first needed, and `aclose` closes them. `tracer` traces jobs from the call to the worker: see
    `flowli_core.tracing`. `middleware` are async functions, called around each execution, by `run` and by workers, the
    first outermost: see `Execution`.

    Raises DefinitionError for invalid options.
    """

    schedules: Sequence[DeclaredSchedule[C_co]] = ()
    """The schedules that are declared in code, made by `job.scheduled(...)`. A worker registers them when it starts."""

    queues: Sequence[str] = ()
    """The queues that calls may use beside those of the jobs: `options(queue="bulk")`. Workers serve them last."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # The defaults are not known here. They do not affect whether a schedule is valid.
        jobs = _declared_jobs(cls)
        _declared_schedules(cls, jobs, settings_of(jobs, Defaults()))
        _declared_queues(cls)

    def __init__(
        self,
        *,
        context: ContextSource[C_co],
        driver: Driver | None = None,
        defaults: Defaults | None = None,
        tracer: Tracer | None = None,
        middleware: Sequence[Middleware[C_co]] = (),
        outbox: Outbox | None = None,
    ) -> None:
        _check_driver(driver)
        defaults = Defaults() if defaults is None else _checks.instance(defaults, Defaults, argument="defaults")
        jobs = _declared_jobs(type(self))
        settings = settings_of(jobs, defaults)
        self._runtime = Runtime(
            jobs=jobs,
            settings=settings,
            queues=tuple(
                dict.fromkeys(
                    [*(job.queue for job in settings.values()), defaults.queue, *_declared_queues(type(self))]
                )
            ),
            schedules=_declared_schedules(type(self), jobs, settings),
            registry=self,
            owner=_owner(type(self)),
            driver=driver,
            context=ContextScope(context, expected=checkable_classes(_declared_context(type(self)))),
            defaults=defaults,
            tracer=_check_tracer(tracer),
            middleware=check_middleware(middleware),
            outbox=_check_outbox(outbox),
        )
        self._inspect = Inspect(self._runtime)
        self._control = Control(self._runtime)

    def __repr__(self) -> str:
        runtime = self._runtime
        return f"<{type(self).__qualname__} with {len(runtime.jobs)} jobs, on {runtime.driver!r}>"

    @classmethod
    def current(cls) -> Self:
        """Return the registry whose job is running, for a handler that calls other jobs.

        Raises StrategyError outside of a handler, and if the running job belongs to a registry of another class.
        """
        registry = running_registry()
        if isinstance(registry, cls):
            return registry
        name = cls.__qualname__
        if registry is None:
            raise StrategyError(
                f"{name}.current() was called outside of a job; elsewhere, use the instance that you have made"
            )
        raise StrategyError(f"{name}.current(): the running job belongs to {type(registry).__qualname__}")

    @property
    def inspect(self) -> Inspect:
        """Read the store."""
        return self._inspect

    @property
    def control(self) -> Control:
        """Act on stored jobs (cancel, requeue, purge) and on schedules (unschedule, pause, resume, trigger)."""
        return self._control

    async def aclose(self) -> None:
        """Close the context and the driver, if they were opened here. A second call does nothing."""
        await self._runtime.close()

    async def __aenter__(self) -> Self:
        try:
            await self._runtime.open()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def is_registry(value: object) -> TypeIs[Jobs[Any]]:
    """Return True for a registry with any context."""
    return isinstance(value, Jobs)


def runtime_of(jobs: Jobs[Any]) -> Runtime:
    """Return the runtime of a registry. Raises DefinitionError if `jobs` is not a registry."""
    given: object = jobs
    if not is_registry(given):
        raise DefinitionError(
            f"jobs must be an instance of a registry, such as AppJobs(context=...), got {_described(given)}"
        )
    return jobs._runtime  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - private, so that a job may have any public name


def _declared_jobs(cls: type[Jobs[Any]]) -> Mapping[str, Definition]:
    found: dict[str, tuple[str, Definition]] = {}
    for attribute, value in _attributes(cls).items():
        where = f"{cls.__qualname__}.{attribute}"
        if isinstance(value, JobDecoratorBase):
            raise DefinitionError(f"{where} is a @job(...) without its handler")
        if _is_assigned_function(cls, attribute, value):
            raise DefinitionError(f"{where} is a plain function; declare it with @job(...) first")
        if not isinstance(value, JobBase):
            continue
        _refuse_hidden(cls, attribute)
        definition = value.definition
        if definition.name in found:
            other, earlier = found[definition.name]
            if earlier is definition:
                raise DefinitionError(f"{where} is the same job as {other}; remove one")
            raise DefinitionError(
                f"{cls.__qualname__} has two jobs named {definition.name!r}: {other} ({earlier.location}) and "
                f"{attribute} ({definition.location}); give one of them another name: @job(..., name='...')"
            )
        definition.complete()
        found[definition.name] = (attribute, definition)
    jobs = {name: definition for name, (_, definition) in found.items()}
    _check_aliases(cls, jobs)
    _check_limits(cls, jobs)
    return jobs


def _check_limits(cls: type[Jobs[Any]], jobs: Mapping[str, Definition]) -> None:
    """Refuse two jobs whose limits have the same name and other numbers: each call would change those of the other."""
    found: dict[str, tuple[Definition, object]] = {}
    for job in jobs.values():
        if job.limit is None:
            continue
        name, numbers = job.limit.name or job.name, (job.limit.concurrency, job.limit.rate)
        other, expected = found.setdefault(name, (job, numbers))
        if numbers != expected:
            raise DefinitionError(
                f"{cls.__qualname__}: the limit {name!r} of {job.name!r} has another concurrency or rate than that of "
                f"{other.name!r}; give one of them another name: Limit(name='...')"
            )


def _check_aliases(cls: type[Jobs[Any]], jobs: Mapping[str, Definition]) -> None:
    owners: dict[str, str] = {name: name for name in jobs}
    for job in jobs.values():
        for alias in job.aliases:
            other = owners.setdefault(alias, job.name)
            if other != job.name:
                raise DefinitionError(f"{cls.__qualname__}: the alias {alias!r} of {job.name!r} also names {other!r}")


def _declared_queues(cls: type[Jobs[Any]]) -> tuple[str, ...]:
    where, given = f"{cls.__qualname__}.queues", _attributes(cls)["queues"]
    if not isinstance(given, list | tuple):
        cure = f"; write ({given!r},)" if isinstance(given, str) else ""
        raise DefinitionError(f"{where} must be a list of names, got {type(given).__name__}{cure}")
    names = cast("list[object] | tuple[object, ...]", given)
    return tuple(_checks.name(name, argument=where) for name in names)


def _declared_schedules(
    cls: type[Jobs[Any]], jobs: Mapping[str, Definition], settings: Mapping[str, JobSettings]
) -> tuple[ScheduleSpec, ...]:
    """Return the specs of the schedules that a class declares. Raises DefinitionError."""
    where, given = f"{cls.__qualname__}.schedules", _attributes(cls)["schedules"]
    if not isinstance(given, list | tuple):
        kind = type(given).__name__
        cure = "; write a comma after a single one" if isinstance(given, DeclaredSchedule) else ""
        raise DefinitionError(f"{where} must be a list of `job.scheduled(...)`, got {kind}{cure}")
    found: dict[str, ScheduleSpec] = {}
    for declared in cast("list[object] | tuple[object, ...]", given):
        if not isinstance(declared, DeclaredSchedule):
            raise DefinitionError(f"{where} takes what `job.scheduled(...)` returns, got {type(declared).__name__}")
        definition = declared.definition
        if jobs.get(definition.name) is not definition:
            raise DefinitionError(
                f"{where}: {definition.name!r} is not in this registry; make it an attribute of the class"
            )
        # isinstance cannot see the type parameter.
        spec = make_spec(declared, settings[definition.name], CallOptions())  # pyright: ignore[reportUnknownArgumentType]
        if spec.key in found:
            raise DefinitionError(f"{where} has two schedules with the key {spec.key!r}; give one of them another key")
        found[spec.key] = replace(spec, declared_by=_owner(cls))
    return tuple(found.values())


def _owner(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _attributes(cls: type) -> dict[str, object]:
    return {name: value for base in reversed(cls.__mro__) for name, value in vars(base).items()}


def _is_assigned_function(cls: type, attribute: str, value: object) -> bool:
    """Return True for a function that was defined outside of the class and assigned to it, so it is not a method."""
    if attribute.startswith("_") or not inspect.isfunction(value):
        return False
    return not any(value.__qualname__.startswith(f"{base.__qualname__}.") for base in cls.__mro__)


def _refuse_hidden(cls: type, attribute: str) -> None:
    if hasattr(Jobs, attribute) or attribute in {"_runtime", "_inspect", "_control"}:
        raise DefinitionError(
            f"{cls.__qualname__}.{attribute}: {attribute!r} is used by Jobs itself; give the job another attribute"
        )


def _declared_context(cls: type) -> object:
    """Return the type in `Jobs[...]`, or Any if there is none."""
    for base in cls.__mro__:
        for generic in cast("tuple[object, ...]", base.__dict__.get("__orig_bases__", ())):
            origin = typing.get_origin(generic)
            if isinstance(origin, type) and issubclass(origin, Jobs):
                return typing.get_args(generic)[0]
    return Any


def _check_driver(driver: object) -> None:
    if driver is not None and (isinstance(driver, type) or not callable(getattr(driver, "step", None))):
        kind = "the class itself" if isinstance(driver, type) else type(driver).__name__
        drivers = 'MemoryDriver(), SqliteDriver("jobs.db") or RedisDriver.from_url("redis://...")'
        raise DefinitionError(f"driver must be a driver such as {drivers}, got {kind}")


def _check_tracer(tracer: Tracer | None) -> Tracer | None:
    if tracer is not None and (isinstance(tracer, type) or not callable(getattr(tracer, "enqueueing", None))):
        raise DefinitionError(f"tracer must be an OpenTelemetry() of flowli_core.tracing, got {_described(tracer)}")
    return tracer


def _check_outbox(outbox: Outbox | None) -> Outbox | None:
    if outbox is not None and (isinstance(outbox, type) or not callable(getattr(outbox, "claim", None))):
        raise DefinitionError(f"outbox must be a SqlOutbox(engine, table), got {_described(outbox)}")
    return outbox


def _described(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
