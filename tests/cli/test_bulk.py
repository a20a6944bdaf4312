"""Jobs are listed and changed by filters: `flowli jobs list`, and `--all` of `requeue`, `cancel` and `purge`."""

from __future__ import annotations

import asyncio
import importlib
import signal
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flowli_core.cli._operations.change import describe_jobs
from tests.cli.test_terminal import run_in_terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.app import WorkerJobs
    from tests.cli.operated import Output

HOUR = timedelta(hours=1)
NONE = {"name": None, "queue": None, "error": None, "older_than": None}


@pytest.fixture
def failed(flowli: Callable[..., Output]) -> list[str]:
    """Let two jobs fail, store one that waits, and return the ids of all."""
    ids = [flowli("enqueue", "nightly", "--json").json["id"] for _ in range(2)]
    flowli("worker", "--burst")
    return [*ids, flowli("enqueue", "send_email", '{"to": "a"}', "--json").json["id"]]


def test_jobs_are_listed_by_filters(flowli: Callable[..., Output], failed: list[str]) -> None:
    def listed(*words: str) -> set[str]:
        return {line.split("\t")[0] for line in flowli("jobs", "list", *words).lines[1:]}

    first, second, waiting = failed
    assert listed("--error", "RuntimeError", "--name", "nightly") == {first, second}
    assert listed("queued", "--queue", "mail") == {waiting}
    assert listed("--older-than", "1h") == set()
    empty = flowli("jobs", "list", "--error", "KeyError", "--name", "nightly")
    assert (empty.code, empty.out, empty.err) == (0, "", "no failed jobs of nightly with KeyError\n")
    assert flowli("jobs", "list", "--error", "RuntimeError", "--limit", "1", "--json").json["cursor"] is not None


def test_all_failed_jobs_with_an_error_are_requeued(flowli: Callable[..., Output], failed: list[str]) -> None:
    assert flowli("jobs", "requeue", "--all", "--error", "KeyError", "--yes").out == "0 requeued\n"
    output = flowli("jobs", "requeue", "--all", "failed", "--error", "RuntimeError", "--yes")
    assert (output.code, output.out, output.err) == (0, "2 requeued\n", "")
    assert flowli("status", "--json").json["counts"]["queued"] == 3


def test_waiting_jobs_of_a_queue_are_cancelled_and_purged(flowli: Callable[..., Output], failed: list[str]) -> None:
    assert flowli("jobs", "cancel", "--all", "--queue", "mail", "--yes").out == "1 cancelled\n"
    assert flowli("jobs", "purge", "cancelled", "--name", "nightly", "--yes").out == "0 removed\n"
    assert flowli("jobs", "purge", "cancelled", "--name", "send_email", "--yes").out == "1 removed\n"
    assert flowli("jobs", "show", failed[-1]).code == 1


def test_a_dry_run_changes_nothing(flowli: Callable[..., Output], failed: list[str]) -> None:
    for words, says in (
        (["requeue", "--all", "--error", "RuntimeError"], "2 failed jobs with RuntimeError; nothing was changed\n"),
        (["cancel", "--all", "--queue", "mail"], "1 queued job in the queue mail; nothing was changed\n"),
        (["purge", "failed"], "2 failed jobs; nothing was changed\n"),
    ):
        output = flowli("jobs", *words, "--dry-run")
        assert (output.code, output.out) == (0, says)
    counts = flowli("status", "--json").json["counts"]
    assert (counts["failed"], counts["queued"]) == (2, 1)


@pytest.mark.parametrize("words", [["requeue", "--all"], ["cancel", "--all"], ["purge", "failed"]])
def test_without_a_terminal_yes_is_needed(words: list[str], flowli: Callable[..., Output], failed: list[str]) -> None:
    output = flowli("jobs", *words)
    assert (output.code, "--yes" in output.err) == (2, True)
    assert flowli("status", "--json").json["counts"]["failed"] == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["requeue"], "give the ID of a job, or --all"),
        (["cancel", "a", "--all"], "not both"),
        (["requeue", "a", "--error", "KeyError"], "need --all"),
        (["cancel", "a", "--dry-run"], "need --all"),
        (["cancel", "--all", "failed"], "'failed' is not one of"),
        (["requeue", "--all", "--error", "", "--yes"], "error must not be empty"),
        (["requeue", "--all", "operated:make"], "write --app operated:make"),
    ],
)
def test_wrong_usage_is_refused(words: list[str], says: str, flowli: Callable[..., Output]) -> None:
    output = flowli("jobs", *words)
    assert (output.code, says in output.err) == (2, True), output.err


def test_skipped_jobs_are_counted_with_the_reason(flowli: Callable[..., Output]) -> None:
    for _ in range(2):
        flowli("enqueue", "nightly", "--key", "k")
        flowli("worker", "--burst")
    output = flowli("jobs", "requeue", "--all", "--yes")
    assert output.code == 0
    assert output.out.startswith("1 requeued, 1 skipped: they changed meanwhile, are damaged, or another")


def test_ctrl_c_says_how_far_it_came_and_the_same_command_goes_on(
    flowli: Callable[..., Output], failed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("flowli_core._jobs.control")
    change_all = module.change_all

    async def change_and_interrupt(*given: Any) -> Any:
        await change_all(*given)
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(10)

    monkeypatch.setattr(module, "change_all", change_and_interrupt)
    flowli("enqueue", "nightly")
    output = flowli("jobs", "requeue", "--all", "--yes")
    says = "interrupted: 2 of 2 requeued; run the same command again to go on with the rest"
    assert (output.code, output.out, output.err.strip()) == (130, "", says)


async def test_a_terminal_is_asked_and_sees_a_progress_bar(tmp_path: Path, jobs: WorkerJobs) -> None:
    await jobs.count.enqueue(7)
    text = await asyncio.to_thread(
        run_in_terminal, tmp_path, "jobs", "cancel", "--all", "--name", "count", answer="y\n"
    )
    assert "1 queued job of count: cancel? [y/N]: " in text
    assert "100%" in text
    assert text.endswith("1 cancelled\r\n")


@pytest.mark.parametrize(
    ("given", "says"), [({"answer": "n\n"}, "flowli: nothing was changed"), ({"ctrl_c_after": "N]: "}, "")]
)
async def test_nothing_is_changed_without_consent(
    tmp_path: Path, jobs: WorkerJobs, given: dict[str, str], says: str
) -> None:
    """Ctrl-C at the question ends the command at once."""
    await jobs.count.enqueue(7)
    text = await asyncio.to_thread(run_in_terminal, tmp_path, "jobs", "cancel", "--all", **given)
    question, _, after = text.partition("1 queued job: cancel? [y/N]: ")
    assert (question.strip(), after.strip()) in {("", says), ("n", says)}
    assert await jobs.inspect.count("queued") == 1


async def test_no_question_is_asked_if_there_is_nothing_to_change(tmp_path: Path, jobs: WorkerJobs) -> None:
    text = await asyncio.to_thread(run_in_terminal, tmp_path, "jobs", "cancel", "--all", "--name", "count")
    assert text == "no queued jobs of count; nothing was changed\r\n"


@pytest.mark.parametrize(
    ("number", "state", "filters", "says"),
    [
        (312, "failed", {"name": "send", "error": "KeyError"}, "312 failed jobs of send with KeyError"),
        (1, "queued", {"queue": "mail"}, "1 queued job in the queue mail"),
        (20_000, "completed", {"older_than": HOUR}, "20,000 completed jobs that finished more than 1h ago"),
        (0, "active", {"older_than": HOUR}, "no active jobs that started more than 1h ago"),
        (2, "queued", {"older_than": HOUR}, "2 queued jobs that have been due for more than 1h"),
    ],
)
def test_jobs_are_described_in_words(number: int, state: Any, filters: dict[str, Any], says: str) -> None:
    assert describe_jobs(number, state, NONE | filters) == says
