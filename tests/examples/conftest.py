"""The service with its jobs in memory, and a clock that the tests advance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.records_service.domain.context import make_context
from examples.records_service.domain.database import OUTBOX, make_engine
from examples.records_service.domain.jobs import AppJobs
from examples.records_service.domain.mailer import PretendedMailer
from examples.records_service.domain.service import Parts
from examples.records_service.domain.store import RecordStore
from flowli_core import RunCounts
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.sqlalchemy import SqlOutbox
from flowli_core.testing import ManualClock
from tests.examples.frameworks import Framework


@pytest.fixture
def clock() -> ManualClock:
    """The clock of the jobs."""
    return ManualClock()


@pytest.fixture
def mailer() -> PretendedMailer:
    """The mailer that collects the messages."""
    return PretendedMailer()


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    """The service's database. The application opens it."""
    return RecordStore(make_engine(tmp_path / "records.sqlite3"))


@pytest.fixture
def parts(store: RecordStore, mailer: PretendedMailer, clock: ManualClock) -> Parts:
    """The service's parts, with its jobs in memory and without a runner."""
    context, outbox = make_context(store, mailer), SqlOutbox(store.engine, OUTBOX)
    return Parts(jobs=AppJobs(context=context, driver=MemoryDriver(clock=clock), outbox=outbox), store=store)


@pytest.fixture
def client(framework: Framework, parts: Parts) -> Iterator[Any]:
    """A client of the service without a runner, which enqueues jobs and runs none. A test file names the frameworks."""
    with framework.client(framework.create_app(parts)) as client:
        yield client


@pytest.fixture
def run_due(framework: Framework, client: Any, parts: Parts) -> Callable[[], RunCounts]:
    """Run the jobs that are due."""
    return lambda: framework.drained(client, parts)
