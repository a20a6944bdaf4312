"""The context of the jobs: objects that live as long as the service, and a database session for each execution."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from flowli_core import PerJob, per_job

from .mailer import Mailer
from .store import RecordStore


@dataclass(frozen=True, slots=True)
class AppContext:
    """Everything that a job of this service can use."""

    store: RecordStore
    mailer: Mailer
    session: AsyncSession


def make_context(store: RecordStore, mailer: Mailer) -> PerJob[AppContext]:
    """Make a new context for each execution, in a request (`run`) and in a worker alike.

    The session is committed when the handler returns and rolled back when it raises; the job then fails or is retried,
    as its policy says. The session takes a connection only if the handler uses it.
    """

    @asynccontextmanager
    async def execution_context() -> AsyncGenerator[AppContext]:
        async with store.sessions.begin() as session:
            yield AppContext(store, mailer, session)

    return per_job(execution_context)
