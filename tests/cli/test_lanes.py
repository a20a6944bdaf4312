"""`flowli lanes`, and the lanes in the output of other commands."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core import Jobs, job
from flowli_core._wire.about import pack_about
from flowli_core.cli import main
from flowli_core.lanes import Lane, Rate
from flowli_core.new_records import NewRecord
from flowli_core.stored import StoredWorker
from tests.cli.operated import Output
from tests.support.laned import LanedDriver, lanes_of

if TYPE_CHECKING:
    from collections.abc import Callable

ESCAPED = "acme\\x1b[31m"


@job()
async def crawl() -> None: ...


class CrawlJobs(Jobs[None]):
    crawl = crawl


STORES: list[LanedDriver] = []
"""The store of the test."""


def make() -> CrawlJobs:
    """Make a registry over the store of the test."""
    return CrawlJobs(context=None, driver=STORES[-1])


@pytest.fixture
def store() -> LanedDriver:
    """The store of the commands, in which lanes wait."""
    STORES[:] = [driver := LanedDriver()]
    driver.show(*lanes_of(driver.clock), count=1_204)
    return driver


@pytest.fixture
def flowli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Output]:
    """Run a command on the store."""
    monkeypatch.setenv("FLOWLI_APP", f"{__name__}:make")
    monkeypatch.setenv("FLOWLI_FACTORY", "1")

    def run_command(*words: str) -> Output:
        code = main(list(words))
        captured = capsys.readouterr()
        return Output(code, captured.out, captured.err)

    return run_command


@pytest.mark.usefixtures("store")
def test_the_lanes_are_listed_with_what_blocks_them(flowli: Callable[..., Output]) -> None:
    """The value of a lane comes from an input, so its control characters are escaped."""
    assert [line.split("\t") for line in flowli("lanes").lines] == [
        ["limit", "lane", "queue", "waiting", "running", "blocked by", "next turn"],
        ["tenant", ESCAPED, "default", "1200", "2 of 2", "concurrency", ""],
        ["api", "key-1", "default", "30", "0", "rate 100/1m", "in 12 s"],
        ["api", "key-2", "default", "3", "1", "", "now"],
        ["report", "", "default", "1", "0", "", "in 5 min 0 s"],
        ["(1200 others)", "", "", "", "", "", ""],
    ]


def test_a_turn_that_is_due_is_listed_with_its_age(store: LanedDriver, flowli: Callable[..., Output]) -> None:
    store.clock.advance("90s")
    assert flowli("lanes").lines[3].endswith("\tdue for 1 min 30 s")


def test_a_long_value_is_cut_on_a_terminal(
    store: LanedDriver, flowli: Callable[..., Output], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the other columns stay in sight."""
    lane = lanes_of(store.clock)[0]
    store.show(replace(lane, value="x" * 200))
    assert "x" * 200 in flowli("lanes").out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert flowli("lanes").lines[1].split() == [
        "tenant",
        f"{'x' * 23}~",
        *["default", "1200", "2", "of", "2", "concurrency"],
    ]


def test_all_fields_of_a_lane_are_in_the_json(store: LanedDriver, flowli: Callable[..., Output]) -> None:
    found = flowli("lanes", "--json").json
    assert found["lane_count"] == 1_204
    assert found["lanes"][1] == {
        "queue": "default",
        "limit": "api",
        "value": "key-1",
        "waiting": 30,
        "active": 0,
        "concurrency": None,
        "rate": {"count": 100, "period": "PT1M"},
        "next_turn": f"{store.clock.now() + timedelta(seconds=12):%Y-%m-%dT%H:%M:%S}Z",
        "blocked": "rate",
    }
    assert flowli("status", "--json").json["lanes"] == found["lanes"]


def test_without_lanes_it_is_said_how_to_get_them(store: LanedDriver, flowli: Callable[..., Output]) -> None:
    store.shown.clear()
    assert "jobs get lanes by a limit: @job(" in flowli("lanes").out
    assert flowli("lanes", "--json").json == {"lanes": [], "lane_count": 0}
    assert "lanes" not in flowli("status").out


@pytest.mark.usefixtures("store")
def test_the_status_names_the_deepest_lane(flowli: Callable[..., Output]) -> None:
    text = f"the deepest tenant {ESCAPED} in queue default: 1,200 waiting, 2 of 2 running, blocked by concurrency"
    assert f"lanes\t1,204, {text}" in flowli("status").lines


@pytest.mark.usefixtures("store")
def test_the_list_of_queues_names_the_deepest_lane_on_a_terminal(
    flowli: Callable[..., Output], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a pipe there are only rows of the table."""
    assert "lanes" not in flowli("queues").out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert flowli("queues").lines[-1].startswith("lanes: 1,204, the deepest tenant ")


def test_a_job_is_shown_with_its_lane_and_why_it_waits(store: LanedDriver, flowli: Callable[..., Output]) -> None:
    job_id = flowli("enqueue", "crawl", "--json").json["id"]
    lines = flowli("jobs", "show", job_id).lines
    assert not any(line.startswith(("limit", "lane", "waits")) for line in lines)
    store.lane = Lane("api", "key-1")
    lines = flowli("jobs", "show", job_id).lines
    assert {"limit\tapi", "lane\tkey-1"} <= set(lines)
    assert "waits\tits lane has used its rate 100/1m; the next start is allowed in 12 s" in lines
    store.lane = Lane("report")
    lines = flowli("jobs", "show", job_id).lines
    assert "limit\treport" in lines
    assert not any(line.startswith("lane\t") for line in lines)


def serve(store: LanedDriver) -> None:
    """Let a worker be alive that serves the queue."""
    about = pack_about(("default",), ["crawl"])
    store.shown["workers"] = {"host:1": StoredWorker(seen=store.clock.now(), about=about)}


def test_a_blocked_lane_is_well_and_one_that_could_run_is_not(
    store: LanedDriver, flowli: Callable[..., Output]
) -> None:
    """`flowli doctor` warns of a lane that has had a free place and a due job for over a minute."""
    serve(store)
    (lanes,) = [one for one in flowli("doctor", "--json").json if one["name"] == "lanes"]
    assert (lanes["verdict"], lanes["value"]) == ("ok", "1,204 with waiting jobs")
    store.clock.advance("61s")
    serve(store)
    (lanes,) = [one for one in flowli("doctor", "--json").json if one["name"] == "lanes"]
    assert (lanes["verdict"], lanes["cure"]) == (
        "warning",
        "start more workers for these queues, if the slots of all are in use",
    )
    assert lanes["value"].splitlines()[1:] == [
        "a lane of the limit api in the queue default could have started a job 1 min 1 s ago"
    ]


def test_check_passes_with_blocked_lanes_and_explains_an_old_job(
    store: LanedDriver, flowli: Callable[..., Output]
) -> None:
    serve(store)
    store.shown["oldest"] = {"default": store.clock.now() - timedelta(hours=1)}
    assert flowli("check").code == 0
    output = flowli("check", "--oldest", "5m")
    assert output.code == 1
    assert "for 1 h 0 min in the queue default, where lanes have reached their limits, longer than 5m" in output.err


def test_a_burst_says_how_many_jobs_their_limits_have_left(
    store: LanedDriver, flowli: Callable[..., Output], caplog: pytest.LogCaptureFixture
) -> None:
    """It ends although they are due, because it would wait for others."""
    limited = Lane("crawl", "x", None, Rate(1, timedelta(hours=1)))
    asyncio.run(
        store.enqueue(
            [NewRecord(id=str(n), name="crawl", queue="default", input=b"null", lane=limited) for n in range(3)]
        )
    )
    assert flowli("worker", "--burst").code == 0
    assert "due jobs that wait for their limits, see `flowli lanes`: 2" in caplog.text
