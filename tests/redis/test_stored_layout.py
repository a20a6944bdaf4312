"""The layout of the keys: exact bytes, because workers of several releases share them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from flowli_core.driver import Retried
from flowli_core.drivers.redis import RedisDriver
from flowli_core.durations import ZERO
from flowli_core.new_records import NewRecord
from flowli_core.stored import StoredSchedule
from flowli_core.testing import ManualClock
from tests.conformance.builders import Worker, ack
from tests.redis.server import shared_url
from tests.support.store import put

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW, DIGEST = "1767225600000", "scomTkNF1JHBKcLD75hT4g"
LATER = 1767229200000.0
"""An hour later."""


def record(record_id: str, **options: Any) -> NewRecord:
    return NewRecord(id=record_id, name="send", queue="mail", input=b'{"to":"ada"}', policy=b'{"v":1}', **options)


async def test_the_stored_bytes_stay_as_they_are(foreign: Any, prefix: str) -> None:
    """After the first release, a change needs a new number of the layout."""
    clock = ManualClock(START)
    driver = RedisDriver.from_url(shared_url(), prefix=prefix, clock=clock)
    await driver.open()
    worker = Worker(driver, "w 1", queues=("mail",))
    await driver.enqueue([record("done"), record("runs", meta=b"{}"), record("waits", key="k", due=timedelta(hours=1))])
    await worker.step(*[ack(held) for held in await worker.take(1)])
    (held,) = await worker.take(1)
    await worker.step(ack(held, Retried(ZERO, b"{}")))
    await worker.take(1)
    await put(driver, StoredSchedule(key="s", queue="mail", spec=b"{}", next_tick=START + timedelta(hours=2)))
    assert read(foreign, prefix) == {
        "record": {
            "done": f'{DIGEST}{NOW} \n-\n{{"to":"ada"}}',
            "runs": f'{DIGEST}{NOW} \n2\n{{}}{{"to":"ada"}}',
            "waits": f'{DIGEST}{NOW} k\n-\n{{"to":"ada"}}',
        },
        "shape": {DIGEST: '3 3600000 1209600000 0 mail\nsend\n{"v":1}'},
        "uses": {DIGEST: "3271837"},
        "token": {"runs": f"{NOW}002 {NOW} {NOW} {DIGEST}- w 1"},
        "outcome": {
            "done": f'completed {NOW}000 {NOW} 0 {NOW} {NOW} {DIGEST}- w 1\n"done"',
            "runs": f"- {NOW}001 {NOW} {NOW} {NOW} {NOW} {DIGEST}- w 1\n",
        },
        "attempts": {"runs": "{}"},
        "holder": {"k": "waits"},
        "due:mail": {"waits": LATER},
        "lease": {"runs": int(NOW) + 30_000},
        "completed": {"done": int(NOW)},
        "expiry": {"done": LATER},
        "counts": {"active mail": "1", "completed mail": "1"},
        "queues": {"mail"},
        "wake:mail": {"0": 0},
        "schedule": {"s": f"{NOW}000 0 1767232800000 - - mail\n{{}}"},
        "schedules": {"s": 0},
        "tick": {"s": 1767232800000},
        "history:job:mail\nsend": {"29453760e": "3", "29453760c00": "1", "29453760r00": "1"},
        "history:jobs": {"mail\nsend": int(NOW)},
        "serial": {"now": NOW, "revision": f"{NOW}000", "token": f"{NOW}002"},
        "workers": {"w 1": int(NOW)},
        "worker:w 1": {
            "sequence": "5",
            "acks": "",
            "batch": "runs",
            "token": f"{NOW}002",
            "seen": NOW,
            "listed": NOW,
        },
    }
    await driver.close()


async def test_many_leases_have_no_other_member(driver: RedisDriver, foreign: Any, prefix: str) -> None:
    """The long member that makes a tree of the sorted set is removed at once."""
    await driver.enqueue([record(f"{number:02}") for number in range(40)])
    await Worker(driver, queues=("mail",)).take(40)
    assert foreign.zrange(f"{{{prefix}}}:1:lease", 0, -1) == [b"%02d" % number for number in range(40)]


def read(admin: Any, prefix: str) -> dict[str, Any]:
    """Return the keys of a prefix with their values, as text."""
    stored: dict[str, Any] = {}
    for key in admin.scan_iter(match=f"{{{prefix}}}*"):
        name, kind = key.decode().removeprefix(f"{{{prefix}}}:1:"), admin.type(key)
        if kind == b"hash":
            stored[name] = {field.decode(): value.decode() for field, value in admin.hgetall(key).items()}
        elif kind == b"set":
            stored[name] = {member.decode() for member in admin.smembers(key)}
        else:
            stored[name] = {member.decode(): score for member, score in admin.zrange(key, 0, -1, withscores=True)}
    return stored
