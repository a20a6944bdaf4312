"""Commands, metrics and the dashboard show what waits in the outbox, and `flowli relay` sends it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import create_engine, update
from sqlalchemy.orm import Session
from starlette.applications import Starlette
from starlette.testclient import TestClient

from flowli_core import Jobs, job, run_sync
from flowli_core._jobs.outbox_state import OutboxState
from flowli_core.cli import main
from flowli_core.dashboard import Dashboard
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.drivers.sqlite import SqliteDriver
from flowli_core.metrics import PrometheusMetrics
from flowli_core.sqlalchemy import SqlOutbox
from tests.cli.operated import Output
from tests.outbox.conftest import metadata, rows

if TYPE_CHECKING:
    from collections.abc import Callable

HOUR_MS = 3_600_000


@job(int)
async def pack(input: int) -> None:
    pass


class PackJobs(Jobs[None]):
    pack = pack


def make() -> PackJobs:
    """Make the registry that the commands use, with its files in the working directory."""
    outbox = SqlOutbox(create_engine("sqlite:///application.db"), rows)
    return PackJobs(context=None, driver=SqliteDriver("jobs.db"), outbox=outbox)


@pytest.fixture
def flowli(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Output]:
    """Run a command, and return its output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLOWLI_APP", "tests.outbox.test_operations:make")
    monkeypatch.setenv("FLOWLI_FACTORY", "1")

    def run_command(*words: str) -> Output:
        code = main(list(words))
        captured = capsys.readouterr()
        return Output(code, captured.out, captured.err)

    return run_command


@pytest.fixture
def left(flowli: Callable[..., Output]) -> None:
    """Leave three jobs in the outbox, for an hour."""
    del flowli
    leave(3)


def leave(count: int) -> None:
    engine = create_engine("sqlite:///application.db")
    metadata.create_all(engine)
    jobs = make()
    run_sync(jobs.aclose())  # so that it sends nothing after the commit
    with Session(engine) as session, session.begin():
        run_sync(jobs.pack.options(session=session).enqueue_many(range(count)))
    with engine.begin() as connection:
        connection.execute(update(rows).values(claimed_until=0, created_at=rows.c.created_at - HOUR_MS))
    engine.dispose()


@pytest.mark.usefixtures("left")
def test_relay_sends_what_waits_once(flowli: Callable[..., Output]) -> None:
    output = flowli("relay", "--once")
    assert (output.code, output.out, output.err) == (0, "relayed 3 jobs\n", "")
    assert flowli("relay", "--once").out == "relayed 0 jobs\n"
    assert flowli("status", "--json").json["counts"]["queued"] == 3


def test_relay_fails_without_a_database_or_an_outbox(
    flowli: Callable[..., Output], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = flowli("relay", "--once")
    assert output.code == 1
    assert "no such table: flowli_outbox" in output.err
    monkeypatch.setenv("FLOWLI_APP", "tests.outbox.test_operations:make_without_outbox")
    output = flowli("relay", "--once")
    assert (output.code, "this registry has no outbox" in output.err) == (1, True)


def make_without_outbox() -> PackJobs:
    return PackJobs(context=None, driver=SqliteDriver("jobs.db"))


@pytest.mark.usefixtures("left")
def test_relay_goes_on_until_it_is_interrupted(flowli: Callable[..., Output], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flowli_core.cli", "relay", "--app-dir", str(Path(__file__).parents[2])]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as relay:
        while flowli("status", "--json").json["outbox"]["count"]:
            assert relay.poll() is None
        relay.send_signal(signal.SIGINT)
        _, errors = relay.communicate(timeout=30)
    assert relay.returncode == 130
    assert "Traceback" not in errors
    assert flowli("status", "--json").json["counts"]["queued"] == 3


@pytest.mark.usefixtures("left")
def test_a_backlog_is_shown_and_complained_of(flowli: Callable[..., Output]) -> None:
    text = "3 jobs wait to be sent to the store, the oldest for 1 h 0 min"
    assert f"outbox\t{text}" in flowli("status").out
    shown = flowli("status", "--json").json["outbox"]
    assert (shown["count"], shown["error"]) == (3, None)
    output = flowli("check", "--workers", "0")
    assert (output.code, output.err) == (1, f"outbox: {text}\n")
    output = flowli("doctor")
    assert output.code == 1
    assert f"bad\toutbox\t{text}" in output.out
    flowli("relay", "--once")
    assert "outbox\tnothing waits" in flowli("status").out
    assert flowli("check", "--workers", "0").code == 0
    assert "ok\toutbox\tnothing waits" in flowli("doctor").out


def test_a_database_that_fails_hides_nothing_of_the_store(flowli: Callable[..., Output]) -> None:
    output = flowli("status")
    assert output.code == 0
    assert "no such table: flowli_outbox" in output.out
    assert "workers\tnone alive" in output.out
    output = flowli("check", "--workers", "0")
    assert (output.code, "outbox: the database of SqlOutbox" in output.err) == (1, True)
    output = flowli("doctor")
    assert (output.code, "bad\toutbox\tthe database of" in output.out) == (1, True)


async def _metrics(jobs: PackJobs) -> tuple[float | None, float | None]:
    registry = CollectorRegistry()
    metrics = PrometheusMetrics(registry=registry)
    await metrics.read_store(jobs)
    age = registry.get_sample_value("flowli_outbox_age_seconds")
    return registry.get_sample_value("flowli_outbox_jobs"), age


@pytest.mark.usefixtures("left")
def test_metrics_count_what_waits() -> None:
    jobs = make()
    count, age = run_sync(_metrics(jobs))
    assert (count, age is not None and age >= 3600) == (3, True)
    run_sync(jobs.aclose())


@pytest.mark.usefixtures("flowli")
def test_metrics_of_a_database_that_fails_are_not_numbers() -> None:
    jobs = make()
    count, age = run_sync(_metrics(jobs))
    assert (count != count, age != age) == (True, True)  # noqa: PLR0124
    run_sync(jobs.aclose())


def _page(jobs: PackJobs) -> str:
    app = Starlette()
    app.mount("/jobs", Dashboard(jobs, allow_anonymous=True))
    with TestClient(app) as client:
        text = client.get("/jobs/").text
    asyncio.run(jobs.aclose())
    return text


@pytest.mark.usefixtures("left")
def test_the_dashboard_shows_what_waits() -> None:
    page = _page(make())
    assert "in the outbox, 3 jobs wait to be sent to the store, the oldest for 1 h 0 min" in page
    assert "Outbox: 3 jobs wait to be sent" in page


@pytest.mark.usefixtures("flowli")
def test_the_dashboard_shows_the_error_of_the_database() -> None:
    assert "no such table: flowli_outbox" in _page(make())
    assert "utbox" not in _page(PackJobs(context=None, driver=MemoryDriver()))


def test_one_job_that_waits_is_named_in_the_singular() -> None:
    assert str(OutboxState(count=1, age=timedelta(seconds=2))) == "1 job has waited for 2 s to be sent to the store"
