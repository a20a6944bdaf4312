"""Known ways to break guards of searches, bulk changes and the attempts of a record: see `guards.py`."""

from __future__ import annotations

from tests.mutants.mutation import Changes

BULK: dict[tuple[str, str], Changes] = {
    ("_jobs/bulk.py", "tests/jobs/test_bulk.py"): (
        ("a job that came back is changed again", "if record.updated_at <= started]", "]"),
        ("jobs are requeued in any state", "state=record.state, attempts", "attempts"),
        ("an interruption does not say how far it came", "raise _interrupted(error, changed) from", "raise error from"),
    ),
    ("_jobs/bulk.py", "tests/jobs/test_control.py"): (
        ("a purge without filters never ends", "age + timedelta(seconds=time.monotonic() - started)", "age"),
    ),
    ("_jobs/finding.py", "tests/jobs/test_finding.py"): (
        ("a page holds a record twice", "one.id not in seen and ", ""),
        ("part of a name finds an error", 'f".{error.type}".endswith(f".{self.error}")', "self.error in error.type"),
        ("an error that is not stored is not found", "or self.error in DERIVED_ERRORS", ""),
        ("a search has no end", "else SEARCH_FOR,", "else None,"),
    ),
    ("_wire/attempts.py", "tests/jobs/test_past_attempts.py"): (
        ("a lost worker is noted with each attempt", "max(recoveries - self.recoveries, 0)", "recoveries"),
        ("an attempt takes the error of the next", "error=one.error or last)", "error=one.error)"),
    ),
}
