"""What `make demo` shows: a real service, real requests, and every job accounted for.

    python examples/demo.py [records.csv] [--limit 45]

It starts records_service under uvicorn, sends each row of a CSV file, waits until all jobs are done, and compares what
the service then says with what was sent. It ends with 0 only if nothing was lost, is stuck, has failed or differs.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import os
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
from pydantic import TypeAdapter

from flowli_core import JobRecord, Page, QueueCounts
from flowli_core.driver import STATES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence

HERE = Path(__file__).parent
SENDERS = 16
START_WITHIN = STOP_WITHIN = ANSWER_WITHIN = 20.0
LOOK_EVERY = 0.1
TELL_EVERY = 1.0
MOST_PROBLEMS = 20

_COUNTS = TypeAdapter(QueueCounts)
_JOBS = TypeAdapter(Page[JobRecord])


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the CSV file: what to send, and which field the service must refuse, if any."""

    reference: str
    body: dict[str, str]
    refused_for: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """A row that the service has taken, with the ids that it gave."""

    row: Row
    record_id: str
    notification: str
    follow_up: str


@dataclass(slots=True)
class Findings:
    """What came of it. Whatever is in `problems` makes the demonstration fail."""

    accepted: list[Accepted] = field(default_factory=list[Accepted])
    refused: int = 0
    jobs: dict[str, JobRecord] = field(default_factory=dict[str, JobRecord])
    lost: int = 0
    problems: list[str] = field(default_factory=list[str])


class Screen:
    """Where the state of the jobs is shown: one line that changes on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._shown = ""
        self._shown_at = 0.0

    def show(self, text: str) -> None:
        """Show how things stand."""
        if text == self._shown or (not self._is_terminal and time.monotonic() - self._shown_at < TELL_EVERY):
            return
        print(f"\r\x1b[K{text}" if self._is_terminal else text, end="" if self._is_terminal else "\n", flush=True)
        self._shown, self._shown_at = text, time.monotonic()

    def end(self) -> None:
        """Leave the line that changes."""
        if self._is_terminal and self._shown:
            print(flush=True)
        self._shown = ""


def read_rows(path: Path) -> list[Row]:
    """Read the file. An empty cell is a field that is not sent."""
    rows: list[Row] = []
    with path.open(newline="", encoding="utf-8") as lines:
        for cells in csv.DictReader(lines):
            refused_for = cells.pop("refused_for", "")
            rows.append(Row(cells["reference"], {name: cell for name, cell in cells.items() if cell}, refused_for))
    return rows


@asynccontextmanager
async def running_service(folder: Path, problems: list[str]) -> AsyncGenerator[str]:
    """Run the service with its files in a folder, give its address, and stop it in an orderly way."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    service = "records_service.on_fastapi.main:app"
    command = [sys.executable, "-m", "uvicorn", service, "--app-dir", str(HERE), "--port", port]
    with (folder / "service.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command,
            "--no-access-log",
            stdout=log,
            stderr=log,
            env={**os.environ, "RECORDS_FOLDER": str(folder)},
            start_new_session=True,  # Ctrl-C in the terminal is for this program, which then stops the service
        )
    address = f"http://127.0.0.1:{port}"
    print(f"the service runs at {address}, as process {process.pid}", flush=True)
    try:
        await _until_ready(address, process)
        yield address
    finally:
        if process.returncode is not None:
            problems.append(f"the service ended by itself, with {process.returncode}")
        else:
            ended_with = await _stop(process)
            if ended_with not in (0, -signal.SIGTERM):
                problems.append(f"the service was told to stop, and ended with {ended_with}")


async def _until_ready(address: str, process: asyncio.subprocess.Process) -> None:
    deadline = time.monotonic() + START_WITHIN
    async with httpx2.AsyncClient(base_url=address, timeout=START_WITHIN) as client:
        while time.monotonic() < deadline:
            try:
                if (await client.get("/health")).is_success:
                    return
            except httpx2.TransportError:
                if process.returncode is not None:
                    raise
            await asyncio.sleep(LOOK_EVERY)
    raise TimeoutError(f"the service was not ready within {START_WITHIN:g} s")


async def _stop(process: asyncio.subprocess.Process) -> int:
    process.terminate()
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_WITHIN):
                await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
    return await process.wait()


async def send_rows(client: httpx2.AsyncClient, rows: Iterator[Row], findings: Findings) -> None:
    """Send rows, one after the other, until there are no more; several senders may share them."""
    for row in rows:
        answer = await client.post("/records", json=row.body, headers={"X-Request-ID": f"row {row.reference}"})
        note_answer(row, answer, findings)


def note_answer(row: Row, answer: httpx2.Response, findings: Findings) -> None:
    """Compare the answer to a row with the one that it must have."""
    if answer.status_code == HTTPStatus.CREATED:
        made = answer.json()
        ids = made["jobs"]
        findings.accepted.append(Accepted(row, made["record"]["id"], ids["notification"], ids["follow_up"]))
        if row.refused_for:
            findings.problems.append(f"{row.reference} was accepted in spite of its {row.refused_for}")
    elif answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY and row.refused_for:
        findings.refused += 1
        blamed = {str(place["loc"][-1]) for place in answer.json()["detail"]}
        if blamed != {row.refused_for}:
            findings.problems.append(f"{row.reference} was refused for {blamed}, not for its {row.refused_for}")
    else:
        findings.problems.append(f"{row.reference} was answered {answer.status_code}: {answer.text[:200]}")


async def watch(client: httpx2.AsyncClient, senders: Sequence[asyncio.Task[None]], screen: Screen) -> None:
    """Show the jobs by state until all rows are sent and no job is left to do."""
    while True:
        is_sent = all(sender.done() for sender in senders)
        counts = _COUNTS.validate_json((await client.get("/jobs/counts")).raise_for_status().content)
        screen.show("  ".join(f"{state} {getattr(counts, state)}" for state in STATES))
        if is_sent and not counts.queued + counts.scheduled + counts.active:
            return
        await asyncio.sleep(LOOK_EVERY)


async def check_jobs(client: httpx2.AsyncClient, findings: Findings) -> None:
    """Each accepted record has its two jobs, they are completed, and there are no others."""
    for state in STATES:
        query = {"state": state, "limit": "200"}
        while True:
            page = _JOBS.validate_json((await client.get("/jobs", params=query)).raise_for_status().content)
            findings.jobs.update({job.id: job for job in page.items})
            if page.cursor is None:
                break
            query["cursor"] = page.cursor
    unexpected = set(findings.jobs)
    for one in findings.accepted:
        for what, job_id in (("notification", one.notification), ("follow-up", one.follow_up)):
            unexpected.discard(job_id)
            job = findings.jobs.get(job_id)
            if job is None:
                findings.lost += 1
                findings.problems.append(f"lost: the {what} of {one.row.reference}, job {job_id}")
            elif job.state != "completed":
                why = f": {job.last_error.type}: {job.last_error.message}" if job.last_error else ""
                findings.problems.append(f"{job.state}: the {what} of {one.row.reference}, job {job_id}{why}")
    findings.problems += [f"nobody has asked for job {job_id}" for job_id in unexpected]


async def check_records(client: httpx2.AsyncClient, findings: Findings) -> None:
    """The service has each accepted record as it was sent, with one of everything, and it has no other."""
    listed: list[str] = []
    while (
        page := (await client.get("/records", params={"limit": 200, "offset": len(listed)})).raise_for_status().json()
    ):
        listed += [record["id"] for record in page]
    if Counter(listed) != Counter(one.record_id for one in findings.accepted):
        findings.problems.append(f"{len(listed)} records are listed, and {len(findings.accepted)} were accepted")
    for one in findings.accepted:
        answer = await client.get(f"/records/{one.record_id}")
        if not answer.is_success:
            findings.problems.append(f"lost: the record {one.row.reference} ({answer.status_code})")
            continue
        found: dict[str, Any] = answer.json()
        # What a follow-up finds depends on the moment; that there is one does not.
        found |= {"amount": Decimal(found["amount"]), "follow_ups": len(found["follow_ups"])}
        for name, value in _expected(one).items():
            if found[name] != value:
                findings.problems.append(f"{one.row.reference} has {name} {found[name]!r}, not {value!r}")


def _expected(one: Accepted) -> dict[str, object]:
    return {
        "note": "",
        **one.row.body,
        "amount": Decimal(one.row.body["amount"]),
        "audit": [{"action": "created", "request_id": f"row {one.row.reference}"}],
        "deliveries": [one.notification],
        "follow_ups": 1,
    }


async def demonstrate(rows: list[Row], limit: float, findings: Findings) -> None:
    """Run the whole of it, and leave in `findings` what came of it."""
    screen, left = Screen(), iter(rows)
    with tempfile.TemporaryDirectory(prefix="flowli-demo-") as name:
        folder = Path(name)
        try:
            async with (
                running_service(folder, findings.problems) as address,
                httpx2.AsyncClient(base_url=address, timeout=ANSWER_WITHIN) as client,
            ):
                try:
                    async with asyncio.timeout(limit), asyncio.TaskGroup() as tasks:
                        senders = [tasks.create_task(send_rows(client, left, findings)) for _ in range(SENDERS)]
                        tasks.create_task(watch(client, senders, screen))
                except TimeoutError:
                    findings.problems.append(f"not everything was done within {limit:g} s")
                finally:
                    screen.end()
                await check_jobs(client, findings)
                await check_records(client, findings)
        except* (httpx2.HTTPError, TimeoutError) as errors:
            findings.problems += sorted({f"{type(error).__name__}: {error}" for error in errors.exceptions})
            findings.problems.append((folder / "service.log").read_text(errors="replace")[-2000:])


def summary(findings: Findings, seconds: float) -> str:
    """Write the table."""
    jobs = findings.jobs.values()
    states = Counter(job.state for job in jobs)
    waits = sorted((job.started_at - job.scheduled_for).total_seconds() * 1000 for job in jobs if job.started_at)
    cells = {
        "records accepted": f"{len(findings.accepted)}",
        "records refused": f"{findings.refused}",
        "jobs completed": f"{states['completed']}",
        "jobs failed": f"{states['failed']}",
        "jobs lost": f"{findings.lost}",
        "retries": f"{sum(job.failure_count for job in jobs if job.state == 'completed')}",
        "from due to start, p50": f"{waits[len(waits) // 2]:.0f} ms" if waits else "-",
        "from due to start, p99": f"{waits[len(waits) * 99 // 100]:.0f} ms" if waits else "-",
        "whole run": f"{seconds:.1f} s",
    }
    return "\n".join(f"  {name:<24}{cell:>8}" for name, cell in cells.items())


def main() -> int:
    """Answer what the process ends with."""
    parser = argparse.ArgumentParser(description="Send records to a real service, and account for every job.")
    parser.add_argument("csv", nargs="?", type=Path, default=HERE / "records.csv", help="the rows to send")
    parser.add_argument("--limit", type=float, default=45.0, help="seconds until all must be done")
    options = parser.parse_args()
    findings, started = Findings(), time.monotonic()
    try:
        asyncio.run(demonstrate(read_rows(options.csv), options.limit, findings))
    except KeyboardInterrupt:
        print("interrupted: the service is stopped, and its files are removed", file=sys.stderr)
        return 130
    print(summary(findings, time.monotonic() - started))
    for problem in findings.problems[:MOST_PROBLEMS]:
        print(problem, file=sys.stderr)
    if len(findings.problems) > MOST_PROBLEMS:
        print(f"... and {len(findings.problems) - MOST_PROBLEMS} more", file=sys.stderr)
    print("FAILED" if findings.problems else "everything that was sent is accounted for", flush=True)
    return 1 if findings.problems else 0


if __name__ == "__main__":
    sys.exit(main())
