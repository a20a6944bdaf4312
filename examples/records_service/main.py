"""The service as it runs: `uvicorn records_service.main:app --app-dir examples`."""

from __future__ import annotations

from flowli_core import Defaults, Keep, Runner
from flowli_core.drivers.sqlite import SqliteDriver

from .app import create_app
from .jobs import AppContext, AppJobs
from .mailer import PretendedMailer
from .settings import Settings
from .store import RecordStore

settings = Settings.from_env()
store = RecordStore(settings.records_path)
jobs = AppJobs(
    context=AppContext(store=store, mailer=PretendedMailer()),
    driver=SqliteDriver(settings.jobs_path),
    defaults=Defaults(keep=Keep(completed=settings.keep_completed), keep_completed="1d"),
)
runner = Runner(jobs, concurrency=settings.concurrency, queues=["mail", "default"])  # first things first
app = create_app(jobs, store=store, runner=runner)
