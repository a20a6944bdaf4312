"""What jobs are given: things that live as long as the service, and a database session for each execution."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy.ext.asyncio import AsyncSession

from flowli_core import PerJob, per_job

from .mailer import Mailer
from .store import RecordStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from sqlalchemy.ext.asyncio import async_sessionmaker


@dataclass(frozen=True, slots=True)
class AppContext:
    """All that a job of this service can ask for."""

    store: RecordStore
    mailer: Mailer
    session: AsyncSession


def make_context(store: RecordStore, mailer: Mailer, sessions: async_sessionmaker[AsyncSession]) -> PerJob[AppContext]:
    """Make the context of each execution, in a request (`run`) as in a runner.

    The session is the execution's own: committed when the handler has returned, rolled back when it raised, and then
    the job fails or is tried again as its policy says. It takes a connection only where a handler uses it.
    """

    @asynccontextmanager
    async def of_one_execution() -> AsyncGenerator[AppContext]:
        async with sessions.begin() as session:
            yield AppContext(store, mailer, session)

    return per_job(of_one_execution)
