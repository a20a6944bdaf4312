"""Storing what running handlers report."""

from collections.abc import Sequence

from flowli_core.drivers._logs import Log
from flowli_core.drivers.sqlite._transaction import Transaction
from flowli_core.reports import Report


def store_reports(transaction: Transaction, reports: Sequence[Report], worker: str) -> None:
    """Store the reports about leases that the worker holds."""
    for report in reports:
        row = transaction.run("find_reported", id=report.id, token=report.token, worker=worker).fetchone()
        if row is None:
            continue
        number, token, count, lines = row
        if report.progress is not None:
            transaction.run("put_progress", number=number, progress=report.progress)
        if report.log:
            log = Log(token or 0, count or 0, split_lines(lines)).extended(report)
            text = b"".join([line + b"\n" for line in log.lines])
            transaction.run("put_log", number=number, token=log.token, count=log.count, lines=text)


def split_lines(stored: bytes | None) -> tuple[bytes, ...]:
    """Return the stored lines. Each ends with a newline."""
    return tuple((stored or b"").split(b"\n")[:-1])
