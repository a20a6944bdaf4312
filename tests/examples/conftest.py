"""The service with its jobs in memory, and a clock that the tests advance."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.records_service.domain.context import make_context
from examples.records_service.domain.database import OUTBOX, make_engine
from examples.records_service.domain.jobs import AppJobs
from examples.records_service.domain.mailer import PretendedMailer
from examples.records_service.domain.service import Parts
from examples.records_service.domain.store import RecordStore
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.sqlalchemy import SqlOutbox
from flowli_core.testing import ManualClock


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
