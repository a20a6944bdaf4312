"""Jobs as a user holds them: `Job`, the declaration, and `BoundJob`, what `jobs.send_email` is."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from datetime import datetime
from typing import Any, Generic, ParamSpec, Self, TypedDict, TypeVar, Unpack, overload

from flowli_core._jobs.call import Call, CallOptions
from flowli_core._jobs.definition import Declared, DeclaredSchedule, Definition
from flowli_core._jobs.records import Receipt, ScheduleReceipt
from flowli_core._jobs.registry import Jobs, runtime_of
from flowli_core._jobs.runtime import Runtime
from flowli_core._schedules import Missed, Overlap, rule_from
from flowli_core._schedules.changes import place
from flowli_core._schedules.spec import Planned, next_runs
from flowli_core.clock import SystemClock
from flowli_core.durations import ZERO, Duration, When, due
from flowli_core.errors import ValidationError
from flowli_core.retry import Retry

P = ParamSpec("P")
In = TypeVar("In")
M = TypeVar("M")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")
C_contra = TypeVar("C_contra", contravariant=True)

_NO_OPTIONS = CallOptions()


class ScheduleOptions(TypedDict, Generic[M], total=False):
    """What a schedule takes beside its rule and its input.

    `missed`: what becomes of ticks that no runner was there for: "once" (one job for all of them, the default), "skip",
    "all", or `AllMissed(limit=...)`. A tick that is noticed within a minute is not missed.
    `overlap="skip"`: no job while the one of an earlier tick is unfinished.
    `start` and `end`: aware datetimes, the first and the last at which there may be a tick. An
    interval begins at `start`.
    `retry`: of the jobs, as in `options`.
    """

    meta: M | None
    missed: Missed
    overlap: Overlap
    start: datetime | None
    end: datetime | None
    retry: Retry | None


class NoMeta:
    """The meta of a job that declares none: neither its calls nor its handler take any."""


class Job(Declared, Generic[C_contra, P, In, M, R_co]):
    """A declared job: what it takes, what it asks of its context, what it gives. Immutable, and bound to no runtime.

    As an attribute of a registry it gives the `BoundJob` of that registry. Made by `@job(...)`.
    """

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(
        self: Job[C_contra, P, In, M, Awaitable[T]], instance: Jobs[C_contra], owner: type[Any]
    ) -> BoundJob[P, In, M, T]: ...
    @overload
    def __get__(self, instance: Jobs[C_contra], owner: type[Any]) -> BoundJob[P, In, M, R_co]: ...
    def __get__(self, instance: Jobs[Any] | None, owner: type[Any]) -> object:
        return self if instance is None else self.on(instance)

    @overload
    def on(self: Job[C_contra, P, In, M, Awaitable[T]], jobs: Jobs[C_contra], /) -> BoundJob[P, In, M, T]: ...
    @overload
    def on(self, jobs: Jobs[C_contra], /) -> BoundJob[P, In, M, R_co]: ...
    def on(self, jobs: Jobs[Any], /) -> BoundJob[Any, Any, Any, Any]:
        """Bind to a registry that holds this job, where the attribute is not at hand."""
        return BoundJob(Call(self.definition, runtime_of(jobs), _NO_OPTIONS))

    @overload
    def scheduled(
        self: Job[C_contra, P, None, M, R_co],
        key: str | None = None,
        *,
        cron: str,
        timezone: str = ...,
        **options: Unpack[ScheduleOptions[M]],
    ) -> DeclaredSchedule: ...
    @overload
    def scheduled(
        self: Job[C_contra, P, None, M, R_co],
        key: str | None = None,
        *,
        every: Duration,
        **options: Unpack[ScheduleOptions[M]],
    ) -> DeclaredSchedule: ...
    @overload
    def scheduled(
        self,
        key: str | None = None,
        *,
        cron: str,
        input: In,
        timezone: str = ...,
        **options: Unpack[ScheduleOptions[M]],
    ) -> DeclaredSchedule: ...
    @overload
    def scheduled(
        self, key: str | None = None, *, every: Duration, input: In, **options: Unpack[ScheduleOptions[M]]
    ) -> DeclaredSchedule: ...
    def scheduled(self, key: str | None = None, *, input: Any = None, **given: Any) -> DeclaredSchedule:
        """Declare a schedule, for a registry's `schedules`: what `schedule` takes, registered as a runner starts.

        Raises SchedulingError; the rest of it is checked where the registry is declared.
        """
        return _Scheduled(self.definition, key, input=input, given=given)


class BoundJob(Generic[P, In, M, R_co]):
    """A job of a registry. Each call takes the declared input itself, or the fields that make it.

    What a call can raise: ValidationError for its arguments, StrategyError where the runtime has no driver or is
    closed, DriverError where the store fails. Nothing is written unless all of a call is valid.
    """

    __slots__ = ("_call",)

    def __init__(self, call: Call) -> None:
        self._call = call

    def options(
        self,
        *,
        meta: M | None = None,
        queue: str | None = None,
        key: str | None = None,
        id: str | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
    ) -> Self:
        """Answer this job with options for its next calls; they go before the job's own and the runtime's.

        While an unfinished record of this job holds `key`, enqueueing answers that record's receipt. `id` makes
        enqueueing repeatable: sent twice it adds one; ids are common to all jobs. A `queue` that no job declares is
        served only by runners that are told to. Of `retry` a record keeps `max_attempts` and `backoff`; rules about
        exceptions belong to the definition. `run` looks at `meta` and `queue` alone.
        """
        call = self._call
        options = call.options.over(meta=meta, queue=queue, key=key, id=id, retry=retry, timeout=timeout)
        return type(self)(Call(call.definition, call.runtime, options))

    @overload
    async def run(self, input: In, /, *, meta: M | None = ...) -> R_co: ...
    @overload
    async def run(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    async def run(self, *args: Any, **kwargs: Any) -> Any:
        """Call the handler here and now, and answer its result or raise its error. Needs no driver."""
        call, fields = self._call.split(args, kwargs)
        return await call.run(args, fields)

    @overload
    async def enqueue(
        self, input: In, /, *, meta: M | None = ..., queue: str | None = ..., key: str | None = ...
    ) -> Receipt: ...
    @overload
    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Receipt: ...
    async def enqueue(self, *args: Any, **kwargs: Any) -> Receipt:
        """Store a call, to be run by a worker as soon as one is free. From its return on, it is run at least once."""
        call, fields = self._call.split(args, kwargs)
        (receipt,) = await call.send([call.record(args, fields, ZERO)])
        return receipt

    @overload
    async def delay(
        self, delay: When, input: In, /, *, meta: M | None = ..., queue: str | None = ..., key: str | None = ...
    ) -> Receipt: ...
    @overload
    async def delay(self, delay: When, /, *args: P.args, **kwargs: P.kwargs) -> Receipt: ...
    async def delay(self, delay: When, /, *args: Any, **kwargs: Any) -> Receipt:
        """Store a call that is due after `delay`: a duration, or an aware datetime (one in the past means now).

        Raises SchedulingError for what is neither.
        """
        when = due(delay, argument="delay", now=SystemClock().now())
        call, fields = self._call.split(args, kwargs)
        (receipt,) = await call.send([call.record(args, fields, when)])
        return receipt

    async def enqueue_many(
        self, inputs: Iterable[In], /, *, meta: M | None = None, queue: str | None = None
    ) -> list[Receipt]:
        """Store many calls in one round trip per thousand; answer in their order.

        All are checked before any is stored. Each thousand is stored whole or not at all.
        """
        call = Call(self._call.definition, self._call.runtime, self._call.options.over(meta=meta, queue=queue))
        if call.options.key is not None or call.options.id is not None:
            raise ValidationError("enqueue_many takes no key and no id: they name one record")
        return await call.send(call.records(inputs))

    @overload
    async def schedule(
        self: BoundJob[P, None, M, R_co],
        key: str | None = None,
        *,
        cron: str,
        timezone: str = ...,
        **options: Unpack[ScheduleOptions[M]],
    ) -> ScheduleReceipt: ...
    @overload
    async def schedule(
        self: BoundJob[P, None, M, R_co],
        key: str | None = None,
        *,
        every: Duration,
        **options: Unpack[ScheduleOptions[M]],
    ) -> ScheduleReceipt: ...
    @overload
    async def schedule(
        self,
        key: str | None = None,
        *,
        cron: str,
        input: In,
        timezone: str = ...,
        **options: Unpack[ScheduleOptions[M]],
    ) -> ScheduleReceipt: ...
    @overload
    async def schedule(
        self, key: str | None = None, *, every: Duration, input: In, **options: Unpack[ScheduleOptions[M]]
    ) -> ScheduleReceipt: ...
    async def schedule(self, key: str | None = None, *, input: Any = None, **given: Any) -> ScheduleReceipt:
        """Run the job again and again: `cron="0 8 * * *", timezone="Europe/Paris"`, or `every="15m"`.

        The key is the schedule's identity; without one it is named by what it is. Called again with the same definition
        it changes nothing, so a deploy at the due minute neither skips a tick nor doubles one; another rule counts from
        now. Its jobs are made by whatever runner is there, each tick once. What else is in `options(...)` holds for
        them. `ScheduleOptions` has the rest.

        Raises SchedulingError for a rule that cannot be or never fires, and what `enqueue` raises.
        """
        planned = self._call.planned(key, input=input, given=given)
        disposition, stored = await place(await self._call.runtime.store(), planned)
        name = planned.record.name
        return ScheduleReceipt(key=planned.key, name=name, disposition=disposition, next_runs=next_runs(stored))


class _Scheduled(DeclaredSchedule):
    """What `job.scheduled(...)` gives. `given` is checked where a registry is made of it."""

    def __init__(self, definition: Definition, key: object, *, input: object, given: dict[str, Any]) -> None:
        super().__init__(definition)
        self._key, self._input, self._given = key, input, given
        rule_from(cron=given.get("cron"), every=given.get("every"), timezone=given.get("timezone", "UTC"))

    def planned(self, runtime: Runtime) -> Planned:
        return Call(self.definition, runtime, _NO_OPTIONS).planned(self._key, input=self._input, given=self._given)
