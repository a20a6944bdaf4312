"""The service with its jobs in memory, and a clock that the tests turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient

from examples.records_service.app import create_app
from examples.records_service.jobs import AppContext, AppJobs
from examples.records_service.mailer import PretendedMailer
from examples.records_service.store import RecordStore
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import ManualClock, drain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from flowli_core import RunCounts


@pytest.fixture
def clock() -> ManualClock:
    """The clock of the jobs."""
    return ManualClock()


@pytest.fixture
def mailer() -> PretendedMailer:
    """Where the messages go."""
    return PretendedMailer()


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    """The service's database; the application opens it."""
    return RecordStore(tmp_path / "records.sqlite3")


@pytest.fixture
def jobs(store: RecordStore, mailer: PretendedMailer, clock: ManualClock) -> AppJobs:
    """The service's jobs, kept in memory."""
    return AppJobs(context=AppContext(store=store, mailer=mailer), driver=MemoryDriver(clock=clock))


@pytest.fixture
def client(jobs: AppJobs, store: RecordStore) -> Iterator[TestClient]:
    """A client of the service, which enqueues and runs nothing by itself."""
    with TestClient(create_app(jobs, store=store)) as client:
        yield client


@pytest.fixture
def run_due(client: TestClient, jobs: AppJobs) -> Callable[[], RunCounts]:
    """Run the jobs that are due, on the service's event loop."""
    portal = client.portal
    assert portal is not None
    return lambda: portal.call(drain, jobs)
