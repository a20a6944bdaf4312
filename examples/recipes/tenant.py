"""Run each job for the tenant that it was enqueued for.

The tenant travels as the meta of a job. In the web application, a dependency or a middleware of the framework sets
`tenant` for each request, and `for_tenant` passes it on. In the worker, `set_tenant` sets it around the handler. So the
code below both of them (a session that filters by tenant, a logger) reads `tenant.get()` and needs no argument.
"""

from contextvars import ContextVar
from typing import ParamSpec, TypeVar

from pydantic import BaseModel

from flowli_core import Abort, BoundJob, Execution, Proceed

P = ParamSpec("P")
In = TypeVar("In")
R = TypeVar("R")

tenant: ContextVar[str] = ContextVar("tenant")


class Tenant(BaseModel):
    """The meta of jobs that belong to a tenant: `@job(Report, meta=Tenant)`."""

    id: str


def for_tenant(job: BoundJob[P, In, Tenant, R]) -> BoundJob[P, In, Tenant, R]:
    """Return the job with the current tenant as its meta.

    `await for_tenant(jobs.write_report).enqueue(customer="Ada")`
    """
    return job.options(meta=Tenant(id=tenant.get()))


async def set_tenant(call: Execution, proceed: Proceed) -> object:
    """Set the tenant while the handler runs. A job that was enqueued without one fails for good."""
    if not isinstance(call.meta, Tenant):
        raise Abort(f"{call.job.name} was enqueued without a tenant; use for_tenant(...)")
    token = tenant.set(call.meta.id)
    try:
        return await proceed()
    finally:
        tenant.reset(token)
