"""A schedule as the arguments of `schedule` or `scheduled` declare it, before its input is checked."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic

from typing_extensions import TypeVar

from flowli_core import _checks
from flowli_core._jobs.arguments import CallOptions
from flowli_core._jobs.definition import Definition
from flowli_core._schedules.rules import make_rule
from flowli_core._schedules.timing import Missed, Overlap, Timing, check_missed, check_overlap
from flowli_core.errors import ValidationError
from flowli_core.retry import Retry

C_contra = TypeVar("C_contra", contravariant=True, default=Any)

_TAKES = "cron or every, input, timezone, meta, missed, overlap, start, end and retry"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredSchedule(Generic[C_contra]):
    """A schedule declared in code, for the `schedules` of a registry: `nightly.scheduled(cron="0 3 * * *")` makes one.

    The registry checks its input and its meta. `key` is None if the key is to be made of the job, its rule and its
    input.
    """

    definition: Definition
    key: str | None
    input: object
    timing: Timing
    missed: Missed
    overlap: Overlap
    options: CallOptions


def declare_schedule(
    definition: Definition,
    key: str | None,
    *,
    input: object,
    cron: str | None = None,
    every: object = None,
    timezone: str = "UTC",
    meta: object = None,
    missed: Missed = "once",
    overlap: Overlap = "allow",
    start: datetime | None = None,
    end: datetime | None = None,
    retry: Retry | None = None,
    **unknown: object,
) -> DeclaredSchedule[Any]:
    """Check the arguments of `schedule`. Raises SchedulingError for an invalid rule or time, else ValidationError."""
    if unknown:
        cure = "; fields are given in the input itself: input=..." if definition.input is not None else ""
        names = ", ".join(sorted(unknown))
        raise _checks.internal(ValidationError(f"{definition.name}: a schedule takes {_TAKES}, not {names}{cure}"))
    return DeclaredSchedule(
        definition=definition,
        key=None if key is None else _checks.key(key),
        input=input,
        timing=Timing(rule=make_rule(cron=cron, every=every, timezone=timezone), start=start, end=end),
        missed=check_missed(missed),
        overlap=check_overlap(overlap),
        options=CallOptions().over(meta=meta, retry=retry),
    )
