"""What one types to see and to steer what runs, against SQLite and Redis."""

from __future__ import annotations

import importlib
import json
from typing import TYPE_CHECKING, Any

from flowli_core import DriverError, StoreUnavailable
from tests.redis.server import shared_url

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from tests.cli.operated import Typed


def test_a_job_goes_in_and_is_looked_at_and_run(flowli: Callable[..., Typed]) -> None:
    receipt = flowli("enqueue", "send_email", '{"to": "ada", "urgent": true}', "--meta", '{"actor": "me"}', "--json")
    assert receipt.json["state"] == "queued"
    before = flowli("jobs", "show", receipt.json["id"], "--json").json
    assert before["input"] == {"to": "ada", "urgent": True}
    assert flowli("worker", "--burst").code == 0
    after = flowli("jobs", "show", receipt.json["id"], "--json").json
    assert (after["state"], after["result"]) == ("completed", ["ada", True, "me"])


def test_an_input_is_checked_by_the_jobs_own_model_before_anything_is_stored(flowli: Callable[..., Typed]) -> None:
    for words, said in (
        (["send_email", "{}"], "to: Field required"),
        (["send_email", "{"], "INPUT is not JSON"),
        (["send_email"], "send_email takes an input"),
        (["nightly", "1"], "nightly takes no input"),
        (["nightly", "--meta", "{}"], "nightly takes no meta"),
        (["send_email", '{"to": "a"}', "--meta", "{}"], "actor: Field required"),
        (["send_emial", "{}"], "did you mean send_email?"),
        (["send_email", '{"to": "a"}', "--queue", "a b"], "queue may have letters"),
    ):
        typed = flowli("enqueue", *words)
        assert typed.code == 2
        assert said in typed.err
        assert len(typed.err.splitlines()) == 1
    assert flowli("status", "--json").json["counts"]["queued"] == 0


def test_enqueue_takes_a_key_a_queue_and_a_delay(flowli: Callable[..., Typed]) -> None:
    words = ("enqueue", "send_email", '{"to": "ada"}', "--key", "k", "--queue", "bulk", "--delay", "1h")
    first, second = flowli(*words), flowli(*words)
    assert first.out.endswith("scheduled (accepted)\n")
    assert second.out.endswith("scheduled (existing)\n")
    assert "bulk\t0\t1\t0\t0\t0\t0" in flowli("status").out


def test_run_calls_the_handler_here_and_prints_its_result(flowli: Callable[..., Typed]) -> None:
    typed = flowli("run", "send_email", '{"to": "ada"}')
    assert (typed.code, json.loads(typed.out)) == (0, ["ada", False, None])
    failed = flowli("run", "nightly")
    assert failed.code == 1
    assert "RuntimeError: no \\x1b[31mnight" in failed.err
    assert "\x1b" not in failed.err


def test_what_failed_is_listed_inert_and_can_be_run_again(flowli: Callable[..., Typed]) -> None:
    job_id = flowli("enqueue", "nightly", "--json").json["id"]
    flowli("worker", "--burst")
    typed = flowli("jobs", "list")
    assert typed.lines[0].split("\t")[:2] == ["id", "name"]
    assert typed.lines[1].startswith(f"{job_id}\tnightly\tdefault\t1\t")
    assert typed.lines[1].endswith("RuntimeError: no \\x1b[31mnight\\nforged")
    assert "\x1b" not in flowli("jobs", "show", job_id).out + flowli("jobs", "list", "--json").out
    assert flowli("jobs", "requeue", job_id).out == "requeued\n"
    again = flowli("jobs", "requeue", job_id)
    assert (again.code, again.err) == (1, f"flowli: {job_id} waits or runs already\n")
    assert flowli("jobs", "list", "queued", "--json").json["items"][0]["id"] == job_id


def test_a_waiting_job_can_be_cancelled_and_purged(flowli: Callable[..., Typed]) -> None:
    job_id = flowli("enqueue", "nightly", "--json").json["id"]
    assert flowli("jobs", "cancel", job_id).out == "cancelled\n"
    assert flowli("jobs", "cancel", job_id).code == 1
    assert flowli("jobs", "purge", "cancelled", "--older-than", "1h", "--yes").out == "0 removed\n"
    assert flowli("jobs", "purge", "cancelled", "--yes").out == "1 removed\n"
    gone = flowli("jobs", "show", job_id)
    assert (gone.code, gone.err) == (1, f"flowli: there is no job with the id {job_id} (any more)\n")
    assert flowli("jobs", "cancel", job_id).code == flowli("jobs", "requeue", job_id).code == 1


def test_pages_follow_each_other(flowli: Callable[..., Typed]) -> None:
    ids = [flowli("enqueue", "nightly", "--json").json["id"] for _ in range(3)]
    first = flowli("jobs", "list", "queued", "--limit", "2")
    cursor = first.err.split("--cursor ")[1].strip()
    second = flowli("jobs", "list", "queued", "--limit", "2", "--cursor", cursor)
    shown = [line.split("\t")[0] for typed in (first, second) for line in typed.lines[1:]]
    assert shown == ids[::-1]
    assert flowli("jobs", "list", "queued", "--cursor", "!").code == 2


def test_status_tells_who_works_and_how_long_the_work_waits(flowli: Callable[..., Typed]) -> None:
    assert "nothing waits" in flowli("status").out
    flowli("worker", "--burst")
    flowli("enqueue", "nightly")
    typed = flowli("status")
    assert "workers\t1 heard of within the last minute, " in typed.out
    assert "in default" in typed.out
    found = flowli("status", "--json").json
    assert found["counts"]["by_queue"]["default"]["queued"] == 1
    assert found["activity"]["oldest"].keys() == {"default"}


def test_check_answers_with_its_exit_code(flowli: Callable[..., Typed]) -> None:
    typed = flowli("check")
    assert (typed.code, typed.out) == (0, "ok\n")
    flowli("enqueue", "nightly")
    typed = flowli("check", "--workers", "1", "--oldest", "0s")
    assert typed.code == 1
    assert "0 of 1 workers were heard of within the last minute" in typed.err
    assert "a job has waited" in typed.err


def test_check_can_be_read_by_programs(flowli: Callable[..., Typed]) -> None:
    typed = flowli("check", "--json")
    assert (typed.code, typed.json) == (0, {"ok": True, "workers": 0, "oldest": None, "complaints": []})
    flowli("enqueue", "nightly")
    typed = flowli("check", "--workers", "1", "--oldest", "0s", "--json")
    assert (typed.code, typed.err) == (1, "")
    found = typed.json
    assert (found["ok"], found["workers"]) == (False, 0)
    assert found["oldest"] >= 0
    assert found["complaints"][0] == "0 of 1 workers were heard of within the last minute"


def test_purge_asks_only_where_somebody_can_answer(flowli: Callable[..., Typed]) -> None:
    flowli("jobs", "cancel", flowli("enqueue", "nightly", "--json").json["id"])
    typed = flowli("jobs", "purge", "cancelled")
    assert typed.code == 2
    assert "--yes" in typed.err
    assert flowli("status", "--json").json["counts"]["cancelled"] == 1


def test_status_watches_through_a_hiccup_of_the_store(
    flowli: Callable[..., Typed], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("flowli_core.cli._operations.status")
    read = module.read_status
    moods = iter([StoreUnavailable("a hiccup"), None, DriverError("for good")])

    async def moody(jobs: Any) -> Any:
        error = next(moods)
        if error is not None:
            raise error
        return await read(jobs)

    monkeypatch.setattr(module, "read_status", moody)
    typed = flowli("status", "--watch", "--every", "1ms")
    assert (typed.code, typed.err) == (1, "flowli: a hiccup\nflowli: for good\n")
    assert "nothing waits" in typed.out


def test_doctor_looks_at_the_store_from_all_sides(flowli: Callable[..., Typed]) -> None:
    checks = {one["name"]: one for one in flowli("doctor", "--json").json}
    assert {"driver", "server version", "persistence", "layout", "clock", "fsck", "workers"} <= checks.keys()
    assert "bad" not in {one["verdict"] for one in checks.values()}
    flowli("enqueue", "nightly")
    typed = flowli("doctor")
    assert typed.code == 1
    assert (
        "bad\tworkers\t0 heard of within the last minute\tjobs wait, and nobody runs them: flowli worker" in typed.lines
    )


def test_a_store_that_is_not_there_is_said_in_one_line(
    flowli: Callable[..., Typed], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FLOWLI_TEST_STORE", "redis")
    monkeypatch.setenv("FLOWLI_TEST_PREFIX", "p")
    for url, said in (
        (f"unix://{tmp_path}/nowhere", "cannot be reached"),
        (shared_url().replace("unix://", "unix://nobody:secret@"), "refused the user name or the password"),
    ):
        monkeypatch.setenv("FLOWLI_TEST_URL", url)
        for words in (
            ["status"],
            ["jobs", "list"],
            ["schedules", "list"],
            ["schedules", "pause", "at-night"],
            ["enqueue", "nightly"],
            ["check"],
            ["doctor"],
            ["worker", "--burst"],
        ):
            typed = flowli(*words)
            assert (typed.code, len(typed.err.splitlines())) == (1, 1), typed.err
            assert said in typed.err
            assert "secret" not in typed.err
