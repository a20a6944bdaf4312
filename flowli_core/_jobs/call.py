"""One call of a job: its arguments checked, turned into a record, and sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, cast

import uuid_utils
from pydantic import BaseModel

from flowli_core import _checks
from flowli_core._jobs.definition import Definition
from flowli_core._jobs.records import Disposition, Receipt, receipt
from flowli_core._jobs.runtime import Runtime
from flowli_core._schedules import Timing, check_missed, check_overlap, rule_from
from flowli_core._schedules.spec import Planned, derived_key
from flowli_core._wire.codec import Codec
from flowli_core._wire.policy import Policy, pack_policy
from flowli_core._wire.trace import with_trace
from flowli_core.driver import NewRecord
from flowli_core.durations import ZERO, duration
from flowli_core.errors import DriverError, Issue, StrategyError, ValidationError
from flowli_core.retry import Retry

BESIDE_INPUT = frozenset({"meta", "queue", "key"})
"""What a call takes by name beside the input itself; the rest goes through `options(...)`."""

_OF_A_SCHEDULE = frozenset({"cron", "every", "timezone", "meta", "missed", "overlap", "start", "end", "retry"})

_BATCH = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """What a caller chose for its calls. Raises ValidationError for what cannot be."""

    meta: Any = None
    queue: str | None = None
    key: str | None = None
    id: str | None = None
    retry: Retry | None = None
    timeout: timedelta | None = None

    def over(self, **given: Any) -> CallOptions:
        """These options with those that are given (and not None) in their place, checked."""
        if given.get("retry") is not None:
            retry = _checks.instance(given["retry"], Retry, argument="retry", error=ValidationError)
            if retry.retry_on is not None or retry.give_up_on:
                raise ValidationError("options(retry=...) takes max_attempts and backoff; retry_on belongs to the job")
        if given.get("queue") is not None:
            _checks.name(given["queue"], argument="queue", error=ValidationError)
        if given.get("key") is not None:
            _checks.key(given["key"])
        if given.get("id") is not None:
            _checks.record_id(given["id"])
        if given.get("timeout") is not None:
            given["timeout"] = duration(given["timeout"], argument="timeout", error=ValidationError)
        return replace(self, **{name: value for name, value in given.items() if value is not None})


class Call:
    """A job, its runtime and the options of a call."""

    __slots__ = ("definition", "options", "runtime")

    def __init__(self, definition: Definition, runtime: Runtime, options: CallOptions) -> None:
        self.definition = definition
        self.runtime = runtime
        self.options = options

    def split(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Call, dict[str, Any]]:
        """Tell a call's own options from the fields of its input; answer the fields."""
        codec = self.definition.input
        if not (args == (None,) if codec is None else codec.is_value(args)):
            return self, kwargs
        unknown = sorted(kwargs.keys() - BESIDE_INPUT)
        if unknown:
            raise ValidationError(
                f"{self.definition.name}: beside an input a call takes meta, queue and key, not {', '.join(unknown)}"
            )
        return (Call(self.definition, self.runtime, self.options.over(**kwargs)) if kwargs else self), {}

    async def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the handler with validated arguments."""
        self._check_registered()
        codec = self.definition.input
        made = None
        if codec is None:
            self._refuse_input(args, kwargs)
        else:
            made = codec.check(args[0]) if codec.is_value(args) else codec.build(args, kwargs)
        codec = self._meta_codec()
        meta = None if codec is None else codec.check(self.options.meta)
        return await self.runtime.run(self.definition, input=made, meta=meta)

    def record(self, args: tuple[Any, ...], kwargs: dict[str, Any], due: timedelta | datetime) -> NewRecord:
        """Make a record of validated arguments."""
        self._check_registered()
        definition, options = self.definition, self.options
        plan = self.runtime.plans[definition.name]
        meta = self._meta_codec()
        policy = plan.policy
        if options.retry is not None or options.timeout is not None:
            retry = options.retry or plan.retry
            timeout = options.timeout or plan.timeout
            policy = pack_policy(Policy(max_attempts=retry.max_attempts, backoff=retry.backoff, timeout=timeout))
        return NewRecord(
            id=options.id or str(uuid_utils.uuid7()),
            name=definition.name,
            queue=options.queue or plan.queue,
            input=self._wire(args, kwargs),
            meta=None if meta is None else meta.pack_value(options.meta),
            key=None if options.key is None else f"{definition.name}:{options.key}",
            due=due,
            policy=policy,
            max_recoveries=plan.max_recoveries,
            keep_completed=plan.keep_completed,
            keep_failed=plan.keep_failed,
        )

    def planned(self, key: object, *, input: Any, given: dict[str, Any]) -> Planned:
        """Make a schedule of validated arguments; without a key it is named by what it is."""
        unknown = sorted(given.keys() - _OF_A_SCHEDULE)
        if unknown:
            taken = ", ".join(sorted(_OF_A_SCHEDULE))
            raise ValidationError(f"{self.definition.name}: a schedule takes {taken}, not {', '.join(unknown)}")
        if self.options.key is not None or self.options.id is not None:
            raise ValidationError(
                "a schedule has its own key, and makes the ids of its jobs: leave options(key=, id=) out"
            )
        call = Call(self.definition, self.runtime, self.options.over(meta=given.get("meta"), retry=given.get("retry")))
        timing = Timing(
            rule=rule_from(cron=given.get("cron"), every=given.get("every"), timezone=given.get("timezone", "UTC")),
            start=given.get("start"),
            end=given.get("end"),
        )
        planned = Planned(
            key="",
            timing=timing,
            missed=check_missed(given.get("missed", "once")),
            overlap=check_overlap(given.get("overlap", "allow")),
            record=replace(call.record((input,), {}, ZERO), id=""),
        )
        return replace(planned, key=derived_key(planned) if key is None else _checks.key(key))

    def records(self, inputs: object) -> list[NewRecord]:
        """Make a record of each of many inputs; what is wrong with one names its place among them."""
        several = _several(inputs)
        if several is None:
            raise ValidationError(
                f"{self.definition.name}: inputs must be a list of inputs, got {type(inputs).__name__}"
            )
        made: list[NewRecord] = []
        for index, value in enumerate(several):
            try:
                made.append(self.record((value,), {}, ZERO))
            except ValidationError as error:
                issues = [
                    Issue(f"[{index}]{'.' if issue.path else ''}{issue.path}", issue.problem) for issue in error.issues
                ]
                raise ValidationError(f"inputs[{index}]: {error}", issues) from None
        return made

    async def send(self, records: Sequence[NewRecord]) -> list[Receipt]:
        """Store records, each thousand of them whole or not at all."""
        tracer = self.runtime.tracer
        if tracer is None:
            return await self._send(records)
        with tracer.enqueueing(self.definition.name, [(record.id, record.queue) for record in records]) as trace:
            return await self._send([replace(record, meta=with_trace(record.meta, trace)) for record in records])

    async def _send(self, records: Sequence[NewRecord]) -> list[Receipt]:
        driver = await self.runtime.store()
        receipts: list[Receipt] = []
        for start in range(0, len(records), _BATCH):
            batch = records[start : start + _BATCH]
            try:
                answers = await self.runtime.outbox.enqueue(driver, batch)
            except DriverError as error:
                error.ids = error.ids or tuple(record.id for record in batch)
                raise
            # The id was made for this call, so where it is there already, a client has sent the call twice.
            duplicate: Disposition = "accepted" if self.options.id is None else "duplicate"
            receipts += [receipt(self.definition.name, answer, duplicate) for answer in answers]
        return receipts

    def _wire(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        codec = self.definition.input
        if codec is None:
            self._refuse_input(args, kwargs)
            return b"null"
        return codec.pack_value(args[0]) if codec.is_value(args) else codec.pack(args, kwargs)

    def _refuse_input(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if args not in ((), (None,)) or kwargs:
            raise ValidationError(f"{self.definition.name} takes no input")

    def _meta_codec(self) -> Codec[Any] | None:
        """What reads the meta of this call, where it has any."""
        if self.options.meta is None:
            return None
        if self.definition.meta is None:
            raise ValidationError(f"{self.definition.name} takes no meta; declare it: @job(..., meta=Model)")
        return self.definition.meta

    def _check_registered(self) -> None:
        if self.runtime.jobs.get(self.definition.name) is not self.definition:
            raise StrategyError(f"{self.definition.name!r} is not in this registry; make it an attribute of the class")


def _several(inputs: object) -> Iterable[object] | None:
    if isinstance(inputs, str | bytes | BaseModel | Mapping):
        return None  # One input, though it can be iterated over.
    return cast("Iterable[object]", inputs) if isinstance(inputs, Iterable) else None
