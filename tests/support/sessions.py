"""An app whose context is a session, for tests of contexts."""

from __future__ import annotations

from dataclasses import dataclass, field

from flowli_core import Jobs, job


@dataclass
class Session:
    """The context of a handler. Handlers and context managers append to `log`."""

    log: list[str] = field(default_factory=list[str])


@job(str)
async def work(input: str, ctx: Session) -> int:
    ctx.log.append(input)
    if input == "fail":
        raise ValueError(input)
    return id(ctx)


@job()
def toil(ctx: Session) -> None:
    ctx.log.append("toil")


@job()
async def rest() -> str:
    return "rested"


class AppJobs(Jobs[Session]):
    work = work
    toil = toil
    rest = rest
