"""`flowli queues`, and what the other commands say of paused queues."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from tests.cli.operated import Output


def enqueue(flowli: Callable[..., Output]) -> None:
    assert flowli("enqueue", "send_email", '{"to": "ada"}').code == 0


def test_a_queue_is_paused_and_resumed(flowli: Callable[..., Output], caplog: pytest.LogCaptureFixture) -> None:
    """A worker leaves its jobs, and says how many wait."""
    enqueue(flowli)
    assert flowli("queues", "pause", "mail").out == "paused\n"
    assert flowli("queues", "pause", "mail").out == "it was paused already\n"
    assert flowli("worker", "--burst").code == 0
    assert caplog.text.count("the queue mail is paused; due jobs that wait in it: 1") == 2  # at the start and the end
    caplog.clear()
    assert flowli("status", "--json").json["counts"]["queued"] == 1
    assert flowli("queues", "resume", "mail").out == "resumed\n"
    again = flowli("queues", "resume", "mail")
    assert (again.code, again.err) == (1, "flowli: the queue mail is not paused\n")
    flowli("worker", "--burst")
    assert "is paused" not in caplog.text
    assert flowli("status", "--json").json["counts"]["completed"] == 1


def test_a_queue_that_is_not_declared_is_refused(flowli: Callable[..., Output]) -> None:
    for action in ("pause", "resume"):
        output = flowli("queues", action, "mial")
        assert output.code == 2
        assert "AppJobs declares no queue 'mial'; did you mean 'mail'?" in output.err


def test_all_queues_are_listed(flowli: Callable[..., Output]) -> None:
    """Also those that are declared and empty. The column of pauses appears with the first."""
    enqueue(flowli)
    head, *rows = [line.split("\t") for line in flowli("queues", "list").lines]
    assert head[-2:] == ["oldest", "workers"]
    assert [row[0] for row in rows] == ["bulk", "default", "mail", "all"]
    assert flowli("queues").lines[0].split("\t") == head
    assert flowli("queues", "--help").out.startswith("Usage: flowli queues ")
    flowli("queues", "pause", "mail")
    for command in (("queues", "list"), ("status",)):
        rows = [line.split("\t") for line in flowli(*command).lines]
        (row,) = [row for row in rows if row[:2] == ["mail", "1"]]
        assert row[-1].startswith("paused for ")
        assert row[-2] == "0"
    mail = next(one for one in flowli("queues", "--json").json if one["name"] == "mail")
    assert (mail["counts"]["queued"], mail["served_by"]) == (1, [])
    assert mail["paused_since"] == flowli("status", "--json").json["paused"]["mail"]


def test_a_paused_queue_without_jobs_has_a_row_in_the_status(flowli: Callable[..., Output]) -> None:
    flowli("queues", "pause", "bulk")
    (row,) = [line for line in flowli("status").lines if line.startswith("bulk\t")]
    assert "\tpaused for " in row


def test_check_names_a_paused_queue_and_fails_only_by_its_age(flowli: Callable[..., Output]) -> None:
    """Its message does not say that a worker is missing."""
    enqueue(flowli)
    flowli("queues", "pause", "mail")
    passed = flowli("check", "--workers", "0")
    assert (passed.code, passed.lines[-1]) == (0, "paused queues: mail")
    time.sleep(0.01)
    failed = flowli("check", "--workers", "0", "--oldest", "1ms")
    assert failed.code == 1
    assert "in the queue mail, which is paused, longer than 1ms" in failed.err
    assert failed.err.endswith("paused queues: mail\n")
    assert flowli("check", "--workers", "0", "--json").json["paused"] == ["mail"]


def test_doctor_warns_of_a_paused_queue(flowli: Callable[..., Output]) -> None:
    """Its jobs need no worker, so the finding about workers is not bad."""
    assert "ok\tpaused queues\tnone\t" in flowli("doctor").lines
    enqueue(flowli)
    flowli("queues", "pause", "mail")
    found = {one["name"]: one for one in flowli("doctor", "--json").json}
    assert found["paused queues"]["verdict"] == "warning"
    assert found["paused queues"]["value"].endswith(", 1 queued")
    assert found["workers"]["verdict"] == "ok"
    enqueued = flowli("enqueue", "nightly")
    assert enqueued.code == 0
    found = {one["name"]: one for one in flowli("doctor", "--json").json}
    assert found["workers"]["verdict"] == "bad"
