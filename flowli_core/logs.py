"""Log lines that name the job they belong to, with the standard library's logging.

    handler = logging.StreamHandler()
    handler.addFilter(JobFilter())
    handler.setFormatter(JsonFormatter())

`flowli worker` sets this up itself. A line logged inside a handler, including one in a thread, has the fields `job_id`,
`job_name`, `queue` and `attempt`. The runner's line about the end of an attempt also has `outcome` and `duration_ms`.
"""

import json
import logging
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

from flowli_core._current import running_job
from flowli_core._text import escape_controls

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"asctime", "message", "taskName"}

_DEEPEST = 20
_LARGEST_INT = 10**300
"""Python does not write an int of more than 4,300 digits in decimals."""


class JobFilter(logging.Filter):
    """Adds the running job to each line. Add it to log handlers: the filter of a logger misses its child loggers."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields of the running job to the line. Never drop a line."""
        job = running_job()
        if job is not None and not hasattr(record, "job_id"):
            record.job_id, record.job_name = escape_controls(job.id), job.name
            record.queue, record.attempt = job.queue, job.attempt
        return True


class PlainFormatter(logging.Formatter):
    """A line for people. A line logged inside a handler has the job's name and id in brackets.

    Control characters and line breaks in a message are escaped, so that a payload cannot forge a line.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, with the traceback below it if there is one."""
        job_label = ""
        fields = vars(record)
        if "job_id" in fields and "outcome" not in fields:
            job_label = f"[{escape_controls(fields.get('job_name'))} {escape_controls(fields['job_id'])}] "
        head = f"{_time(record):%Y-%m-%d %H:%M:%S}.{int(record.msecs):03} {record.levelname:<7} {record.process}"
        message = escape_controls(record.getMessage())
        return f"{head} {escape_controls(record.name)}: {job_label}{message}{self._below(record)}"

    def _below(self, record: logging.LogRecord) -> str:
        below = ""
        if record.exc_info:
            below += "\n" + self.formatException(record.exc_info)
        if record.stack_info:
            below += "\n" + record.stack_info
        return escape_controls(below, lines=True)


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message, pid, the fields of the job, and all fields of `extra`.

    A value that JSON lacks is written as text, so that no line is lost.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the object, in ASCII, so that it contains no control characters."""
        line: dict[object, object] = {
            "time": _time(record).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
            "pid": record.process,
        }
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD and name not in line}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        try:
            text = json.dumps(line, default=_text, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            return json.dumps(_as_json(line, 0))
        # Half of a surrogate pair is no text: many programs that read JSON refuse it.
        return json.dumps(_as_json(line, 0)) if "\\ud" in text else text


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - the arguments do not fit, or their text cannot be made
        return f"{_text(record.msg)} (its arguments cannot be formatted: {type(error).__name__})"


def _as_json(value: object, depth: int) -> object:  # noqa: PLR0911 - a return for each kind
    """Return a value as JSON can hold it."""
    match value:
        case None | bool():
            return value
        case int() if abs(value) < _LARGEST_INT:
            return int(value)
        case float() if math.isfinite(value):
            return float(value)
        case dict() | list() | tuple() if depth == _DEEPEST:
            return "..."
        case dict():
            items = cast("dict[object, object]", value).items()
            return {_text(key): _as_json(item, depth + 1) for key, item in items}
        case list() | tuple():
            return [_as_json(item, depth + 1) for item in cast("Sequence[object]", value)]
        case _:
            return _text(value)


def _text(value: object) -> str:
    try:
        text = hex(value) if isinstance(value, int) and abs(value) >= _LARGEST_INT else str(value)
    except Exception as error:  # noqa: BLE001 - the `__str__` of foreign code may raise anything
        return f"<a {type(value).__name__} whose text cannot be made: {type(error).__name__}>"
    return text.encode("utf-8", "backslashreplace").decode()


def _time(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)
