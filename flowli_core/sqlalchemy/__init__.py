"""Enqueue jobs in a transaction of SQLAlchemy: `pip install flowli[sqlalchemy]`.

    outbox = SqlOutbox(engine, outbox_table(Base.metadata))
    jobs = AppJobs(context=..., driver=..., outbox=outbox)

    async with AsyncSession(engine) as session, session.begin():
        session.add(order)
        await jobs.send_invoice.options(session=session).enqueue(order_id=order.id)

The job exists if and only if the transaction commits.
"""

from importlib.util import find_spec

if find_spec("sqlalchemy") is None:
    raise ModuleNotFoundError(
        "flowli_core.sqlalchemy needs SQLAlchemy: pip install 'flowli[sqlalchemy]'", name="sqlalchemy"
    )

from flowli_core.sqlalchemy._outbox import SqlOutbox
from flowli_core.sqlalchemy._table import outbox_table

__all__ = ["SqlOutbox", "outbox_table"]
