"""The checks of the file that `flowli doctor` and the dashboard show."""

import sqlite3
from pathlib import Path

from flowli_core.diagnosis import Check
from flowli_core.drivers._times import moment
from flowli_core.drivers.sqlite._damage import count_wrong_lanes, find_all
from flowli_core.drivers.sqlite._file import ROOM_KEPT, free_bytes
from flowli_core.drivers.sqlite._sql import run

_DRIFT_MS = 1_000
_MIB = 1024 * 1024
_MOST_NAMED = 5


def diagnose(
    connection: sqlite3.Connection, path: str, synchronous: str, now: int, *, quick: bool = False
) -> list[Check]:
    """Examine the file; unless `quick`, all of it."""
    checks = [Check(name="server version", value=f"SQLite {sqlite3.sqlite_version}")]
    mode = str(connection.execute("PRAGMA journal_mode").fetchone()[0])
    checks.append(Check(name="journal", value=mode, verdict="ok" if mode == "wal" else "bad"))
    note = "a power cut may lose the last commits" if synchronous == "normal" else "every commit waits for the disk"
    checks.append(Check(name="persistence", value=f"synchronous={synchronous}: {note}"))
    checks.append(Check(name="layout", value=str(connection.execute("PRAGMA user_version").fetchone()[0])))
    size = sum(one.stat().st_size for one in (Path(path), Path(f"{path}-wal")) if one.exists())
    checks.append(Check(name="size", value=f"{size / _MIB:.1f} MiB"))
    free = free_bytes(path)
    checks.append(
        Check(
            name="disk",
            value=f"{free / _MIB:.1f} MiB left",
            verdict="bad" if free < ROOM_KEPT else "ok",
            cure="no new jobs are accepted; make room, or purge finished jobs" if free < ROOM_KEPT else "",
        )
    )
    written: int = run(connection, "read_time").fetchone()[0]
    ahead = written - now
    checks.append(
        Check(
            name="clock",
            value=f"last written at {moment(written):%Y-%m-%d %H:%M:%S} UTC" if written else "never written",
            verdict="bad" if ahead > _DRIFT_MS else "ok",
            cure="the clock of this machine was set back; keep it right with NTP" if ahead > _DRIFT_MS else "",
        )
    )
    return checks if quick else [*checks, *_check_integrity(connection, now)]


def _check_integrity(connection: sqlite3.Connection, now: int) -> list[Check]:
    """Check that the file is intact, and that the stored counts are right."""
    found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(5)").fetchall()]
    intact = found == ["ok"]
    checks = [
        Check(
            name="file",
            value="intact" if intact else "; ".join(found),
            verdict="ok" if intact else "bad",
            cure="" if intact else "stop all workers and restore a backup, or run: sqlite3 FILE .recover",
        )
    ]
    damaged = find_all(connection)
    checks.append(
        Check(
            name="records",
            value=_describe(damaged) if damaged else "all can be read",
            verdict="bad" if damaged else "ok",
            cure="a worker sets them aside as failed; show them with `flowli jobs show ID`" if damaged else "",
        )
    )
    wrong: int = run(connection, "count_wrong_counts").fetchone()[0]
    lanes = count_wrong_lanes(connection, now)
    stranded: int = run(connection, "count_stranded").fetchone()[0]
    problems = [f"{wrong} counts are wrong"] if wrong else []
    problems += [f"{lanes} lanes are wrong"] if lanes else []
    problems += [f"{stranded} records wait for others that have finished"] if stranded else []
    checks.append(
        Check(
            name="fsck",
            value="; ".join(problems) or "the counts are right",
            verdict="bad" if problems else "ok",
            cure="the tables were changed by hand; a worker without jobs repairs them" if problems else "",
        )
    )
    return checks


def _describe(damaged: list[tuple[object, str]]) -> str:
    named = [f"{record_id}: {damage}" if type(record_id) is str else damage for record_id, damage in damaged]
    rest = f"; and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
    return f"{len(named)} cannot be read: {'; '.join(named[:_MOST_NAMED])}{rest}"
