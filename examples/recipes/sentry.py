"""Report the errors of jobs to Sentry: `pip install sentry-sdk`, and call `sentry_sdk.init(dsn=...)` at the start.

    jobs = AppJobs(context=..., driver=..., middleware=[report_to_sentry])

Each execution has its own scope, so the tags of jobs that run at the same time do not mix. It is a transaction too,
which Sentry samples by `traces_sample_rate`. Input and meta are not sent: they may hold personal data.
"""

import sentry_sdk

from flowli_core import Execution, Proceed, RetryAfter


async def report_to_sentry(call: Execution, proceed: Proceed) -> object:
    """Report an exception of the handler, with the id of its job, and raise it again."""
    job = call.job
    with sentry_sdk.isolation_scope() as scope, sentry_sdk.start_transaction(op="queue.process", name=job.name):
        scope.set_transaction_name(job.name)
        scope.set_tags({"job": job.name, "queue": job.queue})
        scope.set_context("job", {"id": job.id, "attempt": job.attempt, "recoveries": job.recoveries})
        try:
            return await proceed()
        except RetryAfter:
            raise  # the handler asked to be called again: not an error
        except Exception:
            sentry_sdk.capture_exception()
            raise
