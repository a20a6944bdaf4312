"""Facts about a job in words, for the command and the dashboard."""

from typing import Any

from flowli_core._jobs.records import JobRecord
from flowli_core.durations import format_duration
from flowli_core.retry import Backoff, Fixed


def describe_attempt(record: JobRecord[Any, Any, Any]) -> str:
    """Return the number of the attempt that runs, or of those that were made, and the limit."""
    number = record.attempts_made + (record.state == "active")
    return f"{number} of {record.max_attempts}" if record.max_attempts is not None else str(number)


def describe_backoff(backoff: Backoff) -> str:
    """Return the delays between the attempts of a job."""
    if isinstance(backoff, Fixed):
        text = f"{format_duration(backoff.delay)} each time"
    else:
        longest = format_duration(backoff.max_delay)
        text = f"{format_duration(backoff.first)}, then {backoff.factor:g} times as long, at most {longest}"
    return text if backoff.jitter is None else f"{text}, with jitter"
