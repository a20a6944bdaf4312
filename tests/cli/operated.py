"""The application on which the operations are tested, and the output of a command."""

from __future__ import annotations

import json
from typing import Any

APP = """
import logging
import os
from pathlib import Path
from pydantic import BaseModel
from flowli_core import Jobs, current_job, job

class Email(BaseModel):
    to: str
    urgent: bool = False

class Meta(BaseModel):
    actor: str

@job(Email, meta=Meta, queue="mail")
async def send_email(input: Email, meta: Meta | None) -> list[object]:
    logging.getLogger("handler").info("sending")
    return [input.to, input.urgent, meta and meta.actor]

@job()
async def nightly() -> None:
    current_job().progress(3, 4, "\\x1b[31mdust")
    current_job().log("swept")
    current_job().log("\\x1b[31mall")
    raise RuntimeError("no \\x1b[31mnight\\nforged")

class AppJobs(Jobs[None]):
    send_email = send_email
    nightly = nightly
    queues = ["bulk"]
    schedules = [
        nightly.scheduled("at-night", cron="30 3 * * *", timezone="Asia/Kathmandu"),
        send_email.scheduled("mail:often", every="90m", input=Email(to="\\x1b[31m"), meta=Meta(actor="me")),
    ]

def driver():
    if os.environ["FLOWLI_TEST_STORE"] == "redis":
        from flowli_core.drivers.redis import RedisDriver
        return RedisDriver.from_url(os.environ["FLOWLI_TEST_URL"], prefix=os.environ["FLOWLI_TEST_PREFIX"])
    from flowli_core.drivers.sqlite import SqliteDriver
    return SqliteDriver(Path(os.environ.get("FLOWLI_TEST_FOLDER", "."), "jobs.sqlite3"))

def make():
    return AppJobs(context=None, driver=driver())
"""


class Output:
    """The exit code and the output of a command."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()
