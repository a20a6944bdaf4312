"""The limits of the contract between the core and a store: see `flowli_core/driver.py`."""

from dataclasses import dataclass
from datetime import timedelta

MAX_BATCH_BYTES = 8 * 1024 * 1024
"""A step stops reserving before the inputs of its batch exceed this size; a batch may always hold one record."""

MAX_ENQUEUE_BYTES, MAX_ENQUEUE_RECORDS = 1024 * 1024, 250
"""In a call that stores several records, the core sends at most this much of inputs and metas, and this many records.
Other calls wait for the store meanwhile."""

RECOVER_PER_STEP, EXPIRE_PER_STEP, TRIM_PER_STEP = 64, 100, 1000
"""The most expired leases that a step recovers, the most expired records that it cancels, and the most finished records
that it removes."""

MOST_LOOKED_AT = 250
"""The most records that one call of `records` looks at to filter them."""

MOST_LOG_LINES = 100
"""A driver keeps the last lines of a record's log, up to this many."""

MOST_TAKEN_BACK = 10
"""The most recoveries of a record that are taken back: see `Step`."""

MOST_TAKEN_IDS = 1_000_000
"""The approximate limit of the ids of removed records that a driver remembers: see `keep_id`. It forgets the oldest.

With an id kept for five minutes, that is enough for 3,300 of them a second. On Redis, an id of 36 characters takes 120
bytes, so a million take 120 MB. Without a limit, a store that is full of ids could not take in jobs.
"""

WORKER_LISTED = timedelta(minutes=1)
"""A worker is listed if it was last seen less than this long ago, unless it has left."""

MOST_PAUSED = 1_000
"""The most queues that are paused at a time."""

LAST_SEEN_PRECISION = timedelta(seconds=15)
"""A driver records when it last saw a worker at most this often, so an idle worker costs hardly any writes."""

WORKER_MEMORY = timedelta(minutes=10)
"""A driver remembers the last steps of a worker for this long after it last saw the worker."""

WATCHER_MEMORY = timedelta(seconds=30)
"""A driver remembers a watcher for this long after its last `watch`."""


@dataclass(frozen=True, slots=True)
class Keep:
    """The most finished records to keep of each state; trimming removes the oldest first."""

    completed: int = 1_000
    failed: int = 10_000
    cancelled: int = 10_000
