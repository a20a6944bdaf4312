"""A record survives its row in the outbox, and a row of an earlier release is read."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flowli_core.durations import ZERO
from flowli_core.lanes import Lane, Rate
from flowli_core.sqlalchemy._table import pack, unpack
from tests.conformance.builders import record

if TYPE_CHECKING:
    from flowli_core.new_records import NewRecord

MINUTE = timedelta(minutes=1)
LIMITED = replace(record("a"), lane=Lane("crawl", "é\n", 2, Rate(100, timedelta(milliseconds=1500))))
DEBOUNCED = replace(
    record("b"), key="send k", due=timedelta(seconds=5), on_conflict="replace", max_wait=MINUTE, unique_for=MINUTE * 60
)


@pytest.mark.parametrize(
    "stored",
    [LIMITED, replace(LIMITED, lane=Lane("api")), DEBOUNCED, record("c")],
    ids=["rate", "turns", "key", "plain"],
)
def test_a_record_survives_its_row(stored: NewRecord) -> None:
    assert unpack(pack(stored), age=ZERO) == stored


def test_the_row_of_a_call_without_flow_control_is_that_of_earlier_releases() -> None:
    """A process that still runs one can send it, and this release reads the rows that it has written."""
    assert not json.loads(pack(record("a"))).keys() & {"on_conflict", "max_wait", "unique_for", "lane"}


@pytest.mark.parametrize(
    ("age", "due", "max_wait"),
    [(timedelta(seconds=2), timedelta(seconds=3), timedelta(seconds=58)), (MINUTE * 2, ZERO, ZERO)],
)
def test_the_time_in_the_outbox_counts_for_debounce(age: timedelta, due: timedelta, max_wait: timedelta) -> None:
    read = unpack(pack(DEBOUNCED), age=age)
    assert (read.due, read.max_wait) == (due, max_wait)


@pytest.mark.parametrize(
    "damage",
    [
        {"on_conflict": "add"},
        {"on_conflict": [1]},
        {"max_wait": "1m"},
        {"lane": []},
        {"lane": {"limit": "a"}},
        {"lane": {"limit": 5, "value": "", "concurrency": None, "rate": None}},
        {"lane": {"limit": "a", "value": None, "concurrency": None, "rate": None}},
        {"lane": {"limit": "a", "value": "", "concurrency": "2", "rate": None}},
        {"lane": {"limit": "a", "value": "", "concurrency": None, "rate": [1]}},
        {"lane": {"limit": "a", "value": "", "concurrency": None, "rate": {"count": "1", "period": 5}}},
    ],
)
def test_a_damaged_row_is_unreadable(damage: dict[str, Any]) -> None:
    """Otherwise the driver would fail, for this record and for all that are sent with it."""
    with pytest.raises(ValueError, match=r"Error|type|unknown"):
        unpack(json.dumps(json.loads(pack(LIMITED)) | damage), age=ZERO)
