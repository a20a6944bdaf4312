"""The log lines of a runner inside an application, whose log handlers know nothing of Flowli."""

from __future__ import annotations

import json
import logging

import pytest

from flowli_core import Retry, Runner, fixed
from flowli_core.logs import JobFilter, JsonFormatter
from flowli_core.new_records import NewRecord
from flowli_core.stored import StoredSchedule
from tests.support.mailing import START
from tests.support.running import Work, running, until
from tests.support.store import put

FORGED = "a\r\nERROR root: all is lost\x1b[31m\x85\u2028b"
POLICY = b'{"v":1,"max_attempts":2,"backoff":{"delay":"PT0S"}}'


def foreign(id: str, name: str) -> NewRecord:
    """Make a record as another program may write it."""
    return NewRecord(id=id, name=name, queue="default", input=b"1", policy=POLICY)


async def test_an_id_name_or_key_from_the_store_cannot_fake_a_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    caplog.handler.addFilter(JobFilter())
    work = Work()

    async def act(_: int) -> None:
        logging.getLogger("handlers").info("acting")
        raise ValueError("no")

    work.deeds.act = act
    await put(work.driver, StoredSchedule(key=FORGED, queue="default", spec=b"{", next_tick=START))
    await work.driver.enqueue([foreign(FORGED, "act"), foreign("unknown", FORGED), foreign("sound", "act")])
    await work.run()
    lines = [record for record in caplog.records if "lost" in str(vars(record))]
    assert {line.levelname for line in lines} == {"WARNING", "ERROR", "INFO"}
    for line in lines:
        assert line.getMessage().isprintable()
        assert str(getattr(line, "job_id", "")).isprintable()


async def test_an_error_of_the_store_cannot_fake_a_line(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("flowli").warning("the store is unreachable: %s", ConnectionError(FORGED))
    (line,) = caplog.records
    assert line.getMessage().isprintable()


async def test_the_line_of_a_retry_says_what_failed_and_how_many_attempts_are_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    work = Work()

    async def act(_: int) -> None:
        raise ConnectionError("the server said 421 to\nada")

    work.deeds.act = act
    retry = Retry(max_attempts=2, backoff=fixed("1ms"))
    receipt = await work.jobs.act.options(retry=retry).enqueue(1)
    async with running(Runner(work.jobs)):
        await work.until(receipt.id, "failed")
        await until(lambda: "for good" in caplog.text)
    retried, failed = caplog.records
    job, why = f"job {receipt.id} (act)", "ConnectionError: the server said 421 to\\nada"
    assert retried.getMessage() == f"{job} failed at attempt 1 of 2: {why}; the next is in 1ms"
    assert failed.getMessage() == f"{job} failed for good at attempt 2 of 2: {why}"
    line = json.loads(JsonFormatter().format(retried))
    assert (line["attempt"], line["max_attempts"], line["retry_in_ms"]) == (1, 2, 1.0)
    assert (line["error_type"], line["error_message"]) == ("ConnectionError", "the server said 421 to\nada")
