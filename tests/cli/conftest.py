"""A folder for the processes of a test, and the registry over it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.app import ToldJobs, make_jobs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def jobs(tmp_path: Path) -> AsyncIterator[ToldJobs]:
    """The registry, seen from the process of the test."""
    async with make_jobs(tmp_path) as made:
        yield made
