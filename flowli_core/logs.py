"""Log lines that name the job they belong to, with the standard library's logging.

    handler = logging.StreamHandler()
    handler.addFilter(JobFilter())
    handler.setFormatter(JsonFormatter())

`flowli worker` sets this up itself. A line logged inside a handler, including one in a thread, has the fields `job_id`,
`job_name`, `queue` and `attempt`. The runner's line about the end of an attempt also has `outcome` and `duration_ms`.
"""

import json
import logging
from datetime import UTC, datetime
from typing import Any

from flowli_core._current import running_job
from flowli_core._text import escape_controls

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"asctime", "message", "taskName"}


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
    """One JSON object per line: time, level, logger, message, pid, the fields of the job, and all fields of `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object, in ASCII, so that it contains no control characters."""
        line: dict[str, Any] = {
            "time": _time(record).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
        }
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD and name not in line}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        return json.dumps(line, default=str)


def _time(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)
