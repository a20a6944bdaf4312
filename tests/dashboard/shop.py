"""Jobs of a shop, for the tests of the dashboard."""

from __future__ import annotations

from pydantic import BaseModel

from flowli_core import Jobs, Retry, current_job, fixed, job


class Mail(BaseModel):
    to: str
    subject: str = "Your order"


@job(Mail, queue="mail", retry=Retry(max_attempts=2, backoff=fixed("10s")))
async def send_email(input: Mail) -> str:
    current_job().log(f"connecting for {input.to}")
    current_job().progress(1, 4, f"writing to {input.to}")
    if "bounce" in input.to:
        raise ConnectionError(f"the server refused {input.to}")
    return f"sent to {input.to}"


@job()
async def clean_up() -> None: ...


class ShopJobs(Jobs[None]):
    send_email = send_email
    clean_up = clean_up
    schedules = (
        clean_up.scheduled("nightly", cron="0 3 * * *"),
        send_email.scheduled("digest", every="15m", input=Mail(to="digest@example.com")),
    )
