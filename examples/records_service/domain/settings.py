"""The settings of the service, read from the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The folder of the service's files, the number of jobs to run at a time, and of completed jobs to keep.

    `keep_completed` is far above Flowli's default of 1,000, so that all of a day's jobs can still be inspected. With
    `dashboard`, whoever reaches the service sees its jobs, and can change them.
    """

    folder: Path
    concurrency: int
    keep_completed: int
    dashboard: bool = False

    @classmethod
    def from_env(cls) -> Self:
        """Read RECORDS_FOLDER, RECORDS_CONCURRENCY, RECORDS_KEEP_COMPLETED and RECORDS_DASHBOARD."""
        return cls(
            folder=Path(os.environ.get("RECORDS_FOLDER", ".")),
            concurrency=int(os.environ.get("RECORDS_CONCURRENCY", "20")),
            keep_completed=int(os.environ.get("RECORDS_KEEP_COMPLETED", "50000")),
            dashboard=os.environ.get("RECORDS_DASHBOARD") == "1",
        )

    @property
    def records_path(self) -> Path:
        """The service's own database."""
        return self.folder / "records.sqlite3"

    @property
    def jobs_path(self) -> Path:
        """The file of the jobs. Only Flowli uses it."""
        return self.folder / "jobs.sqlite3"
