"""The commands of an operator, on SQLite and Redis."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import socket
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flowli_core import DriverError, StoreUnavailable
from flowli_core._wire.about import pack_about
from flowli_core.cli._operations.job_view import explain_cancel
from flowli_core.stored import Overview, StoredWorker
from tests.conformance.builders import step
from tests.redis.server import shared_url

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.operated import Output


def test_a_job_is_enqueued_shown_and_run(flowli: Callable[..., Output]) -> None:
    receipt = flowli("enqueue", "send_email", '{"to": "ada", "urgent": true}', "--meta", '{"actor": "me"}', "--json")
    assert receipt.json["state"] == "queued"
    before = flowli("jobs", "show", receipt.json["id"], "--json").json
    assert before["input"] == {"to": "ada", "urgent": True}
    assert flowli("worker", "--burst").code == 0
    after = flowli("jobs", "show", receipt.json["id"], "--json").json
    assert (after["state"], after["result"]) == ("completed", ["ada", True, "me"])


def test_an_invalid_input_is_refused_before_anything_is_stored(flowli: Callable[..., Output]) -> None:
    for words, message in (
        (["send_email", "{}"], "to: Field required"),
        (["send_email", "{"], "INPUT is not JSON"),
        (["send_email", '"\udcff"'], "INPUT is not UTF-8"),
        (["send_email", '{"to": "a"}', "--meta", '"\udcff"'], "--meta is not UTF-8"),
        (["send_email", '{"to": "a"}', "--key", "\udcff"], "key"),
        (["send_\udcff", "{}"], "there is no job"),
        (["send_email"], "send_email takes an input"),
        (["nightly", "1"], "nightly takes no input"),
        (["nightly", "--meta", "{}"], "nightly takes no meta"),
        (["send_email", '{"to": "a"}', "--meta", "{}"], "actor: Field required"),
        (["send_emial", "{}"], "did you mean send_email?"),
        (["send_email", '{"to": "a"}', "--queue", "a b"], "queue may have letters"),
        (["nightly", "--queue", "defualt"], "AppJobs declares no queue 'defualt'; did you mean 'default'?"),
        (["send_email", "hello"], "write a string as '\"hello\"'"),
        (["nightly", "operated:make"], "to name the registry, write --app operated:make"),
    ):
        output = flowli("enqueue", *words)
        assert output.code == 2
        assert message in output.err
        assert len(output.err.splitlines()) == 1
    assert flowli("status", "--json").json["counts"]["queued"] == 0


def test_enqueue_replaces_and_debounces_by_a_key(flowli: Callable[..., Output]) -> None:
    words = ("enqueue", "send_email", '{"to": "ada"}', "--key", "r")
    first = flowli(*words, "--debounce", "1h", "--max-wait", "2h", "--unique-for", "1d").out.split()
    again = flowli(*words, "--replace", "--delay", "2h").out.split()
    assert (first[1:], again) == (["scheduled", "(accepted)"], [first[0], "scheduled", "(replaced)"])
    assert "need --key" in flowli("enqueue", "send_email", '{"to": "ada"}', "--replace").err
    assert "leave out --delay" in flowli(*words, "--debounce", "1h", "--delay", "2h").err


def test_enqueue_takes_a_key_a_queue_and_a_delay(flowli: Callable[..., Output]) -> None:
    words = ("enqueue", "send_email", '{"to": "ada"}', "--key", "k", "--queue", "bulk", "--delay", "1h")
    first, second = flowli(*words), flowli(*words)
    assert first.out.endswith("scheduled (accepted)\n")
    assert second.out.endswith("scheduled (existing)\n")
    assert "bulk\t0\t1\t0\t0\t0\t0" in flowli("status").out


def test_run_calls_the_handler_in_this_process_and_prints_its_result(flowli: Callable[..., Output]) -> None:
    output = flowli("run", "send_email", '{"to": "ada"}')
    assert (output.code, json.loads(output.out)) == (0, ["ada", False, None])
    failed = flowli("run", "nightly")
    assert failed.code == 1
    assert "RuntimeError: no \\x1b[31mnight" in failed.err
    assert "\x1b" not in failed.err
    assert "in nightly" in failed.err.splitlines()[1]


def test_a_failed_job_is_listed_with_its_controls_escaped_and_can_be_requeued(flowli: Callable[..., Output]) -> None:
    job_id = flowli("enqueue", "nightly", "--json").json["id"]
    flowli("worker", "--burst")
    output = flowli("jobs", "list")
    assert output.lines[0].split("\t")[:2] == ["id", "name"]
    assert output.lines[1].startswith(f"{job_id}\tnightly\tdefault\t1 of 1\t")
    assert output.lines[1].endswith("RuntimeError: no \\x1b[31mnight\\nforged")
    assert "\x1b" not in flowli("jobs", "show", job_id).out + flowli("jobs", "list", "--json").out
    assert flowli("jobs", "requeue", job_id).out == "requeued\n"
    again = flowli("jobs", "requeue", job_id)
    assert (again.code, again.err) == (1, f"flowli: {job_id} is already waiting or running\n")
    assert flowli("jobs", "list", "queued", "--json").json["items"][0]["id"] == job_id


def test_a_waiting_job_can_be_cancelled_and_purged(flowli: Callable[..., Output]) -> None:
    job_id = flowli("enqueue", "nightly", "--json").json["id"]
    assert flowli("jobs", "cancel", job_id).out == "cancelled\n"
    assert flowli("jobs", "cancel", job_id).code == 1
    assert flowli("jobs", "purge", "cancelled", "--older-than", "1h", "--yes").out == "0 removed\n"
    assert flowli("jobs", "purge", "cancelled", "--yes").out == "1 removed\n"
    gone = flowli("jobs", "show", job_id)
    assert (gone.code, gone.err) == (
        1,
        f"flowli: there is no job with the id {job_id}; finished jobs are removed after a while\n",
    )
    assert flowli("jobs", "cancel", job_id).code == flowli("jobs", "requeue", job_id).code == 1


def test_pages_follow_each_other(flowli: Callable[..., Output]) -> None:
    ids = [flowli("enqueue", "nightly", "--json").json["id"] for _ in range(3)]
    first = flowli("jobs", "list", "queued", "--limit", "2")
    cursor = first.err.split("--cursor ")[1].strip()
    second = flowli("jobs", "list", "queued", "--limit", "2", "--cursor", cursor)
    shown = [line.split("\t")[0] for output in (first, second) for line in output.lines[1:]]
    assert shown == ids[::-1]
    assert flowli("jobs", "list", "queued", "--cursor", "!").code == 2


def store_worker(
    about: bytes, *, name: str = "there:1:ab", queues: tuple[str, ...] = ("default",), want: int = 0
) -> None:
    """Store the first step of a worker that goes on living, as far as the store can tell."""

    async def store() -> None:
        driver = importlib.import_module("operated").driver()
        await driver.open()
        await driver.step(step(name, want=want, queues=queues, about=about))
        await driver.close()

    asyncio.run(store())


ALL = pack_about(("mail", "default"), ["send_email", "nightly"])


def test_status_shows_the_workers_and_how_long_jobs_wait(flowli: Callable[..., Output]) -> None:
    assert "no due job is waiting" in flowli("status").out
    store_worker(ALL)
    flowli("enqueue", "nightly")
    output = flowli("status")
    assert "workers\t1 alive, there:1:ab (last seen now, queues mail, default)" in output.out
    assert "in queue default" in output.out
    found = flowli("status", "--json").json
    assert found["counts"]["by_queue"]["default"]["queued"] == 1
    assert found["oldest"].keys() == {"default"}
    (worker,) = found["workers"]
    assert (worker["name"], worker["is_alive"], worker["queues"]) == ("there:1:ab", True, ["mail", "default"])


def test_status_marks_a_queue_that_no_worker_serves(flowli: Callable[..., Output]) -> None:
    flowli("enqueue", "nightly")
    store_worker(pack_about(("mail",), ["send_email"]))
    lines = [line.split("\t") for line in flowli("status").lines]
    assert [line[-1] for line in lines if line[0] in {"queue", "default"}] == ["workers", "none"]


def test_a_worker_that_has_stopped_is_gone_at_once(flowli: Callable[..., Output]) -> None:
    flowli("worker", "--burst")
    assert "workers\tnone alive" in flowli("status").lines
    output = flowli("check")
    assert (output.code, output.err) == (1, "0 of 1 workers are alive\n")


def test_check_reports_by_its_exit_code(flowli: Callable[..., Output]) -> None:
    output = flowli("check", "--workers", "0")
    assert (output.code, output.out) == (0, "ok, but no worker is alive\n")
    flowli("enqueue", "nightly")
    output = flowli("check", "--oldest", "0s")
    assert output.code == 1
    assert "0 of 1 workers are alive" in output.err
    assert "a due job has waited" in output.err
    store_worker(ALL)
    assert re.fullmatch(r"ok: 1 worker alive, last seen \d s ago\n", flowli("check").out)
    output = flowli("check", "--here")
    assert (output.code, output.err) == (1, "0 of 1 workers are alive on this host\n")
    store_worker(ALL, name=f"{socket.gethostname()}:1:ab")
    assert flowli("check", "--here", "--workers", "1").out.startswith("ok: 1 worker alive")


@pytest.mark.parametrize(
    ("about", "complaint"),
    [
        (pack_about(("mail",), ["send_email", "nightly"]), "no worker serves the queue default of the job nightly"),
        (pack_about(("mail", "default"), ["send_email"]), "no worker of the queue default knows the job nightly"),
    ],
)
def test_check_names_a_job_that_no_living_worker_would_run(
    flowli: Callable[..., Output], about: bytes, complaint: str
) -> None:
    flowli("status")
    store_worker(about)
    output = flowli("check")
    assert (output.code, output.err) == (1, f"{complaint}\n")
    assert complaint in flowli("doctor").out
    assert flowli("check", "--workers", "0").code == 0


def test_check_names_a_queue_in_which_jobs_wait_for_no_worker(flowli: Callable[..., Output]) -> None:
    flowli("enqueue", "nightly", "--delay", "1h")
    store_worker(pack_about(("mail",), ["send_email", "nightly"]))
    assert flowli("check").err == "1 job waits in the queue default, which no worker serves\n"


def test_a_worker_whose_description_cannot_be_read_counts_as_serving_everything(flowli: Callable[..., Output]) -> None:
    flowli("status")
    store_worker(b'{"v":99}')
    assert flowli("check").out.startswith("ok: 1 worker alive")
    assert "workers\t1 alive, there:1:ab (last seen now)" in flowli("status").out


def test_check_prints_json_for_programs(flowli: Callable[..., Output]) -> None:
    output = flowli("check", "--json", "--workers", "0")
    assert (output.code, output.json) == (
        0,
        {"ok": True, "workers": 0, "last_seen": None, "oldest": None, "paused": [], "complaints": []},
    )
    flowli("enqueue", "nightly")
    output = flowli("check", "--oldest", "0s", "--json")
    assert (output.code, output.err) == (1, "")
    found = output.json
    assert (found["ok"], found["workers"]) == (False, 0)
    assert found["oldest"] >= 0
    assert found["complaints"][0] == "0 of 1 workers are alive"


def test_purge_without_a_terminal_needs_yes(flowli: Callable[..., Output]) -> None:
    flowli("jobs", "cancel", flowli("enqueue", "nightly", "--json").json["id"])
    output = flowli("jobs", "purge", "cancelled")
    assert output.code == 2
    assert "--yes" in output.err
    assert flowli("status", "--json").json["counts"]["cancelled"] == 1


def test_status_goes_on_watching_while_the_store_is_unreachable(
    flowli: Callable[..., Output], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("flowli_core.cli._operations.status")
    read = module.read_status
    outcomes = iter([StoreUnavailable("unreachable"), None, DriverError("broken")])

    async def read_or_fail(jobs: Any) -> Any:
        error = next(outcomes)
        if error is not None:
            raise error
        return await read(jobs)

    monkeypatch.setattr(module, "read_status", read_or_fail)
    output = flowli("status", "--watch", "--every", "1ms")
    assert (output.code, output.err) == (1, "flowli: unreachable\nflowli: broken\n")
    assert "no due job is waiting" in output.out


def test_doctor_examines_the_store(flowli: Callable[..., Output]) -> None:
    checks = {one["name"]: one for one in flowli("doctor", "--json").json}
    assert {"driver", "server version", "persistence", "layout", "clock", "fsck", "workers"} <= checks.keys()
    # The Redis server of the tests stores nothing, and doctor says so.
    assert {name for name, one in checks.items() if one["verdict"] == "bad"} <= {"persistence"}
    flowli("enqueue", "nightly")
    output = flowli("doctor")
    assert output.code == 1
    cure = "jobs are waiting and no worker runs: start one with flowli worker"
    assert f"bad\tworkers\t0 alive\t{cure}" in output.lines


def test_an_unreachable_store_is_reported_in_one_line(
    flowli: Callable[..., Output], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FLOWLI_TEST_STORE", "redis")
    monkeypatch.setenv("FLOWLI_TEST_PREFIX", "p")
    for url, message in (
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
            output = flowli(*words)
            assert (output.code, len(output.err.splitlines())) == (1, 1), output.err
            assert message in output.err
            assert "secret" not in output.err


def test_the_registry_may_be_the_last_argument_of_a_command(
    flowli: Callable[..., Output], monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = flowli("enqueue", "nightly", "--json").json["id"]
    monkeypatch.delenv("FLOWLI_APP")
    for words in (
        ["status"],
        ["check", "--workers", "0"],
        ["jobs", "show", job_id],
        ["schedules", "list"],
        ["jobs", "cancel", job_id],
    ):
        assert flowli(*words, "operated:make").code == 0
    listing = flowli("jobs", "list", "operated:make")
    assert (listing.code, "to name the registry, write --app operated:make" in listing.err) == (2, True)
    assert "set FLOWLI_APP=app.jobs:jobs" in flowli("status").err


def test_an_empty_list_says_in_which_states_there_are_jobs(flowli: Callable[..., Output]) -> None:
    assert flowli("jobs", "list").err == "no failed jobs, and none in another state\n"
    flowli("enqueue", "nightly")
    flowli("enqueue", "nightly", "--delay", "1h")
    output = flowli("jobs", "list")
    message = "no failed jobs, but 1 queued, 1 scheduled: flowli jobs list queued\n"
    assert (output.code, output.out, output.err) == (0, "", message)
    assert "\tdue (UTC)\t" in flowli("jobs", "list", "queued").lines[0]


def test_a_job_is_shown_with_its_attempt_its_backoff_and_the_frames_of_its_handler(
    flowli: Callable[..., Output],
) -> None:
    job_id = flowli("enqueue", "nightly", "--json").json["id"]
    flowli("worker", "--burst")
    shown = dict(line.split("\t", 1) for line in flowli("jobs", "show", job_id).lines)
    assert shown["created_at"].endswith(" UTC")
    assert shown["attempt"] == "1 of 1"
    assert "backoff" not in shown
    assert shown["last_error"] == "RuntimeError: no \\x1b[31mnight\\nforged"
    assert "flowli_core" not in shown["traceback"]
    assert "in nightly" in shown["traceback"]
    assert re.fullmatch(
        r"1 \d{4}-\d\d-\d\d \d\d:\d\d:\d\d for \S+ on \S+, RuntimeError: no .*night.*forged", shown["attempts"]
    )
    shown = dict(line.split("\t", 1) for line in flowli("jobs", "show", job_id, "--traceback").lines)
    assert "in nightly" in shown["attempts"]
    (attempt,) = flowli("jobs", "show", job_id, "--json").json["attempts"]
    assert (attempt["number"], attempt["error"]["type"]) == (1, "RuntimeError")


def test_a_running_job_is_shown_with_its_lease_and_the_request_to_cancel_it(flowli: Callable[..., Output]) -> None:
    job_id = flowli("enqueue", "nightly", "--json").json["id"]
    store_worker(b"", want=1)
    shown = dict(line.split("\t", 1) for line in flowli("jobs", "show", job_id).lines)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC \(in (29|30) s\)", shown["lease_until"])
    assert (shown["attempt"], "cancel_requested" in shown) == ("1 of 1", False)
    assert flowli("jobs", "cancel", job_id).out.startswith("requested: the job is running on there:1:ab (last seen ")
    shown = dict(line.split("\t", 1) for line in flowli("jobs", "show", job_id).lines)
    assert shown["cancel_requested"] == "True"
    found = flowli("jobs", "show", job_id, "--json").json
    assert (found["state"], found["cancel_requested"], found["lease_until"][:2]) == ("active", True, "20")


def test_an_expired_job_is_shown_as_such(flowli: Callable[..., Output]) -> None:
    async def enqueue() -> str:
        async with importlib.import_module("operated").make() as jobs:
            receipt = await jobs.nightly.options(expires="1ms").enqueue()
            return str(receipt.id)

    assert flowli("status").code == 0  # from now on, the module of the application can be imported
    job_id = asyncio.run(enqueue())
    shown = dict(line.split("\t", 1) for line in flowli("jobs", "show", job_id).lines)
    assert (shown["expires_at"].endswith(" UTC"), "expired" in shown) == (True, False)
    flowli("worker", "--burst")
    shown = dict(line.split("\t", 1) for line in flowli("jobs", "show", job_id).lines)
    assert (shown["state"], shown["expired"]) == ("cancelled", "True")
    found = flowli("jobs", "show", job_id, "--json").json
    assert (found["state"], found["expired"], found["expires_at"][:2]) == ("cancelled", True, "20")


def test_a_job_is_shown_with_its_progress_and_its_log(flowli: Callable[..., Output]) -> None:
    """In a pipe each line of the log is a line, with its control characters escaped."""
    job_id = flowli("enqueue", "nightly", "--json").json["id"]
    flowli("worker", "--burst")
    lines = [line.split("\t", 1) for line in flowli("jobs", "show", job_id).lines]
    shown = dict(lines)
    assert re.fullmatch(r"3 of 4 \(75%\): \\x1b\[31mdust, (now|\d+ s ago)", shown["progress"])
    log = [value for name, value in lines if name == "log"]
    assert [line.split(" ", 2)[2] for line in log] == ["swept", "\\x1b[31mall"]
    found = flowli("jobs", "show", job_id, "--json").json
    assert (found["progress"]["done"], found["progress"]["total"], found["progress"]["note"]) == (3, 4, "\x1b[31mdust")
    assert [line["text"] for line in found["log"]] == ["swept", "\x1b[31mall"]


def test_a_wrong_value_of_a_variable_is_reported_with_its_name(
    flowli: Callable[..., Output], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWLI_CONCURRENCY", "abc")
    output = flowli("worker", "--burst")
    assert (
        output.err
        == "flowli worker: Invalid value for the variable FLOWLI_CONCURRENCY: 'abc' is not a valid integer.\n"
    )
    monkeypatch.setenv("FLOWLI_CONCURRENCY", "2")
    assert "'-c' / '--concurrency'" in flowli("worker", "-c", "abc").err


def test_watching_shows_the_time_of_each_refresh(
    flowli: Callable[..., Output], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("flowli_core.cli._operations.status")
    monkeypatch.setattr(module, "read_status", read_once(module.read_status))
    output = flowli("status", "--watch", "--every", "1ms")
    assert re.match(r"every 1ms, \d\d:\d\d:\d\d UTC, until Ctrl-C$", output.lines[0])


def read_once(read: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that reads the status once, and fails the second time."""
    reads = 0

    async def read_or_fail(jobs: Any) -> Any:
        nonlocal reads
        reads += 1
        if reads > 1:
            raise DriverError("broken")
        return await read(jobs)

    return read_or_fail


def test_a_cancellation_names_the_worker_and_when_it_was_last_seen() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    workers = {"a": StoredWorker(seen=now - timedelta(seconds=3)), "b": StoredWorker(seen=now - timedelta(seconds=40))}
    overview, expiry = Overview(now=now, workers=workers), now + timedelta(seconds=5)
    assert explain_cancel("a", expiry, overview) == (
        "requested: the job is running on a (last seen 3 s ago); it is cancelled at the next heartbeat"
    )
    cure = "if that worker is dead, the job is cancelled when its lease expires, in 5 s"
    for worker, seen in (("b", "last seen 40 s ago"), ("c", "not seen in the last minute")):
        expected = f"requested: the job is running on {worker} ({seen}); {cure}"
        assert explain_cancel(worker, expiry, overview) == expected
