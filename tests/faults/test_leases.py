"""The oracle of leases notices what it is there for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.leases import Hold, Polled, holds, most_at_once, most_starts
from tests.faults.run_log import RunLog


def hold(start: int, end: int, *, lane: str = "a") -> Hold:
    """A lease of a lane from a time to a time, in milliseconds."""
    return Hold(lane, f"{lane}{start}{end}", start * 1000, end)


def test_leases_of_one_lane_that_overlap_count_together() -> None:
    held = [hold(0, 10), hold(5, 15), hold(9, 20), hold(0, 30, lane="b")]
    assert most_at_once(held) == {"a": 3, "b": 1}


def test_a_lease_that_begins_when_another_ends_does_not_overlap_it() -> None:
    assert most_at_once([hold(0, 10), hold(10, 20), hold(20, 30)]) == {"a": 1}


@pytest.mark.parametrize(("last", "most"), [(999, 3), (1000, 2)])
def test_a_window_contains_its_first_millisecond_and_not_the_one_after_its_period(last: int, most: int) -> None:
    assert most_starts([hold(0, 1), hold(500, 501), hold(last, last + 1)], 1000) == most


def test_the_leases_that_a_store_shows_at_one_moment_count_together(tmp_path: Path) -> None:
    """Also those of a process that was killed before their handlers ended, or began."""
    log, polled = RunLog(tmp_path), Polled()
    for record_id in ("one", "two", "three"):
        log.note("begin", pid=1, lane="a", record_id=record_id, token=7000)
    polled.add([("one", 9000), ("two", 9000)])
    polled.add([("three", 9000)])
    held = holds(log, polled)
    assert [one.end for one in held if one.token == 9000] == [9, 9, 9]
    assert most_at_once([one for one in held if one.token == 9000]) == {"a": 0}
    assert most_at_once([one for one in held if one.token == 9000], polled) == {"a": 2}


def test_a_stopped_process_proves_its_leases_only_until_the_signal(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log.note("begin", pid=1, lane="a", record_id="one", token=7000)
    log.note("signal", pid=1)
    log.note("signal", pid=2)
    sent = log.lines()[1][2]
    log.note("end", pid=1, lane="a", record_id="one", token=7000)
    assert [one.end for one in holds(log, Polled())] == [sent]
