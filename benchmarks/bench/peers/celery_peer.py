"""Celery on Redis."""

import asyncio
import importlib
import threading
from typing import Any

from .child import COUNTER, Peer, payload, serve

celery: Any = importlib.import_module("celery")


def send_email(to: str, subject: str, template: str, locale: str) -> None:
    """Count an execution."""
    del to, template, locale
    COUNTER.note(subject)


class Celery(Peer):
    """An application with one task."""

    concurrent = False

    async def open(self) -> None:
        """Make the application: no results, and messages acknowledged after they have run, as the others do."""
        self.app = celery.Celery("bench", broker=self.url)
        self.app.conf.update(
            task_ignore_result=True,
            task_acks_late=True,
            worker_prefetch_multiplier=100,
            worker_hijack_root_logger=False,
            broker_connection_retry_on_startup=True,
        )
        self.task = self.app.task(name="send_email")(send_email)

    async def enqueue(self, subject: str) -> None:
        """Send a message. The call blocks."""
        self.task.delay(**payload(subject))

    async def work(self) -> None:
        """Run the solo pool, which is the fastest for a job that does nothing."""
        make: Any = importlib.import_module("celery.worker").WorkController
        worker = make(
            app=self.app,
            pool="solo",
            concurrency=1,
            loglevel="ERROR",
            without_mingle=True,
            without_gossip=True,
            without_heartbeat=True,
        )
        threading.Thread(target=worker.start, daemon=True).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    serve(Celery)
