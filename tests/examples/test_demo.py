"""The demonstration succeeds, and fails when something is wrong."""

from __future__ import annotations

import csv
import io
import os
import re
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import httpx2
import pytest
from pydantic import ValidationError

from examples.demo import Screen
from examples.records_service.domain.models import NewRecord

EXAMPLES = Path(__file__).parents[2] / "examples"
PATIENCE = 100
HEADER = "reference,name,email,amount,currency,booked_on,note,refused_for"
GOOD = "INV-2025-0001,Zoë,zoe@example.com,12.50,EUR,2025-02-28,,"


def run_demo(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / "demo.py"), *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, **environment},
        timeout=PATIENCE,
        check=False,
    )


def table(output: str) -> dict[str, str]:
    return dict(re.findall(r"^  (\S.*?)  +(\S.*)$", output, re.MULTILINE))


def write_csv(path: Path, *rows: str) -> str:
    file = path / "rows.csv"
    file.write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    return str(file)


def read_rows() -> list[dict[str, str]]:
    with (EXAMPLES / "records.csv").open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def is_refused(row: dict[str, str]) -> bool:
    try:
        NewRecord.model_validate({name: cell for name, cell in row.items() if cell and name != "refused_for"})
    except ValidationError:
        return True
    return False


def test_the_rows_are_many_and_varied() -> None:
    rows = read_rows()
    assert len(rows) >= 220
    assert 15 <= len([row for row in rows if row["refused_for"]]) <= 25
    assert [bool(row["refused_for"]) for row in rows] == [is_refused(row) for row in rows]
    assert len({row["currency"] for row in rows}) > 15
    assert any("\n" in row["note"] for row in rows)
    assert any(len(row["note"]) == 500 for row in rows)


def test_every_row_is_accounted_for() -> None:
    rows = read_rows()
    refused = len([row for row in rows if row["refused_for"]])
    accepted = len(rows) - refused
    greylisted = [row for row in rows if row["email"].endswith("@example.org") and not row["refused_for"]]
    done = run_demo()
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = table(done.stdout)
    assert found["records accepted"] == str(accepted)
    assert found["records refused"] == str(refused)
    assert found["jobs completed"] == str(2 * accepted)
    assert found["retries"] == str(len(greylisted))
    assert (found["jobs failed"], found["jobs lost"]) == ("0", "0")
    assert re.fullmatch(r"\d+ ms", found["from due to start, p99"])
    assert "\x1b" not in done.stdout
    assert re.search(r"^  EUR  \[#+-*\] +\d+%  \d+ in EUR$", done.stdout, re.MULTILINE)
    euros = [Decimal(row["amount"]) for row in rows if row["currency"] == "EUR" and not row["refused_for"]]
    assert f"  Report(currency='EUR', records={len(euros)}, total={sum(euros)!r})" in done.stdout


def test_bars_are_rewritten_in_place_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen()
    for text in ("one", "EUR 10%\nUSD 0%", "EUR 20%\nUSD 10%"):
        screen.show(text)
    screen.end()
    assert terminal.getvalue() == "\r\x1b[Jone\r\x1b[JEUR 10%\nUSD 0%\r\x1b[1A\x1b[JEUR 20%\nUSD 10%\n"


def test_a_job_that_fails_is_named(tmp_path: Path) -> None:
    done = run_demo(write_csv(tmp_path, GOOD, "INV-2025-0002,Nobody,nobody@example.net,1,EUR,2025-02-28,,"))
    assert done.returncode == 1
    assert table(done.stdout)["jobs failed"] == "1"
    assert "failed: the notification of INV-2025-0002" in done.stderr
    assert "NoSuchMailboxError: 550" in done.stderr
    assert "INV-2025-0001" not in done.stderr


def test_a_job_that_is_no_longer_stored_is_lost(tmp_path: Path) -> None:
    done = run_demo(write_csv(tmp_path, GOOD), RECORDS_KEEP_COMPLETED="0")
    assert done.returncode == 1
    assert table(done.stdout)["jobs lost"] == "2"
    assert "lost: the notification of INV-2025-0001" in done.stderr
    assert "lost: the follow-up of INV-2025-0001" in done.stderr


def test_a_row_that_was_wrongly_accepted_or_refused_is_named(tmp_path: Path) -> None:
    rows = (GOOD + "amount", "INV-2025-0002,Zoë,zoe,1,EUR,2025-02-28,,note", "INV-2025-0003,Zoë,zoe,1,EUR,2025-02-28,,")
    done = run_demo(write_csv(tmp_path, *rows))
    assert done.returncode == 1
    assert "INV-2025-0001 was accepted in spite of its amount" in done.stderr
    assert "INV-2025-0002 was refused for {'email'}, not for its note" in done.stderr
    assert "INV-2025-0003 was answered 422" in done.stderr


def test_a_job_that_is_not_done_in_time_is_stuck(tmp_path: Path) -> None:
    done = run_demo(write_csv(tmp_path, GOOD), "--limit", "1")
    assert done.returncode == 1
    assert "not everything was done within 1 s" in done.stderr
    assert "scheduled: the follow-up of INV-2025-0001" in done.stderr


def test_a_service_that_cannot_start_is_reported(tmp_path: Path) -> None:
    done = run_demo(write_csv(tmp_path, GOOD), RECORDS_CONCURRENCY="none")
    assert done.returncode == 1
    assert "the service ended by itself" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT for one process there")
def test_ctrl_c_leaves_nothing_running() -> None:
    command = [sys.executable, str(EXAMPLES / "demo.py")]
    # A shell starts background processes with SIGINT ignored, and their children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        service = int(demo.stdout.readline().rpartition(" ")[2])
        demo.stdout.readline()  # the address of the dashboard, so the service is up
        demo.send_signal(signal.SIGINT)
        _, errors = demo.communicate(timeout=PATIENCE)
    assert demo.returncode == 130
    assert errors == "interrupted: the service is stopped, and its files are removed\n"
    with pytest.raises(ProcessLookupError):
        os.kill(service, 0)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT for one process there")
def test_the_service_and_its_dashboard_can_be_kept_up(tmp_path: Path) -> None:
    """Ctrl-C ends them, and the results are printed."""
    command = [sys.executable, str(EXAMPLES / "demo.py"), write_csv(tmp_path, GOOD), "--keep"]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        lines = iter(demo.stdout.readline, "")
        url = next(line for line in lines if "dashboard" in line).split()[-1]
        next(line for line in lines if "stays up" in line)
        assert "default" in httpx2.get(url).raise_for_status().text
        demo.send_signal(signal.SIGINT)
        printed, errors = demo.communicate(timeout=PATIENCE)
    assert (demo.returncode, errors) == (0, "")
    assert table(printed)["jobs completed"] == "2"
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(url)
