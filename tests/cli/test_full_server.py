"""The commands of an operator on a Redis server whose memory is full."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.redis.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.operated import Output

pytestmark = pytest.mark.parametrize("flowli", ["redis"], indirect=True)


@pytest.fixture
def server(flowli: Callable[..., Output], monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Start a server that only this test uses, for the commands of the test."""
    with Server() as own:
        monkeypatch.setenv("FLOWLI_TEST_URL", own.url)
        monkeypatch.setenv("FLOWLI_TEST_PREFIX", "app")
        yield own


def fill(server: Server) -> None:
    """Leave the server no memory for new data, and lose its scripts."""
    server.call("CONFIG", "SET", "maxmemory", 1)
    server.call("SCRIPT", "FLUSH")


def test_an_operator_sees_and_purges_the_jobs_of_a_full_server(flowli: Callable[..., Output], server: Server) -> None:
    for _ in range(3):
        flowli("enqueue", "nightly")
    flowli("worker", "--burst")
    fill(server)
    assert flowli("status", "--json").json["counts"]["failed"] == 3
    assert len(flowli("jobs", "list", "--json").json["items"]) == 3
    memory = next(one for one in flowli("doctor", "--json").json if one["name"] == "memory")
    assert memory["verdict"] == "bad"
    assert "purge" in memory["cure"]
    refused = flowli("enqueue", "nightly")
    assert (refused.code, refused.out) == (1, "")
    assert "out of memory" in refused.err
    assert flowli("jobs", "purge", "failed", "--yes").out == "3 removed\n"
    assert flowli("status", "--json").json["counts"]["failed"] == 0


def test_a_worker_starts_on_a_full_server_and_runs_its_jobs(flowli: Callable[..., Output], server: Server) -> None:
    """Its schedules are stored already, or cannot be: it says so when it has run the jobs."""
    flowli("enqueue", "send_email", '{"to": "ada"}')
    fill(server)
    first = flowli("worker", "--burst")
    assert first.code == 1
    assert "out of memory" in first.err
    assert flowli("status", "--json").json["counts"]["completed"] == 1
    server.call("CONFIG", "SET", "maxmemory", 0)
    assert flowli("worker", "--burst").code == 0
    flowli("enqueue", "send_email", '{"to": "bob"}')
    fill(server)
    assert flowli("worker", "--burst").code == 0
    assert flowli("status", "--json").json["counts"]["completed"] == 2


def test_an_operator_stops_a_schedule_on_a_full_server(flowli: Callable[..., Output], server: Server) -> None:
    flowli("worker", "--burst")
    fill(server)
    assert flowli("schedules", "pause", "at-night").code == 0
    assert flowli("schedules", "remove", "mail:often").code == 0
    (left,) = flowli("schedules", "list", "--json").json["items"]
    assert (left["key"], left["paused"]) == ("at-night", True)
