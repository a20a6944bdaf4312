"""Progress and log lines, which a handler reports while it runs."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from flowli_core._checks import instance, internal, shown
from flowli_core.errors import ValidationError

MOST_TEXT = 1024
"""The most bytes of a note or of a log line, in UTF-8."""

_MOST = 2**53
"""No number may be greater, so that every reader of the JSON has it exactly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The progress of a job, as its handler reported it last. `done` is at most `total`, in units of the handler."""

    done: float
    total: float | None = None
    note: str | None = None
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        for name, value in (("done", self.done), ("total", self.total)):
            if value is not None or name == "done":
                _check_number(value, name)
        if self.total is not None and self.done > self.total:
            raise _invalid(f"progress: done must be at most total, got {self.done} of {self.total}")
        if self.note is not None:
            size = len(_encoded(instance(self.note, str, argument="progress: note", error=ValidationError)))
            if size > MOST_TEXT:
                raise _invalid(f"progress: note must have at most {MOST_TEXT:,} bytes in UTF-8, got {size:,}")

    @property
    def fraction(self) -> float | None:
        """The part that is done, from 0 to 1; None if there is no total. It is 1 if the total is 0."""
        if self.total is None:
            return None
        return self.done / self.total if self.total else 1.0


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of the log of a job, and when its handler wrote it."""

    at: datetime
    text: str


def log_lines(text: object) -> list[LogLine]:
    """Return the lines of a text, each cut to 1 KiB. An empty text is one empty line. Raises ValidationError."""
    lines = instance(text, str, argument="log: text", error=ValidationError).splitlines() or [""]
    now = datetime.now(UTC)
    return [LogLine(now, _encoded(line[:MOST_TEXT])[:MOST_TEXT].decode(errors="ignore")) for line in lines]


def _check_number(value: object, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _invalid(f"progress: {name} must be an int or a float, got {shown(value)}")
    if not 0 <= value <= _MOST:  # also false for NaN
        raise _invalid(f"progress: {name} must be from 0 to 2**53, got {shown(value)}")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _invalid(message: str) -> ValidationError:
    return internal(ValidationError(message))
