"""`flowli history`: sparklines on a terminal, lines of numbers in a pipe, and JSON."""

from __future__ import annotations

import io
import re
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core import History, Jobs
from flowli_core.cli._operations.history import format_history, format_numbers
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import ManualClock
from tests.conformance.builders import BROKEN, DONE, Worker, ack, record

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.operated import Output

HOUR = timedelta(hours=1)


@pytest.fixture
async def used(clock: ManualClock) -> Jobs[None]:
    """A registry with a history: in the n-th minute, n jobs ran after 100 ms, and the last of them failed."""
    driver = MemoryDriver(clock=clock)
    worker = Worker(driver)
    for number in range(1, 11):
        await driver.enqueue([record(name="send_email") for _ in range(number)])
        clock.advance("100ms")
        *rest, last = await worker.take(number)
        await worker.step(*[ack(held, DONE) for held in rest], ack(last, BROKEN))
        clock.advance("59900ms")
    return Jobs[None](context=None, driver=driver)


@pytest.fixture
def clock() -> ManualClock:
    """The clock of the store."""
    return ManualClock()


async def many(minutes: int) -> History:
    """Return a history with two jobs in each minute."""
    clock = ManualClock()
    driver = MemoryDriver(clock=clock)
    for _ in range(minutes):
        await driver.enqueue([record(), record()])
        clock.advance("1m")
    clock.back("1s")
    return await Jobs[None](context=None, driver=driver).inspect.history(timedelta(minutes=minutes))


async def test_in_a_pipe_each_minute_and_each_job_is_a_line_of_numbers(used: Jobs[None]) -> None:
    """A minute without attempts has no p95."""
    lines = format_history(await used.inspect.history("3m"), HOUR).splitlines()
    numbers = "enqueued\tcompleted\tfailed\twait_p95_ms\trun_p95_ms\tretried\tcancelled\trecovered"
    assert lines == [
        f"start\t{numbers}",
        "2026-01-01 00:08:00.000\t9\t8\t1\t125\t1\t0\t0\t0",
        "2026-01-01 00:09:00.000\t10\t9\t1\t125\t1\t0\t0\t0",
        "2026-01-01 00:10:00.000\t0\t0\t0\t\t\t0\t0\t0",
        "",
        f"job\tqueue\t{numbers}",
        "send_email\tq\t19\t17\t2\t125\t1\t0\t0\t0",
    ]


async def test_a_terminal_gets_a_sparkline_for_each_number(used: Jobs[None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has its sum, or the p95 of all, and its greatest bar."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    lines = format_history(await used.inspect.history("10m"), timedelta(minutes=10)).splitlines()
    assert lines[:6] == [
        "last 10m, each bar 1m, up to 2026-01-01 00:10 UTC",
        "enqueued   ▃▄▄▅▆▆▇██▁         54  max 10",
        "completed  ▂▃▄▅▅▆▇██▁         45  max 9",
        "failed     █████████▁          9  max 1",
        "wait p95   █████████▁     125 ms  max 125 ms",
        "run p95    █████████▁       1 ms  max 1 ms",
    ]
    assert lines[7].startswith("job         queue  enqueued  completed  failed  wait p95  run p95  retried")
    assert lines[8].split() == ["send_email", "q", "54", "45", "9", "125", "ms", "1", "ms", "0", "0", "0"]


@pytest.mark.parametrize(("columns", "bars", "span"), [("220", 180, "1m"), ("110", 60, "3m"), ("20", 10, "18m")])
async def test_a_bar_shows_several_minutes_if_the_terminal_is_narrow(
    monkeypatch: pytest.MonkeyPatch, columns: str, bars: int, span: str
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", columns)
    text = format_history(await many(180), timedelta(hours=3))
    assert f"last 3h, each bar {span}," in text
    (line,) = re.findall("enqueued.*█.*", text)
    assert line.count("█") == bars
    assert line.endswith(f"360  max {360 // bars}")


async def test_a_terminal_without_block_characters_gets_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    ascii_terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(ascii_terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", ascii_terminal)
    text = format_history(await many(5), timedelta(minutes=5))
    assert "  #####  " in text
    assert text.isascii()


async def test_the_most_important_numbers_fit_in_a_line(used: Jobs[None], clock: ManualClock) -> None:
    assert format_numbers((await used.inspect.history()).total) == "45 completed, 10 failed, p95 wait 125 ms"
    clock.advance("1h")
    assert format_numbers((await used.inspect.history()).total) == "0 completed, 0 failed"


def test_the_history_of_jobs_that_ran_is_shown(flowli: Callable[..., Output]) -> None:
    """The status has the last hour in one line."""
    assert "last hour\t0 completed, 0 failed" in flowli("status").lines
    flowli("enqueue", "send_email", '{"to": "ada"}')
    flowli("enqueue", "nightly")
    flowli("worker", "--burst")
    found = flowli("history", "--json").json
    assert (len(found["points"]), found["total"]["enqueued"], found["total"]["waits"]["count"]) == (60, 2, 2)
    assert [(one["job"], one["queue"], one["completed"], one["failed"]) for one in found["by_job"]] == [
        ("nightly", "default", 0, 1),
        ("send_email", "mail", 1, 0),
    ]
    (only,) = flowli("history", "--last", "2h", "--job", "send_email", "--queue", "mail", "--json").json["by_job"]
    assert (only["job"], only["runs"]["count"]) == ("send_email", 1)
    assert flowli("history").lines[-2].startswith("nightly\tdefault\t1\t0\t1\t")
    (line,) = [line for line in flowli("status").lines if line.startswith("last hour\t")]
    assert line.startswith("last hour\t1 completed, 1 failed, p95 wait ")
    assert flowli("status", "--json").json["last_hour"]["failed"] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--last", "8d"], "last must be at most 7d, got 8d"),
        (["--last", "0s"], "last must be longer than zero"),
        (["--job", "a b"], "job may have letters, digits"),
    ],
)
def test_a_wrong_history_is_refused(flowli: Callable[..., Output], words: list[str], message: str) -> None:
    refused = flowli("history", *words)
    assert refused.code == 2
    assert message in refused.err
