"""The state of the outbox of a registry, for people and monitoring."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from flowli_core._jobs.registry import Jobs
from flowli_core.durations import format_span
from flowli_core.errors import OutboxUnavailable

_LONG = timedelta(minutes=1)
"""Jobs that wait in the outbox for longer are not being sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxState:
    """The number of committed jobs that wait to be sent, and the age of the oldest; or the error of the database."""

    count: int = 0
    age: timedelta = timedelta(0)
    error: str | None = None

    @property
    def needs_attention(self) -> bool:
        """True if the jobs are not being sent, or nobody knows."""
        return self.error is not None or self.age > _LONG

    def __str__(self) -> str:
        if self.error is not None:
            return self.error
        if not self.count:
            return "nothing waits"
        if self.count == 1:
            return f"1 job has waited for {format_span(self.age)} to be sent to the store"
        return f"{self.count:,} jobs wait to be sent to the store, the oldest for {format_span(self.age)}"


async def read_outbox(jobs: Jobs[Any]) -> OutboxState | None:
    """Return the state of the outbox. Return None if the registry has none."""
    try:
        backlog = await jobs.inspect.get_outbox()
    except OutboxUnavailable as error:
        return OutboxState(error=str(error))
    return None if backlog is None else OutboxState(count=backlog.count, age=backlog.age)
