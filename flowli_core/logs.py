"""Log lines that say which job they belong to, with nothing but the standard library.

    handler = logging.StreamHandler()
    handler.addFilter(JobFilter())
    handler.setFormatter(JsonFormatter())

`flowli worker` sets this up by itself. A line that is written inside a handler, one in a thread too, carries `job_id`,
`job_name`, `queue` and `attempt`; the runner's line about an attempt's end `outcome` and `duration_ms` besides.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from flowli_core._current import running_job
from flowli_core._text import escape_controls

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"asctime", "message", "taskName"}


class JobFilter(logging.Filter):
    """Adds the running job to each line. Give it to handlers: a logger's filters miss the lines of its children."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let it pass, with what is known of its job."""
        job = running_job()
        if job is not None and not hasattr(record, "job_id"):
            record.job_id, record.job_name = job.id, job.name
            record.queue, record.attempt = job.queue, job.attempt
        return True


class PlainFormatter(logging.Formatter):
    """A line for people, with the job's name and id in brackets where it was written inside a handler.

    What others have written is made inert: a message stays on its line, and no control character gets through.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Write the line, and below it the traceback where there is one."""
        about = ""
        facts = vars(record)
        if "job_id" in facts and "outcome" not in facts:
            about = f"[{escape_controls(facts.get('job_name'))} {escape_controls(facts['job_id'])}] "
        head = f"{_time(record):%Y-%m-%d %H:%M:%S}.{int(record.msecs):03} {record.levelname:<7} {record.process}"
        return (
            f"{head} {escape_controls(record.name)}: {about}{escape_controls(record.getMessage())}{self._below(record)}"
        )

    def _below(self, record: logging.LogRecord) -> str:
        below = ""
        if record.exc_info:
            below += "\n" + self.formatException(record.exc_info)
        if record.stack_info:
            below += "\n" + record.stack_info
        return escape_controls(below, lines=True)


class JsonFormatter(logging.Formatter):
    """A JSON object to a line: time, level, logger, message, pid, the job's fields, and what else `extra` holds."""

    def format(self, record: logging.LogRecord) -> str:
        """Write the object. Plain ASCII, so that nothing in it is more than text."""
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
