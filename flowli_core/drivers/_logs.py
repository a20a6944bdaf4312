"""The log of a record: its last lines, and how many of them came under the token that reported last."""

from dataclasses import dataclass

from flowli_core.limits import MOST_LOG_LINES
from flowli_core.reports import Report


@dataclass(frozen=True, slots=True)
class Log:
    """The lines of a log. `count` is the number of the next line under `token`: see `Report`."""

    token: int = 0
    count: int = 0
    lines: tuple[bytes, ...] = ()

    def extended(self, report: Report) -> "Log":
        """Return the log with those lines of a report that it does not have."""
        if not report.log:
            return self
        count = self.count if self.token == report.token else 0
        new = report.log[max(count - report.first_line, 0) :]
        end = max(count, report.first_line + len(report.log))
        return Log(report.token, end, (*self.lines, *new)[-MOST_LOG_LINES:])


NO_LOG = Log()
