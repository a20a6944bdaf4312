"""The arguments of a call: the input in one of three forms, and the options."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeAlias

from flowli_core import _checks
from flowli_core._jobs.definition import Definition
from flowli_core._jobs.key_options import NO_KEY_OPTIONS, KeyOptions, OnConflict
from flowli_core.clock import SystemClock
from flowli_core.durations import Duration, When, due, duration
from flowli_core.errors import ValidationError
from flowli_core.outbox import Transaction
from flowli_core.retry import Retry

BESIDE_INPUT = frozenset({"meta", "queue", "key"})
"""The options that a call takes by name after the input itself. All others are given to `options(...)`."""


class Given(NamedTuple):
    """The input itself: `enqueue(Email(to="ada"))`. It is None if the job takes no input."""

    value: object


class Fields(NamedTuple):
    """The arguments of the input's constructor: `enqueue(to="ada")`."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Json(NamedTuple):
    """The input as JSON, stored as it was written: `flowli enqueue send_email '{"to": "ada"}'`."""

    wire: bytes


Input: TypeAlias = Given | Fields | Json


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """The options of a call."""

    meta: object = None
    queue: str | None = None
    key: str | None = None
    id: str | None = None
    retry: Retry | None = None
    timeout: timedelta | None = None
    expires: timedelta | datetime | None = None
    session: Transaction | None = None
    of_key: KeyOptions = NO_KEY_OPTIONS

    def over(
        self,
        *,
        meta: object = None,
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
    ) -> CallOptions:
        """Return these options, overridden by those that are given. Raises ValidationError for an invalid one."""
        return CallOptions(
            meta=self.meta if meta is None else meta,
            queue=self.queue if queue is None else _checks.name(queue, argument="queue", error=ValidationError),
            key=self.key if key is None else _checks.key(key),
            id=self.id if id is None else _call_id(id),
            retry=self.retry if retry is None else _call_retry(retry),
            timeout=self.timeout if timeout is None else duration(timeout, argument="timeout", error=ValidationError),
            expires=self.expires if expires is None else _call_expires(expires),
            session=self.session if session is None else session,
            of_key=self.of_key.over(
                on_conflict=on_conflict, debounce=debounce, max_wait=max_wait, unique_for=unique_for
            ),
        )


def build_input(definition: Definition, input: Input) -> object:
    """Return the validated input, as a handler takes it. Raises ValidationError."""
    codec = definition.input
    if codec is None:
        _refuse_input(definition, input)
        return None
    match input:
        case Fields():
            return codec.build(input.args, input.kwargs)
        case Given():
            return codec.check(input.value)
        case Json():
            return codec.unpack(input.wire)


def pack_input(definition: Definition, input: Input) -> bytes:
    """Return the JSON of the validated input. Raises ValidationError."""
    codec = definition.input
    if codec is None:
        _refuse_input(definition, input)
        return b"null"
    match input:
        case Fields():
            return codec.pack(input.args, input.kwargs)
        case Given():
            return codec.pack_value(input.value)
        case Json():
            return codec.pack_json(input.wire)


def _refuse_input(definition: Definition, input: Input) -> None:
    if input in (Given(None), Fields((), {})):
        return
    is_options = isinstance(input, Fields) and not input.args and input.kwargs.keys() <= BESIDE_INPUT
    cure = "; give meta, queue and key by options(...)" if is_options else ""
    raise _checks.internal(ValidationError(f"{definition.name} takes no input{cure}"))


def _call_id(id: object) -> str:
    checked = _checks.record_id(id)
    if "@" in checked:
        raise ValidationError("id must have no @, which the ids of ticks have")
    return checked


def _call_expires(expires: When) -> timedelta | datetime:
    return due(expires, argument="expires", now=SystemClock().now(), zero=False, error=ValidationError)


def _call_retry(retry: object) -> Retry:
    checked = _checks.instance(retry, Retry, argument="retry", error=ValidationError)
    if checked.retry_on is not None or checked.give_up_on:
        raise _checks.internal(
            ValidationError(
                "options(retry=...) takes max_attempts and backoff only; set retry_on and give_up_on in @job(...)"
            )
        )
    return checked
