"""Jobs as users see them: `Job`, the declaration, and `BoundJob`, the job of a registry (`jobs.send_email`)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeVar, cast, overload

from flowli_core._checks import instance, internal
from flowli_core._jobs.arguments import CallOptions
from flowli_core._jobs.call import Call
from flowli_core._jobs.declared_schedule import DeclaredSchedule, declare_schedule
from flowli_core._jobs.definition import JobBase
from flowli_core._jobs.key_options import OnConflict
from flowli_core._jobs.records import JobRecord, Receipt, ScheduleReceipt
from flowli_core._jobs.registry import Jobs, runtime_of
from flowli_core._jobs.updates import JobUpdate
from flowli_core._schedules.changes import upsert
from flowli_core._schedules.spec import next_runs
from flowli_core._schedules.timing import Missed, Overlap
from flowli_core.clock import SystemClock
from flowli_core.durations import ZERO, Duration, When, due
from flowli_core.errors import SchedulingError, ValidationError
from flowli_core.outbox import Transaction
from flowli_core.retry import Retry

P = ParamSpec("P")
In = TypeVar("In")
M = TypeVar("M")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")
C_contra = TypeVar("C_contra", contravariant=True)

_NO_OPTIONS = CallOptions()
_NO_DELAY = object()


@dataclass(frozen=True)
class NoMeta:
    """The type of meta of a job that declares no meta. Neither its calls nor its handler take any.

    A dataclass, so that `JobRecord[Report, NoMeta, str]` can be a response type.
    """


class Job(JobBase, Generic[C_contra, P, In, M, R_co]):
    """A declared job, made by `@job(...)`. It is immutable and belongs to no registry.

    Read from an instance of a registry that has it as an attribute, it becomes the `BoundJob` of that registry.
    """

    @overload
    def __get__(
        self: Job[C_contra, P, In, M, Awaitable[T]], instance: Jobs[C_contra], owner: type[Any]
    ) -> BoundJob[P, In, M, T]: ...
    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, instance: Jobs[C_contra], owner: type[Any]) -> BoundJob[P, In, M, R_co]: ...
    def __get__(self, instance: Jobs[Any] | None, owner: type[Any]) -> object:
        return self if instance is None else self.on(instance)

    @overload
    def on(self: Job[C_contra, P, In, M, Awaitable[T]], jobs: Jobs[C_contra], /) -> BoundJob[P, In, M, T]: ...
    @overload
    def on(self, jobs: Jobs[C_contra], /) -> BoundJob[P, In, M, R_co]: ...
    def on(self, jobs: Jobs[Any], /) -> BoundJob[Any, Any, Any, Any]:
        """Bind this job to a registry that has it, in code that knows no more of the registry than its context."""
        return BoundJob(Call(self.definition, runtime_of(jobs), _NO_OPTIONS))

    # fmt: off
    @overload
    def scheduled(self: Job[C_contra, P, None, M, R_co], key: str | None = None, *, cron: str, timezone: str = ...,
                  meta: M | None = ..., missed: Missed = ..., overlap: Overlap = ..., start: datetime | None = ...,
                  end: datetime | None = ..., retry: Retry | None = ...) -> DeclaredSchedule[C_contra]: ...
    @overload
    def scheduled(self: Job[C_contra, P, None, M, R_co], key: str | None = None, *, every: Duration,
                  meta: M | None = ..., missed: Missed = ..., overlap: Overlap = ..., start: datetime | None = ...,
                  end: datetime | None = ..., retry: Retry | None = ...) -> DeclaredSchedule[C_contra]: ...
    @overload
    def scheduled(self, key: str | None = None, *, input: In, cron: str, timezone: str = ...,
                  meta: M | None = ..., missed: Missed = ..., overlap: Overlap = ..., start: datetime | None = ...,
                  end: datetime | None = ..., retry: Retry | None = ...) -> DeclaredSchedule[C_contra]: ...
    @overload
    def scheduled(self, key: str | None = None, *, input: In, every: Duration,
                  meta: M | None = ..., missed: Missed = ..., overlap: Overlap = ..., start: datetime | None = ...,
                  end: datetime | None = ..., retry: Retry | None = ...) -> DeclaredSchedule[C_contra]: ...
    # fmt: on
    def scheduled(self, key: str | None = None, *, input: Any = None, **options: Any) -> DeclaredSchedule[C_contra]:
        """Declare a schedule in code, for the `schedules` of a registry. Takes what `BoundJob.schedule` takes.

        A worker registers it when it starts. Raises SchedulingError for an invalid rule. The registry checks its input
        and its meta.
        """
        return declare_schedule(self.definition, key, input=input, **options)


class BoundJob(Generic[P, In, M, R]):
    """A job of a registry. Each call takes the input itself, or the fields that make it.

    Calls raise ValidationError for invalid arguments, StrategyError if the registry has no driver or is closed, and
    DriverError if the store fails. Nothing is stored unless the whole call is valid.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self.__doc__ = call.definition.docstring

    def __repr__(self) -> str:
        return f"<job {self._call.definition.name} of {self._call.runtime.owner}>"

    if not TYPE_CHECKING:  # type checkers refuse this use

        def __call__(self, *_: object, **__: object) -> object:
            """Refuse to be called like the handler."""
            job = self._call.definition.name
            raise TypeError(
                f"a job is not called itself: await jobs.{job}.run(...) runs it here, and jobs.{job}.enqueue(...) "
                "stores the call for a worker"
            )

    def options(
        self,
        *,
        meta: M | None = None,
        queue: str | None = None,
        key: str | None = None,
        id: str | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        expires: When | None = None,
        session: Transaction | None = None,
        on_conflict: OnConflict | None = None,
        debounce: Duration | None = None,
        max_wait: Duration | None = None,
        unique_for: Duration | None = None,
    ) -> Self:
        """Return this job with options for its next calls. They override those of the job and of the registry.

        This is also the way to give options together with fields: `jobs.send.options(key="k").enqueue(to="ada")`.

        `key` is an idempotency key: while an unfinished record of this job has it, `enqueue` returns the receipt of
        that record. With `unique_for="24h"`, it also does so for this long after a record was created that has
        completed. With `on_conflict="replace"`, a record that waits takes the input, the options and the due time of
        this call, but keeps its id. If the other one is running, this call is stored and waits until that has finished.
        `debounce="5s"` runs the job 5 s after the last call with the key, with its input; `max_wait="1m"` says that it
        runs at most a minute after the first. Calls count in the order in which they reach the store. So if the sending
        of a call has to be repeated, it may replace a later one, or run again after the record that it replaced.

        `id` is the id of the record, unique among all jobs: enqueueing it again stores nothing. A `queue`
        that no job declares is served only by workers that list it. `retry` may set `max_attempts` and `backoff`;
        `retry_on` and `give_up_on` belong to `@job(...)`. A job that has not begun by `expires`, an aware datetime or a
        duration from when it is due, is cancelled instead of run. `run` uses `meta` and `queue`, and ignores the rest.

        With a `session` of SQLAlchemy, the job exists if and only if the transaction of the session commits: see
        `flowli_core.sqlalchemy`. The receipt has the disposition "outbox", and `result` finds the job after the commit.
        """
        call = self._call.over(
            meta=meta,
            queue=queue,
            key=key,
            id=id,
            retry=retry,
            timeout=timeout,
            expires=expires,
            session=session,
            on_conflict=on_conflict,
            debounce=debounce,
            max_wait=max_wait,
            unique_for=unique_for,
        )
        return type(self)(call)

    @overload
    async def run(self, input: In, /, *, meta: M | None = ...) -> R: ...
    @overload
    async def run(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
    async def run(self, *args: Any, **kwargs: Any) -> Any:
        """Call the handler in this process and return its result, or raise its error. Needs no driver.

        The `limit` of the job does not count here.
        """
        call, given = self._call.parse(args, kwargs)
        return await call.run(given)

    @overload
    async def enqueue(
        self, input: In, /, *, meta: M | None = ..., queue: str | None = ..., key: str | None = ...
    ) -> Receipt[R]: ...
    @overload
    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Receipt[R]: ...
    async def enqueue(self, *args: Any, **kwargs: Any) -> Receipt[R]:
        """Store a call, for a worker to run as soon as one is free. Once this returns, the job runs at least once."""
        call, given = self._call.parse(args, kwargs)
        (receipt,) = await call.send([call.record(given, ZERO)])
        return receipt

    @overload
    async def delay(
        self, delay: When, input: In, /, *, meta: M | None = ..., queue: str | None = ..., key: str | None = ...
    ) -> Receipt[R]: ...
    @overload
    async def delay(self, delay: When, /, *args: P.args, **kwargs: P.kwargs) -> Receipt[R]: ...
    async def delay(self, delay: Any = _NO_DELAY, /, *args: Any, **kwargs: Any) -> Receipt[R]:
        """Store a call that becomes due after `delay`: a duration, or an aware datetime (one in the past means now).

        Raises SchedulingError if `delay` is neither.
        """
        if delay is _NO_DELAY:
            raise internal(
                SchedulingError(
                    'delay takes a duration or a time before the input, such as delay("5m", ...), got none; '
                    "enqueue(...) runs the job as soon as possible"
                )
            )
        when = due(delay, argument="delay", now=SystemClock().now())
        call, given = self._call.parse(args, kwargs)
        (receipt,) = await call.send([call.record(given, when)])
        return receipt

    async def enqueue_many(
        self, inputs: Iterable[In], /, *, meta: M | None = None, queue: str | None = None
    ) -> tuple[Receipt[R], ...]:
        """Store many calls, 250 or 1 MiB per round trip. Return their receipts in the order of `inputs`.

        All inputs are checked before any is stored. What one round trip sends is stored completely or not at all.
        """
        call = self._call.over(meta=meta, queue=queue)
        if call.options.key is not None or call.options.id is not None:
            raise internal(ValidationError("enqueue_many takes no key and no id: they name one record"))
        return tuple(await call.send(await call.records(inputs)))

    async def get(self, receipt: str | Receipt[R], /) -> JobRecord[In, M, R] | None:
        """Return a stored call of this job, by its receipt or its id, or None if it is not, or no longer, in the store.

        Its input, meta and result are validated and have the declared types. Raises ValidationError if they do not fit
        these types any more, or if the record is one of another job; `jobs.inspect.get_job` reads any record.
        """
        return await self._call.read(receipt)

    async def result(self, receipt: str | Receipt[R], /, *, timeout: Duration | None = None) -> R:
        """Wait until a stored call of this job has finished, and return its result, validated as the declared type.

        Without a `timeout` it waits as long as it takes. While the store is unreachable, it goes on trying.

        Raises JobFailed or JobCancelled if the job ended so, RecordNotFound if there is no such record, TimeoutError
        after the `timeout` (the job goes on), and ValidationError if the record is one of another job, or its result
        does not fit the type any more.
        """
        return cast("R", await self._call.wait(receipt, timeout=timeout))

    def watch(self, receipt: str | Receipt[R], /) -> AsyncGenerator[JobUpdate[R]]:
        """Yield the state of a stored call of this job, and again after each change, until it has finished.

        A slow reader gets the last of several changes. Raises RecordNotFound if there is no such record, or none any
        more, and ValidationError as `result` does.
        """
        return self._call.updates(receipt)

    # fmt: off
    @overload
    async def schedule(self: BoundJob[P, None, M, R], key: str | None = None, *, cron: str, timezone: str = ...,
                       meta: M | None = ..., missed: Missed = ..., overlap: Overlap = ..., start: datetime | None = ...,
                       end: datetime | None = ..., retry: Retry | None = ...) -> ScheduleReceipt: ...
    @overload
    async def schedule(self: BoundJob[P, None, M, R], key: str | None = None, *, every: Duration,
                       meta: M | None = ..., missed: Missed = ..., overlap: Overlap = ..., start: datetime | None = ...,
                       end: datetime | None = ..., retry: Retry | None = ...) -> ScheduleReceipt: ...
    @overload
    async def schedule(self, key: str | None = None, *, input: In, cron: str, timezone: str = ...,
                       meta: M | None = ..., missed: Missed = ..., overlap: Overlap = ..., start: datetime | None = ...,
                       end: datetime | None = ..., retry: Retry | None = ...) -> ScheduleReceipt: ...
    @overload
    async def schedule(self, key: str | None = None, *, input: In, every: Duration,
                       meta: M | None = ..., missed: Missed = ..., overlap: Overlap = ..., start: datetime | None = ...,
                       end: datetime | None = ..., retry: Retry | None = ...) -> ScheduleReceipt: ...
    # fmt: on
    async def schedule(self, key: str | None = None, *, input: Any = None, **given: Any) -> ScheduleReceipt:
        """Run the job again and again: `cron="0 8 * * *", timezone="Europe/Paris"`, or `every="15m"`.

        The schedule is identified by its key. Without one, the key is made of the job, its input and its rule.
        Registering an identical schedule again changes nothing, so a deploy neither skips nor repeats a run. If the
        rule has changed, the next run is computed from now. Any worker can fire the schedule, and each tick fires
        exactly once. Options given by `options(...)` apply to the jobs that it makes.

        `start` and `end`: aware datetimes, the first and the last possible tick. An interval is counted from `start`.
        `missed`: what to do with ticks that came due while no worker was running. "once" (the default) makes one job
        for all of them, "skip" makes none, "all" makes one for each, `AllMissed(limit=...)` for at most so many. A tick
        that is at most a minute late is not missed.
        `overlap="skip"`: make no job while that of an earlier tick is unfinished.
        `retry`: as in `options`.

        Raises SchedulingError for a rule that is invalid or never fires.
        """
        spec = self._call.spec(declare_schedule(self._call.definition, key, input=input, **given))
        disposition, stored = await upsert(await self._call.runtime.store(), spec)
        name = spec.record.name
        return ScheduleReceipt(key=spec.key, name=name, disposition=disposition, next_runs=next_runs(stored))


def call_of(job: BoundJob[Any, Any, Any, Any]) -> Call:
    """Return the call behind a job of a registry. Raises DefinitionError for anything else."""
    instance(job, BoundJob, argument="job")
    return job._call  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - private, so that users do not see it
