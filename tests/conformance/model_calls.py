"""The random arguments of the calls to a driver and its model."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from hypothesis import strategies as st

from flowli_core.driver import Cancelled, Completed, Failed, Outcome, Released, Retried
from flowli_core.durations import ZERO
from flowli_core.history import HistoryQuery
from flowli_core.lanes import Lane, Rate
from flowli_core.limits import MOST_LOG_LINES, Keep
from tests.conformance.builders import record, step

SECOND = timedelta(seconds=1)
QUEUES = ("q1", "q2", "q3")
LANES = (Lane("api", "a"), Lane("api", "b"), Lane("tenant", "a"), Lane("tenant"))
"""The lanes without their limits, which the machine knows."""

PERIOD = 10 * SECOND
limits = st.builds(
    Lane,
    limit=st.sampled_from(["api", "tenant"]),
    concurrency=st.sampled_from([None, 1, 1, 2, 3]),
    rate=st.sampled_from([1, 2, 2, 4]).map(lambda count: Rate(count, PERIOD)),
)
"""A limit with rates has the same period all the time, because a driver remembers the starts of one period."""


@dataclass(frozen=True)
class Claim:
    """The lease that an ack or a heartbeat claims: that of its worker, of another, an old or an invented one."""

    kind: str
    pick: int


GivenReport = tuple[Claim, bytes | None, list[bytes], int]

record_ids = st.integers(0, 30).map("r{:02d}".format)
delays = st.sampled_from([ZERO, ZERO, ZERO, timedelta(milliseconds=1), SECOND, 10 * SECOND, -10 * SECOND])
leases = st.sampled_from([SECOND, 10 * SECOND, 30 * SECOND])
payloads = st.sampled_from([b"1", b"2", b"3"])
claims = st.builds(
    Claim, kind=st.sampled_from(["current"] * 6 + ["of another", "old", "invented"]), pick=st.integers(0, 200)
)
outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Completed, payloads),
    st.builds(Failed, payloads),
    st.builds(Retried, st.sampled_from([ZERO, SECOND, 10 * SECOND]), payloads),
    st.builds(Released, st.sampled_from([ZERO, SECOND]), st.none() | payloads),
    st.just(Cancelled()),
)
records = st.builds(
    record,
    record_ids,
    queue=st.sampled_from(QUEUES),
    input=payloads,
    meta=st.none() | payloads,
    key=st.sampled_from([None, None, None, "k1", "k2", "k3"]),
    due=delays.filter(lambda delay: delay >= ZERO),
    expires=st.sampled_from([None, None, SECOND, 10 * SECOND, 300 * SECOND]),
    max_recoveries=st.sampled_from([2, 1, 0]),
    keep_completed=st.sampled_from([600 * SECOND, 10 * SECOND, ZERO]),
    keep_failed=st.sampled_from([900 * SECOND, 5 * SECOND]),
    on_conflict=st.sampled_from(["keep", "replace"]),
    max_wait=st.sampled_from([None, None, SECOND, 5 * SECOND]),
    unique_for=st.sampled_from([ZERO, ZERO, 10 * SECOND, 300 * SECOND]),
    lane=st.sampled_from([None, None, None, *LANES]),
)
keeps = st.builds(Keep, st.sampled_from([100, 100, 3, 1]), st.sampled_from([100, 100, 2, 0]), st.sampled_from([100, 1]))
picks = st.integers(0, 200)
histories = st.builds(
    HistoryQuery,
    resolution=st.sampled_from(["minute", "minute", "hour", "total"]),
    periods=st.sampled_from([150, 100, 2, 1]),
    name=st.sampled_from([None, None, "send_email", "nobody"]),
    queue=st.sampled_from([None, None, "q1", "q2"]),
)


# Few numbers, so that lines come again, in part or after a gap; and sometimes more lines than are kept.
reports = st.tuples(
    claims,
    st.none() | payloads,
    st.lists(payloads, max_size=3) | st.just([b"x"] * (MOST_LOG_LINES - 1)),
    st.integers(0, 4),
)
drafts = st.builds(
    step,
    queues=st.sampled_from([QUEUES, QUEUES, ("q1",), ("q3", "q2")]),
    want=st.sampled_from([4, 2, 1, 0]),
    lease=leases,
    suspect=st.sampled_from([True, False]),
    keep=keeps,
)
