"""`make demo`: send requests to a real service, and account for every job.

    python examples/demo.py [records.csv] [--limit 45] [--keep]

The program starts records_service under uvicorn, sends each row of a CSV file, waits until all jobs have finished, and
compares the service's records and jobs with the rows sent. Then it orders reports, which take some seconds, draws their
progress, and compares their results with the rows sent. Its exit code is 0 only if no job was lost, is stuck or has
failed, and every record and report is as it should be. With `--keep` the service and its dashboard stay up to Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx2
from pydantic import TypeAdapter

from flowli_core import JobRecord, Page, QueueCounts
from flowli_core.stored import STATES

HERE = Path(__file__).parent
SENDERS = 16
START_WITHIN = STOP_WITHIN = ANSWER_WITHIN = 20.0
POLL_EVERY = 0.1
PRINT_EVERY = 1.0
MOST_PROBLEMS = 20
MOST_REPORTS = 3
BAR = 30

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
    """A row that the service accepted, with the ids of its record and jobs."""

    row: Row
    record_id: str
    notification: str
    follow_up: str


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a report, as the service sends it."""

    currency: str
    records: int
    total: Decimal


@dataclass(slots=True)
class Findings:
    """The results of the demonstration. It fails if there are any `problems`."""

    accepted: list[Accepted] = field(default_factory=list[Accepted])
    refused: int = 0
    jobs: dict[str, JobRecord] = field(default_factory=dict[str, JobRecord])
    lost: int = 0
    reports: list[Report] = field(default_factory=list[Report])
    problems: list[str] = field(default_factory=list[str])


_REPORT = TypeAdapter(Report)


class Screen:
    """A progress display: lines that are rewritten on a terminal, otherwise new lines at most every second."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._shown = ""
        self._shown_at = 0.0

    def show(self, text: str) -> None:
        """Show a text, if it has changed."""
        if text == self._shown or (not self._is_terminal and time.monotonic() - self._shown_at < PRINT_EVERY):
            return
        if self._is_terminal:
            height = self._shown.count("\n")
            up = f"\x1b[{height}A" if height else ""
            print(f"\r{up}\x1b[J{text}", end="", flush=True)
        else:
            print(text, flush=True)
        self._shown, self._shown_at = text, time.monotonic()

    def end(self) -> None:
        """End the lines that are rewritten."""
        if self._is_terminal and self._shown:
            print(flush=True)
        self._shown = ""


def read_rows(path: Path) -> list[Row]:
    """Read the file. A field whose cell is empty is not sent."""
    rows: list[Row] = []
    with path.open(newline="", encoding="utf-8") as lines:
        for cells in csv.DictReader(lines):
            refused_for = cells.pop("refused_for", "")
            rows.append(Row(cells["reference"], {name: cell for name, cell in cells.items() if cell}, refused_for))
    return rows


@asynccontextmanager
async def running_service(folder: Path, problems: list[str]) -> AsyncGenerator[str]:
    """Run the service with its files in a folder, yield its address, and stop it with SIGTERM."""
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
            env={**os.environ, "RECORDS_FOLDER": str(folder), "RECORDS_DASHBOARD": "1"},
            start_new_session=True,  # so that Ctrl-C in the terminal reaches only this program, which stops the service
        )
    address = f"http://127.0.0.1:{port}"
    print(f"the service runs at {address}, as process {process.pid}", flush=True)
    try:
        await _until_ready(address, process)
        print(f"the dashboard of its jobs is at {address}/dashboard/", flush=True)
        yield address
    finally:
        if process.returncode is not None:
            problems.append(f"the service ended by itself, with {process.returncode}")
        else:
            ended_with = await _stop(process)
            if ended_with not in (0, -signal.SIGTERM):
                problems.append(f"the service ended with {ended_with} after SIGTERM")


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
            await asyncio.sleep(POLL_EVERY)
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
    """Send rows one after the other until none are left. Several senders may share the iterator."""
    for row in rows:
        answer = await client.post("/records", json=row.body, headers={"X-Request-ID": f"row {row.reference}"})
        note_answer(row, answer, findings)


def note_answer(row: Row, answer: httpx2.Response, findings: Findings) -> None:
    """Compare the response to a row with the expected one."""
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
    """Show the jobs by state until all rows are sent and all jobs have finished."""
    while True:
        is_sent = all(sender.done() for sender in senders)
        counts = _COUNTS.validate_json((await client.get("/jobs/counts")).raise_for_status().content)
        screen.show("  ".join(f"{state} {getattr(counts, state)}" for state in STATES))
        if is_sent and not counts.queued + counts.scheduled + counts.active:
            return
        await asyncio.sleep(POLL_EVERY)


async def check_jobs(client: httpx2.AsyncClient, findings: Findings) -> None:
    """Check that each accepted record has two completed jobs, and that there are no other jobs."""
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
    """Check that the service has exactly the accepted records, as they were sent, and that each job acted once."""
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
        # The result of a follow-up depends on timing, so only their number is compared.
        found |= {"amount": Decimal(found["amount"]), "follow_ups": len(found["follow_ups"])}
        for name, value in _expected(one).items():
            if found[name] != value:
                findings.problems.append(f"{one.row.reference} has {name} {found[name]!r}, not {value!r}")


async def check_reports(client: httpx2.AsyncClient, screen: Screen, findings: Findings) -> None:
    """Order reports on the most frequent currencies, show their progress, and check their results."""
    amounts: dict[str, list[Decimal]] = {}
    for one in findings.accepted:
        amounts.setdefault(one.row.body["currency"], []).append(Decimal(one.row.body["amount"]))
    frequent = sorted(amounts, key=lambda currency: -len(amounts[currency]))[:MOST_REPORTS]
    paths: dict[str, str] = {}
    for currency in frequent:
        ordered = await client.post("/reports", json={"currency": currency})
        paths[currency] = ordered.raise_for_status().headers["Location"]
    bars = dict.fromkeys(frequent, "ordered")
    async with asyncio.TaskGroup() as tasks:
        for currency, path in paths.items():
            tasks.create_task(follow_report(client, screen, bars, currency=currency, path=path))
    for currency, path in paths.items():
        found = _REPORT.validate_json((await client.get(path)).raise_for_status().content)
        findings.reports.append(found)
        if (found.records, found.total) != (len(amounts[currency]), sum(amounts[currency])):
            findings.problems.append(f"the report is wrong: {found!r}")


async def follow_report(
    client: httpx2.AsyncClient, screen: Screen, bars: dict[str, str], *, currency: str, path: str
) -> None:
    """Follow the events of a report until it is done, and show its progress beside that of the others."""
    async with client.stream("GET", f"{path}/events") as answer:
        async for line in answer.raise_for_status().aiter_lines():
            name, _, data = line.partition(": ")
            if name == "data":
                bars[currency] = _bar(json.loads(data)) or bars[currency]
                screen.show("\n".join(f"  {currency}  {bar}" for currency, bar in bars.items()))


def _bar(status: dict[str, Any]) -> str:
    progress = status.get("progress")
    if not progress:
        return str(status.get("state", ""))  # the last event has no data
    part = progress["done"] / progress["total"]
    filled = int(part * BAR)
    return f"[{'#' * filled}{'-' * (BAR - filled)}] {part:4.0%}  {progress['note']}"


def _expected(one: Accepted) -> dict[str, object]:
    return {
        "note": "",
        **one.row.body,
        "amount": Decimal(one.row.body["amount"]),
        "audit": [{"action": "created", "request_id": f"row {one.row.reference}"}],
        "deliveries": [one.notification],
        "follow_ups": 1,
    }


async def demonstrate(rows: list[Row], limit: float, findings: Findings, *, keep: bool) -> None:
    """Run the demonstration, with `keep` until Ctrl-C, and store the results in `findings`."""
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
                if not findings.problems:
                    async with asyncio.timeout(limit):
                        await check_reports(client, screen, findings)
                    screen.end()
                if keep:
                    print("all jobs have finished, and the service stays up until Ctrl-C", flush=True)
                    with suppress(asyncio.CancelledError):  # which is Ctrl-C
                        await asyncio.Event().wait()
        except* (httpx2.HTTPError, TimeoutError) as errors:
            findings.problems += sorted({f"{type(error).__name__}: {error}" for error in errors.exceptions})
            findings.problems.append((folder / "service.log").read_text(errors="replace")[-2000:])


def summary(findings: Findings, seconds: float) -> str:
    """Return the table of results."""
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
    """Run the demonstration, print the results, and return the exit code."""
    parser = argparse.ArgumentParser(description="Send records to a real service, and account for every job.")
    parser.add_argument("csv", nargs="?", type=Path, default=HERE / "records.csv", help="the rows to send")
    parser.add_argument("--limit", type=float, default=45.0, help="seconds until all must be done")
    parser.add_argument("--keep", action="store_true", help="keep the service and its dashboard up until Ctrl-C")
    options = parser.parse_args()
    findings, started = Findings(), time.monotonic()
    try:
        asyncio.run(demonstrate(read_rows(options.csv), options.limit, findings, keep=options.keep))
    except KeyboardInterrupt:
        print("interrupted: the service is stopped, and its files are removed", file=sys.stderr)
        return 130
    for report in findings.reports:
        print(f"  {report!r}")
    print(summary(findings, time.monotonic() - started))
    for problem in findings.problems[:MOST_PROBLEMS]:
        print(problem, file=sys.stderr)
    if len(findings.problems) > MOST_PROBLEMS:
        print(f"... and {len(findings.problems) - MOST_PROBLEMS} more", file=sys.stderr)
    print("FAILED" if findings.problems else "everything that was sent is accounted for", flush=True)
    return 1 if findings.problems else 0


if __name__ == "__main__":
    sys.exit(main())
