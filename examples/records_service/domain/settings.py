"""What the environment says about the service."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the service keeps its files, how many jobs it runs at a time, and how many completed ones it keeps.

    `keep_completed` is far over Flowli's own 1,000, so that each of a day's jobs can still be looked at.
    """

    folder: Path
    concurrency: int
    keep_completed: int

    @classmethod
    def from_env(cls) -> Self:
        """Read RECORDS_FOLDER, RECORDS_CONCURRENCY and RECORDS_KEEP_COMPLETED."""
        return cls(
            folder=Path(os.environ.get("RECORDS_FOLDER", ".")),
            concurrency=int(os.environ.get("RECORDS_CONCURRENCY", "20")),
            keep_completed=int(os.environ.get("RECORDS_KEEP_COMPLETED", "50000")),
        )

    @property
    def records_path(self) -> Path:
        """The service's own database."""
        return self.folder / "records.sqlite3"

    @property
    def jobs_path(self) -> Path:
        """The file of the jobs, which belongs to Flowli alone."""
        return self.folder / "jobs.sqlite3"
