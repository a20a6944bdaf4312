"""The options of a call that say what happens if other calls have its key."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Literal

from flowli_core import _checks
from flowli_core.durations import ZERO, Duration, duration, format_duration
from flowli_core.errors import ValidationError
from flowli_core.new_records import NewRecord

OnConflict = Literal["keep", "replace"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyOptions:
    """The options that need a key. See `BoundJob.options`."""

    on_conflict: OnConflict | None = None
    debounce: timedelta | None = None
    max_wait: timedelta | None = None
    unique_for: timedelta | None = None

    def over(
        self,
        *,
        on_conflict: OnConflict | None,
        debounce: Duration | None,
        max_wait: Duration | None,
        unique_for: Duration | None,
    ) -> KeyOptions:
        """Return these options, overridden by those that are given. Raises ValidationError for an invalid one."""
        return KeyOptions(
            on_conflict=self.on_conflict if on_conflict is None else _check_on_conflict(on_conflict),
            debounce=self.debounce if debounce is None else _duration(debounce, "debounce"),
            max_wait=self.max_wait if max_wait is None else _duration(max_wait, "max_wait"),
            unique_for=self.unique_for if unique_for is None else _duration(unique_for, "unique_for"),
        )

    def apply(self, record: NewRecord) -> NewRecord:
        """Return a record with these options. Raises ValidationError if they do not fit it or each other."""
        given = [field.name for field in fields(self) if getattr(self, field.name) is not None]
        if record.key is None:
            raise _refuse(f"{', '.join(given)}: only a call with a key takes this; give options(key=...) as well")
        if self.debounce is not None and record.due != ZERO:
            raise _refuse("debounce says when the call is due: use enqueue(...) instead of delay(...)")
        if self.debounce is not None and self.on_conflict == "keep":
            raise _refuse('debounce replaces the call that waits, so it does not go with on_conflict="keep"')
        replaces = self.debounce is not None or self.on_conflict == "replace"
        if self.max_wait is not None and not replaces:
            raise _refuse('max_wait needs debounce or on_conflict="replace"')
        if self.max_wait is not None and self.debounce is not None and self.max_wait < self.debounce:
            limit, least = format_duration(self.max_wait), format_duration(self.debounce)
            raise ValidationError(f"max_wait must be at least as long as debounce, which is {least}, got {limit}")
        return replace(
            record,
            due=record.due if self.debounce is None else self.debounce,
            on_conflict="replace" if replaces else "keep",
            max_wait=self.max_wait,
            unique_for=self.unique_for or ZERO,
        )


NO_KEY_OPTIONS = KeyOptions()


def _check_on_conflict(given: object) -> OnConflict:
    choices: tuple[OnConflict, ...] = ("keep", "replace")
    return _checks.one_of(given, choices, argument="on_conflict", error=ValidationError)


def _duration(given: object, argument: str) -> timedelta:
    return duration(given, argument=argument, error=ValidationError)


def _refuse(problem: str) -> ValidationError:
    return _checks.internal(ValidationError(problem))
