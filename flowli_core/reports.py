"""The reports of handlers, as a worker sends them to the store. See `flowli_core/driver.py`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Report:
    """The progress of a handler, and lines for the log of its record. Stored only if the worker holds the lease.

    `progress` replaces what is stored, unless it is None. The log keeps the last MOST_LOG_LINES lines, which hold no
    newline. Lines are numbered from 0 under each token, and `log` begins with number `first_line`: lines that the store
    has under this token are not appended again, so a report may be sent again, alone or with more lines.

    A record keeps both until it is removed. A requeue removes its progress and keeps its log.
    """

    id: str
    token: int
    progress: bytes | None = None
    log: tuple[bytes, ...] = ()
    first_line: int = 0
