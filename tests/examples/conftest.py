"""The service with its jobs in memory, and a clock that the tests advance."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.records_service.domain.context import make_context
from examples.records_service.domain.jobs import AppJobs
from examples.records_service.domain.mailer import PretendedMailer
from examples.records_service.domain.refunds import make_engine, make_sessions
from examples.records_service.domain.service import Parts
from examples.records_service.domain.store import RecordStore
from flowli_core.drivers.memory import MemoryDriver
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
    return RecordStore(tmp_path / "records.sqlite3")


@pytest.fixture
def parts(store: RecordStore, mailer: PretendedMailer, clock: ManualClock, tmp_path: Path) -> Parts:
    """The service's parts, with its jobs in memory and without a runner."""
    engine = make_engine(tmp_path / "records.sqlite3")
    context = make_context(store, mailer, make_sessions(engine))
    return Parts(jobs=AppJobs(context=context, driver=MemoryDriver(clock=clock)), store=store, engine=engine)
