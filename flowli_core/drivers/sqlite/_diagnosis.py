"""How the file is: what `flowli doctor` shows of it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from flowli_core.driver import Check
from flowli_core.drivers._times import moment
from flowli_core.drivers.sqlite._sql import run

_DRIFT_MS = 1_000
_MIB = 1024 * 1024


def diagnose(connection: sqlite3.Connection, path: str, synchronous: str, now: int) -> list[Check]:
    """Look at all of it, from a connection that reads."""
    checks = [Check(name="server version", value=f"SQLite {sqlite3.sqlite_version}")]
    mode = str(connection.execute("PRAGMA journal_mode").fetchone()[0])
    checks.append(Check(name="journal", value=mode, verdict="ok" if mode == "wal" else "bad"))
    note = "a power cut may take the last commits" if synchronous == "normal" else "every commit waits for the disk"
    checks.append(Check(name="persistence", value=f"synchronous={synchronous}: {note}"))
    checks.append(Check(name="layout", value=str(connection.execute("PRAGMA user_version").fetchone()[0])))
    size = sum(one.stat().st_size for one in (Path(path), Path(f"{path}-wal")) if one.exists())
    checks.append(Check(name="size", value=f"{size / _MIB:.1f} MiB"))
    written: int = run(connection, "read_time").fetchone()[0]
    ahead = written - now
    checks.append(
        Check(
            name="clock",
            value=f"last written at {moment(written):%Y-%m-%d %H:%M:%S} UTC" if written else "never written",
            verdict="bad" if ahead > _DRIFT_MS else "ok",
            cure="the clock of this machine was set back since; let it be kept by NTP" if ahead > _DRIFT_MS else "",
        )
    )
    return [*checks, *_sound(connection)]


def _sound(connection: sqlite3.Connection) -> list[Check]:
    """Whether the file is whole, and the kept counts are what they count."""
    told = [str(row[0]) for row in connection.execute("PRAGMA quick_check(5)").fetchall()]
    whole = told == ["ok"]
    checks = [
        Check(
            name="file",
            value="whole" if whole else "; ".join(told),
            verdict="ok" if whole else "bad",
            cure="" if whole else "stop all workers and restore a copy, or sqlite3 FILE .recover",
        )
    ]
    wrong: int = run(connection, "count_wrong_counts").fetchone()[0]
    checks.append(
        Check(
            name="fsck",
            value="the counts are what they count" if not wrong else f"{wrong} counts are wrong",
            verdict="bad" if wrong else "ok",
            cure="somebody has changed the file by hand" if wrong else "",
        )
    )
    return checks
