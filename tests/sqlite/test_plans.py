"""The plans of all statements: none walks a large table, or sorts many rows, unless it is listed with the reason."""

from __future__ import annotations

import re
import sqlite3

import pytest

from flowli_core.drivers.sqlite._sql import SQL

SMALL = {"store", "counts", "worker", "paused_queue"}
"""Tables with a row, or with one for each worker, each paused queue, or each state of a queue."""

AUDIT = "an audit, or the repair of a damaged file: it reads everything, once"
CLOCK = "the clock was set back"
SCANS = {
    "count_wrong_counts": AUDIT,
    "count_again": AUDIT,
    "count_stuck_lanes": AUDIT,
    "find_set_aside": AUDIT,
    "find_possibly_damaged_keys": AUDIT,
    "find_possibly_damaged_schedules": AUDIT,
    "stop_schedule": AUDIT,
    "remove_damaged_starts": AUDIT,
    "set_starts_back": CLOCK,
    "set_turns_back": CLOCK,
    "count_lanes": "an overview says how many lanes there are; it walks the smallest index",
    "list_lanes": "it walks the index in its order, up to the limit",
}
SORTS = {
    "count_wrong_counts": AUDIT,
    "count_again": AUDIT,
    "find_lanes_again": AUDIT,
    "find_end_of_lanes": "it sorts the lanes of one slice of an audit",
    "find_expired": "it sorts the leases that end in the same millisecond",
    "find_turns": "SQLite ends each of the two ranges at the limit: 100,000 lanes take a step no longer",
    "find_key_holders": "it sorts at most two records for each key of a batch",
    "find_latest_due": "it sorts a row for each queue",
    "count_finished": "it groups a row for each queue and state",
    "page_active": "it sorts the active records, which are few",
    "purge_ids": "it sorts the records of one call",
}


@pytest.fixture(scope="module")
def plans() -> dict[str, list[str]]:
    """Return the steps of the plan of each statement."""
    connection = sqlite3.connect(":memory:")
    connection.executescript(SQL["schema"])
    found = dict[str, list[str]]()
    for name, text in SQL.items():
        if name != "schema":
            given = dict.fromkeys(re.findall(r":(\w+)", text), 0)
            rows = connection.execute(f"EXPLAIN QUERY PLAN {text}", given).fetchall()
            found[name] = [row[3] for row in rows]
    connection.close()
    return found


def is_scan(step: str) -> bool:
    """Return True if a step walks a table that may be large. A subquery has steps of its own."""
    scanned = re.match(r"SCAN (\w+)", step)
    return scanned is not None and scanned[1] not in SMALL | {"CONSTANT"} and "VIRTUAL TABLE" not in step


def test_no_statement_walks_a_large_table(plans: dict[str, list[str]]) -> None:
    assert {name for name, steps in plans.items() if any(map(is_scan, steps))} == set(SCANS)


def test_no_statement_sorts_many_rows(plans: dict[str, list[str]]) -> None:
    assert {name for name, steps in plans.items() if any("TEMP B-TREE" in step for step in steps)} == set(SORTS)


def test_a_statement_that_would_walk_or_sort_the_records_is_noticed() -> None:
    connection = sqlite3.connect(":memory:")
    connection.executescript(SQL["schema"])
    query = "EXPLAIN QUERY PLAN SELECT id FROM record WHERE worker = 'a' ORDER BY worker, failed_at"
    steps = [row[3] for row in connection.execute(query)]
    connection.close()
    assert any(map(is_scan, steps))
    assert any("TEMP B-TREE" in step for step in steps)


def test_each_statement_has_a_plan(plans: dict[str, list[str]]) -> None:
    assert len(plans) == len(SQL) - 1 > 100
