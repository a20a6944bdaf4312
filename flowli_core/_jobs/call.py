"""One call of a job: turned into a record or a schedule, and sent to the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any, cast

import uuid_utils
from pydantic import BaseModel

from flowli_core import _checks
from flowli_core._checks import internal
from flowli_core._jobs.arguments import BESIDE_INPUT, CallOptions, Fields, Given, Input, build_input, pack_input
from flowli_core._jobs.collector import count_batch
from flowli_core._jobs.declared_schedule import DeclaredSchedule
from flowli_core._jobs.definition import Definition
from flowli_core._jobs.key_options import NO_KEY_OPTIONS, KeyOptions
from flowli_core._jobs.limit import Limit
from flowli_core._jobs.records import JobRecord, Receipt, to_receipt, to_typed_record
from flowli_core._jobs.runtime import Runtime
from flowli_core._jobs.settings import JobSettings
from flowli_core._jobs.updates import JobUpdate, result_of, to_update
from flowli_core._jobs.watching import not_found
from flowli_core._schedules.spec import ScheduleSpec, derive_key
from flowli_core._wire.codec import Codec
from flowli_core._wire.keys import key_of_call
from flowli_core._wire.policy import Policy, pack_policy
from flowli_core._wire.trace import with_trace
from flowli_core.clock import SystemClock
from flowli_core.durations import ZERO, Duration, duration, format_duration
from flowli_core.errors import DriverError, Issue, StoreUnavailable, StrategyError, ValidationError
from flowli_core.lanes import Lane
from flowli_core.limits import MAX_ENQUEUE_RECORDS
from flowli_core.new_records import Disposition, NewRecord
from flowli_core.outbox import Transaction
from flowli_core.stored import FINISHED, State, StoredRecord

_KEEP_ID = timedelta(minutes=5)
"""An id that a caller gave stays taken for this time after its job has ended. Nobody repeats a call for so long."""

_KEEP_ID_OF_OUTBOX = timedelta(hours=1)
"""The same for the ids of jobs in an outbox: a process that dies may leave rows of jobs that it has sent."""

_CHECKED_AT_ONCE = 250
_OPTIONS = frozenset(
    {"meta", "queue", "key", "id", "retry", "timeout", "expires", "session", "delay"}
    | {field.name for field in fields(KeyOptions)}
)


@dataclass(slots=True, eq=False)
class Call:
    """A job, its runtime and the options of a call."""

    definition: Definition
    runtime: Runtime
    options: CallOptions

    def over(self, **options: Any) -> Call:
        """Return this call with these options over its own. Raises ValidationError for an invalid one."""
        combined = self.options.over(**options)
        if combined.queue is not None:
            self.runtime.check_queue(combined.queue)
        return replace(self, options=combined)

    def parse(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Call, Input]:
        """Return the input of a call, and this call with the options that were given beside the input."""
        codec = self.definition.input
        if len(args) != 1 or not (args[0] is None if codec is None else codec.is_value(args)):
            if codec is not None:
                self._refuse_options([name for name in kwargs if name in _OPTIONS and not codec.has_field(name)])
            return self, Fields(args, kwargs)
        if not kwargs.keys() <= BESIDE_INPUT:
            raise internal(
                ValidationError(
                    f"{self.definition.name}: after the input a call takes meta, queue and key, and nothing else; "
                    "give other options by options(...)"
                )
            )
        return self.over(**kwargs) if kwargs else self, Given(args[0])

    def _refuse_options(self, names: Sequence[str]) -> None:
        """Refuse options among the fields of an input. Raises ValidationError."""
        for name in names:
            job = self.definition.name
            cure = f'jobs.{job}.delay("5m", ...)' if name == "delay" else f"jobs.{job}.options({name}=...).enqueue(...)"
            raise ValidationError(f"{job}: {name} is an option of the call, not a field of its input: {cure}")

    async def run(self, input: Input) -> Any:
        """Validate the arguments, and call the handler with them. Raises ValidationError."""
        self._check_registered()
        definition, meta = self.definition, self.options.meta
        built = build_input(definition, input)
        checked = None if meta is None else _meta_codec(definition).check(meta)
        return await self.runtime.run(definition, input=built, meta=checked, queue=self.options.queue)

    def record(self, input: Input, due: timedelta | datetime) -> NewRecord:
        """Validate the arguments, and return the record of the call. Raises ValidationError."""
        self._check_registered()
        return make_record(self.definition, self.runtime.settings[self.definition.name], self.options, input, due=due)

    async def records(self, inputs: object) -> list[NewRecord]:
        """Return a record for each of many inputs. The error of an invalid one names its position.

        The event loop runs other tasks between batches of inputs.
        """
        job, kind = self.definition.name, type(inputs).__name__
        # A str, a model or a mapping can be iterated over, but is one input.
        if isinstance(inputs, str | bytes | BaseModel | Mapping) or not isinstance(inputs, Iterable):
            raise ValidationError(f"{job}: inputs must be a list of inputs, got {kind}")
        made: list[NewRecord] = []
        for index, value in enumerate(cast("Iterable[object]", inputs)):
            if index and not index % _CHECKED_AT_ONCE:
                await asyncio.sleep(0)
            try:
                made.append(self.record(Given(value), ZERO))
            except ValidationError as error:
                issues = [
                    Issue(f"[{index}]{'.' if issue.path else ''}{issue.path}", issue.problem) for issue in error.issues
                ]
                at_index = ValidationError(f"inputs[{index}]: {error}", issues)
                raise (internal(at_index) if error.is_internal else at_index) from None
        return made

    def spec(self, schedule: DeclaredSchedule[Any]) -> ScheduleSpec:
        """Return what is stored of a schedule of this job."""
        self._check_registered()
        return make_spec(schedule, self.runtime.settings[self.definition.name], self.options)

    async def read(self, receipt: str | Receipt[Any]) -> JobRecord[Any, Any, Any] | None:
        """Return a record of this job with validated values, or None. Raises ValidationError."""
        stored = await self.runtime.find_record(self.id_of(receipt))
        return None if stored is None else to_typed_record(stored, self.definition)

    def id_of(self, receipt: str | Receipt[Any]) -> str:
        """Return the id of a receipt, or a valid id itself. Raises ValidationError for a receipt of another job."""
        if not isinstance(receipt, Receipt):
            return _checks.record_id(receipt)
        if not self.definition.is_called(receipt.name):
            raise internal(ValidationError(f"{self.definition.name}: this is a receipt of the job {receipt.name!r}"))
        return receipt.id

    async def wait(self, receipt: str | Receipt[Any], *, timeout: Duration | None) -> Any:
        """Wait until a job has finished, and return its result. Raises its errors: see BoundJob.result."""
        record_id = self.id_of(receipt)
        limit = None if timeout is None else duration(timeout, argument="timeout", zero=True)
        scope = asyncio.timeout(limit.total_seconds() if limit else None)
        try:
            async with scope:
                stored = await self._read_end(record_id, may_wait=limit != ZERO)
        except TimeoutError:
            if not scope.expired():
                raise
            stored = None
        if stored is None:
            job, within = self.definition.name, format_duration(limit or ZERO)
            raise TimeoutError(f"{job}: the job {record_id} has not finished within {within}; it goes on")
        return result_of(stored, self.definition)

    async def _read_end(self, id: str, *, may_wait: bool) -> StoredRecord | None:
        """Return a record when it has finished, or None if it has not and this may not wait."""
        try:
            stored = await self.runtime.find_state(id)
            if stored is None:
                raise not_found(id)
            self._own(stored)
        except StoreUnavailable:
            if not may_wait:
                raise
        else:
            if stored.state in FINISHED:
                return stored
        if may_wait:
            async with aclosing(self._follow(id)) as records:
                async for stored in records:
                    if stored.state in FINISHED:
                        return stored
        return None

    async def updates(self, receipt: str | Receipt[Any]) -> AsyncGenerator[JobUpdate[Any]]:
        """Yield an update for the job as it is, and one after each change, until it has finished."""
        async with aclosing(self._follow(self.id_of(receipt))) as records:
            async for stored in records:
                yield to_update(stored, self.definition, typed=True)

    async def state(self, receipt: str | Receipt[Any]) -> JobUpdate[Any] | None:
        """Return the state of a job, or None if there is no such record. Raises ValidationError as `updates` does."""
        stored = await self.runtime.find_state(self.id_of(receipt))
        return None if stored is None else to_update(self._own(stored), self.definition, typed=True)

    async def _follow(self, id: str) -> AsyncGenerator[StoredRecord]:
        async with aclosing(self.runtime.follow(id)) as records:
            async for stored in records:
                yield self._own(stored)

    def _own(self, stored: StoredRecord) -> StoredRecord:
        """Return a record of this job. Raises ValidationError for one of another job."""
        if stored.damage is None and not self.definition.is_called(stored.name):
            raise ValidationError(f"{self.definition.name}: the record {stored.id} is one of the job {stored.name!r}")
        return stored

    async def send(self, records: Sequence[NewRecord]) -> list[Receipt[Any]]:
        """Store records in batches of 250 or 1 MiB; each batch is stored whole or not at all."""
        tracer = self.runtime.tracer
        if tracer is None:
            return await self._send(records)
        with tracer.enqueueing(self.definition.name, [(record.id, record.queue) for record in records]) as trace:
            return await self._send(records, trace)

    async def _send(self, records: Sequence[NewRecord], trace: bytes = b"") -> list[Receipt[Any]]:
        if self.options.session is not None:
            return await self._send_with(self.options.session, records, trace)
        driver = await self.runtime.store()
        receipts: list[Receipt[Any]] = []
        while len(receipts) < len(records):
            rest = records[len(receipts) : len(receipts) + MAX_ENQUEUE_RECORDS]
            if trace:
                rest = [replace(record, meta=with_trace(record.meta, trace)) for record in rest]
            if receipts:
                await asyncio.sleep(0)  # Storing in memory does not wait for anything.
            batch = rest[: count_batch(rest)]
            try:
                answers = await self.runtime.collector.enqueue(driver, batch)
            except DriverError as error:
                error.ids = error.ids or tuple(record.id for record in batch)
                raise
            # A duplicate of an id that was made for this call can only come from this call: a client library sent it
            # twice.
            duplicate: Disposition = "accepted" if self.options.id is None else "duplicate"
            if self.options.id is not None and answers[0].disposition == "duplicate":
                await self._refuse_other_job(self.options.id)
            receipts += [to_receipt(self.definition.name, answer, duplicate) for answer in answers]
        return receipts

    async def _send_with(self, session: Transaction, records: Sequence[NewRecord], trace: bytes) -> list[Receipt[Any]]:
        """Store records in the transaction of a session."""
        stored = [
            replace(record, keep_id=max(record.keep_id, _KEEP_ID_OF_OUTBOX), meta=with_trace(record.meta, trace))
            for record in records
        ]
        await self.runtime.require_deliveries().add(session, stored)
        now = SystemClock().now()
        return [_outbox_receipt(record, now) for record in stored]

    async def _refuse_other_job(self, id: str) -> None:
        """Refuse an id whose record is one of another job: a receipt would say that this call was stored."""
        stored = await self.runtime.find_record(id)
        if stored is not None and not self.definition.is_called(stored.name):
            raise ValidationError(
                f"{self.definition.name}: the id {id} is that of a record of the job {stored.name!r}; "
                "begin the ids of each job with another prefix"
            )

    def _check_registered(self) -> None:
        if self.runtime.jobs.get(self.definition.name) is not self.definition:
            raise StrategyError(f"{self.definition.name!r} is not in this registry; make it an attribute of the class")


def _outbox_receipt(record: NewRecord, now: datetime) -> Receipt[Any]:
    due = record.due if isinstance(record.due, datetime) else now + record.due
    state: State = "scheduled" if due > now else "queued"
    return Receipt(id=record.id, name=record.name, state=state, scheduled_for=max(due, now), disposition="outbox")


def make_record(
    definition: Definition, settings: JobSettings, options: CallOptions, input: Input, *, due: timedelta | datetime
) -> NewRecord:
    """Validate the arguments, and return their record. Options override the job's settings. Raises ValidationError."""
    policy = settings.policy
    if options.retry is not None or options.timeout is not None:
        retry = options.retry or settings.retry
        timeout = options.timeout or settings.timeout
        policy = pack_policy(Policy(max_attempts=retry.max_attempts, backoff=retry.backoff, timeout=timeout))
    wire = pack_input(definition, input)
    record = NewRecord(
        id=options.id or str(uuid_utils.uuid7()),
        name=definition.name,
        queue=options.queue or settings.queue,
        input=wire,
        meta=None if options.meta is None else _meta_codec(definition).pack_value(options.meta),
        key=None if options.key is None else key_of_call(definition.name, options.key),
        due=due,
        expires=options.expires or settings.expires,
        policy=policy,
        max_recoveries=settings.max_recoveries,
        keep_completed=settings.keep_completed,
        keep_failed=settings.keep_failed,
        keep_id=ZERO if options.id is None else _KEEP_ID,
        lane=None if definition.limit is None else _lane(definition, definition.limit, wire),
    )
    return record if options.of_key == NO_KEY_OPTIONS else options.of_key.apply(record)


def _lane(definition: Definition, limit: Limit[Any], wire: bytes) -> Lane | None:
    """Return the lane of a call. Its limit sees the input as the handler does. Raises ValidationError."""
    if limit.by is None or definition.input is None:
        return limit.lane(definition.name, None)
    return limit.lane(definition.name, definition.input.unpack(wire))


def make_spec(schedule: DeclaredSchedule[Any], settings: JobSettings, options: CallOptions) -> ScheduleSpec:
    """Return what is stored of a schedule. Its own options override `options`. Raises ValidationError."""
    takes_key = options.key is None and options.of_key == NO_KEY_OPTIONS
    if not takes_key or options.id is not None or options.session is not None:
        raise internal(
            ValidationError(
                "a schedule has its own key, makes the ids of its jobs, and is stored at once: leave out options(key=, "
                f"id=, session=, {'=, '.join(field.name for field in fields(KeyOptions))}=)"
            )
        )
    if isinstance(options.expires, datetime):
        raise internal(
            ValidationError(
                "a schedule makes many jobs, which expire at different times: give expires as a duration, such as "
                'options(expires="10m")'
            )
        )
    options = options.over(meta=schedule.options.meta, retry=schedule.options.retry)
    record = make_record(schedule.definition, settings, options, Given(schedule.input), due=ZERO)
    spec = ScheduleSpec(
        key=schedule.key or "",
        timing=schedule.timing,
        missed=schedule.missed,
        overlap=schedule.overlap,
        record=replace(record, id=""),
    )
    return replace(spec, key=derive_key(spec)) if schedule.key is None else spec


def _meta_codec(definition: Definition) -> Codec[Any]:
    if definition.meta is None:
        raise internal(ValidationError(f"{definition.name} takes no meta; declare it: @job(..., meta=Model)"))
    return definition.meta
