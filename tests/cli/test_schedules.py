"""`flowli schedules` on SQLite and Redis, and schedules in `flowli status` and in a worker's banner."""

from __future__ import annotations

import asyncio
import importlib
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from flowli_core.stored import StoredSchedule
from tests.cli.processes import flowli as flowli_process
from tests.support.store import put

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.operated import Output

HEADER = ["schedule", "job", "queue", "recurs", "next"]


def cells(output: Output) -> list[list[str]]:
    return [line.split("\t") for line in output.lines]


def store_directly(schedule: StoredSchedule) -> None:
    """Store a schedule as it is."""

    async def store() -> None:
        driver = importlib.import_module("operated").driver()
        await driver.open()
        assert await put(driver, schedule)
        await driver.close()

    asyncio.run(store())


def test_a_worker_stores_the_declared_schedules_and_they_are_listed(flowli: Callable[..., Output]) -> None:
    before = flowli("schedules", "list")
    assert (before.code, cells(before)) == (0, [HEADER])
    assert before.err == "2 are declared in code (at-night, mail:often); a worker stores them when it starts\n"
    unknown = flowli("schedules", "next", "at-night")
    assert (unknown.code, unknown.out) == (1, "")
    assert unknown.err.endswith("it is declared in code, and the next worker start stores it\n")
    banner = flowli("worker", "--burst").err
    assert "schedules  2: at-night, mail:often" in banner
    first, *rows = cells(flowli("schedules", "list"))
    assert first == HEADER
    assert [row[:4] for row in rows] == [
        ["at-night", "nightly", "default", "30 3 * * * Asia/Kathmandu"],
        ["mail:often", "send_email", "mail", "every 90m"],
    ]
    assert all(row[4].startswith("in ") or "UTC (in " in row[4] for row in rows)
    items = flowli("schedules", "list", "--json").json["items"]
    assert [(one["key"], one["every"], one["paused"]) for one in items] == [
        ("at-night", None, False),
        ("mail:often", "PT1H30M", False),
    ]


def test_pages_of_schedules_follow_each_other(flowli: Callable[..., Output]) -> None:
    flowli("worker", "--burst")
    first = flowli("schedules", "list", "--limit", "1")
    cursor = first.err.split("--cursor ")[1].strip()
    second = flowli("schedules", "list", "--limit", "1", "--cursor", cursor)
    assert [cells(output)[1][0] for output in (first, second)] == ["at-night", "mail:often"]
    assert second.err == ""
    assert flowli("schedules", "list", "--cursor", "!").code == 2


def test_show_prints_every_field_of_a_schedule(flowli: Callable[..., Output]) -> None:
    flowli("worker", "--burst")
    shown = dict(cells(flowli("schedules", "show", "mail:often")))
    assert (shown["every"], shown["name"], shown["paused"]) == ("90m", "send_email", "False")
    assert shown["input"] == '{"to": "\\u001b[31m"}'
    assert shown["declared_by"] == "operated.AppJobs"
    found = flowli("schedules", "show", "mail:often", "--json").json
    assert (found["meta"], found["overlap"], found["readable"]) == ({"actor": "me"}, "allow", True)


def test_next_runs_are_shown_in_utc_and_in_the_zone_of_the_schedule(flowli: Callable[..., Output]) -> None:
    flowli("worker", "--burst")
    header, *rows = cells(flowli("schedules", "next", "at-night", "-n", "3"))
    assert (header, len(rows)) == (["utc", "local", "from now"], 3)
    assert all(utc.endswith(" 21:45:00.000") and local.endswith(" 03:30:00+05:45") for utc, local, _ in rows)
    ticks = [datetime.fromisoformat(tick) for tick in flowli("schedules", "next", "at-night", "--json").json]
    assert len(ticks) == 5
    assert {later - earlier for earlier, later in pairwise(ticks)} == {timedelta(days=1)}
    assert flowli("schedules", "next", "at-night", "-n", "0").code == 2


def test_a_paused_schedule_has_no_next_run_until_it_is_resumed(flowli: Callable[..., Output]) -> None:
    flowli("worker", "--burst")
    for _ in range(2):
        assert flowli("schedules", "pause", "at-night").out == "paused\n"
    flowli("worker", "--burst")
    assert cells(flowli("schedules", "list"))[1][4] == "paused"
    none = flowli("schedules", "next", "at-night")
    assert (none.code, cells(none)) == (0, [["utc", "local", "from now"]])
    assert none.err == "flowli: at-night has no next run: it is paused\n"
    assert flowli("schedules", "next", "at-night", "--json").json == []
    assert flowli("schedules", "resume", "at-night").out == "resumed\n"
    assert len(flowli("schedules", "next", "at-night", "--json").json) == 5


def test_a_triggered_schedule_runs_now_and_keeps_its_next_run(flowli: Callable[..., Output]) -> None:
    flowli("worker", "--burst")
    ticks = flowli("schedules", "next", "mail:often", "--json").json
    receipt = flowli("schedules", "trigger", "mail:often", "--json").json
    assert (receipt["name"], receipt["state"], receipt["disposition"]) == ("send_email", "queued", "accepted")
    assert flowli("schedules", "trigger", "mail:often").out.endswith(" queued (accepted)\n")
    flowli("worker", "--burst")
    record = flowli("jobs", "show", receipt["id"], "--json").json
    assert (record["state"], record["result"]) == ("completed", ["\x1b[31m", False, "me"])
    assert flowli("schedules", "next", "mail:often", "--json").json == ticks


def test_a_removed_schedule_that_is_declared_returns_at_the_next_worker_start(flowli: Callable[..., Output]) -> None:
    flowli("worker", "--burst")
    removed = flowli("schedules", "remove", "at-night")
    assert (removed.code, removed.out) == (0, "removed\n")
    assert removed.err.startswith("it is declared in code, so the next worker start adds it again")
    assert flowli("schedules", "remove", "at-night").code == 1
    flowli("worker", "--burst")
    assert flowli("schedules", "show", "at-night").code == 0


@pytest.mark.parametrize("command", ["show", "next", "pause", "resume", "trigger", "remove"])
def test_an_unknown_key_is_reported_in_one_line(flowli: Callable[..., Output], command: str) -> None:
    output = flowli("schedules", command, "nobody")
    message = "flowli: there is no schedule with the key nobody; flowli schedules list shows all\n"
    assert (output.code, output.out, output.err) == (1, "", message)
    for key in ("", "a\x1b[31m", "k" * 257):
        output = flowli("schedules", command, key)
        assert (output.code, output.out, len(output.err.splitlines())) == (2, "", 1)
        assert "key" in output.err
        assert "\x1b" not in output.err


def test_a_damaged_schedule_is_listed_with_its_controls_escaped_and_can_be_removed(
    flowli: Callable[..., Output], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flowli("worker", "--burst")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    store_directly(StoredSchedule(key="broken", queue="q\x1b[31m", spec=b"{", next_tick=None))
    row = cells(flowli("schedules", "list"))[2]
    assert row == ["broken", "", "q\\x1b[31m", "", "unreadable"]
    assert "\x1b" not in flowli("schedules", "show", "broken").out + flowli("status").out
    assert flowli("schedules", "next", "broken").err.endswith("or it is damaged\n")
    output = flowli("schedules", "trigger", "broken")
    assert (output.code, len(output.err.splitlines())) == (1, 1)
    assert "cannot be read: it is damaged" in output.err
    assert flowli("schedules", "remove", "broken").code == 0


def test_status_shows_the_schedules_in_the_order_of_their_next_runs(flowli: Callable[..., Output]) -> None:
    assert "\nschedule\t" not in flowli("status").out
    flowli("worker", "--burst")
    flowli("schedules", "pause", "at-night")
    rows = cells(flowli("status"))
    shown = rows[rows.index(HEADER) + 1 :]
    assert [row[0] for row in shown] == ["mail:often", "at-night"]
    assert shown[1][4] == "paused"
    found = flowli("status", "--json").json["schedules"]
    assert [one["key"] for one in found] == ["mail:often", "at-night"]
    assert datetime.fromisoformat(found[0]["next_tick"]) > datetime(2020, 1, 1, tzinfo=UTC)


async def test_the_banner_of_a_worker_lists_the_schedules(
    flowli: Callable[..., Output], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWLI_APP_DIR", str(tmp_path))
    async with flowli_process(tmp_path, "worker") as worker:
        await worker.wait_for("schedules  2: at-night, mail:often")
        worker.send_sigterm()
        assert await worker.wait_for_exit() == 0
