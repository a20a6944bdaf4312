"""The part that adapters of frameworks share to show single jobs to HTTP clients: calls, states, events and owners."""

from flowli_core._jobs.definition import JobBase
from flowli_core.web._calls import (
    accepted_headers,
    check_guarded,
    enqueue_json,
    enqueue_value,
    input_type,
    job_name,
    result_type,
)
from flowli_core.web._events import JobEvent, has_seen_end, stream_events
from flowli_core.web._owners import check_owner, is_owned, owned_id
from flowli_core.web._status import JobStatus, dump_status, read_status

__all__ = [
    "JobBase",
    "JobEvent",
    "JobStatus",
    "accepted_headers",
    "check_guarded",
    "check_owner",
    "dump_status",
    "enqueue_json",
    "enqueue_value",
    "has_seen_end",
    "input_type",
    "is_owned",
    "job_name",
    "owned_id",
    "read_status",
    "result_type",
    "stream_events",
]
