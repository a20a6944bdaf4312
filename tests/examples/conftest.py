"""The service with its jobs in memory, and a clock that the tests turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from examples.records_service.domain.context import make_context
from examples.records_service.domain.jobs import AppJobs
from examples.records_service.domain.mailer import PretendedMailer
from examples.records_service.domain.refunds import make_engine, make_sessions
from examples.records_service.domain.service import Parts
from examples.records_service.domain.store import RecordStore
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import ManualClock

if TYPE_CHECKING:
    from pathlib import Path


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
def parts(store: RecordStore, mailer: PretendedMailer, clock: ManualClock, tmp_path: Path) -> Parts:
    """The service's parts, with its jobs in memory, and nothing that would run them."""
    engine = make_engine(tmp_path / "records.sqlite3")
    context = make_context(store, mailer, make_sessions(engine))
    return Parts(jobs=AppJobs(context=context, driver=MemoryDriver(clock=clock)), store=store, engine=engine)
