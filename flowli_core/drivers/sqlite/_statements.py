"""The SQL of this driver, one statement in a file of its own under sql/: ADD_RECORD is sql/add_record.sql."""

from importlib.resources import files
from typing import Final

_FILES = files("flowli_core.drivers.sqlite") / "sql"


def _load(name: str) -> str:
    return _FILES.joinpath(f"{name}.sql").read_text(encoding="utf-8")


SCHEMA: Final = _load("schema")

# What a transition begins and ends with.
READ_TIME: Final = _load("read_time")
WRITE_TIME: Final = _load("write_time")
CLOCK_BACK_LEASES: Final = _load("clock_back_leases")
CLOCK_BACK_DUE: Final = _load("clock_back_due")
FIND_HEAD: Final = _load("find_head")
FIND_FIRST_LEASE: Final = _load("find_first_lease")

# Enqueue.
FIND_ENQUEUED: Final = _load("find_enqueued")
FIND_KEY_HOLDERS: Final = _load("find_key_holders")
LAST_NUMBER: Final = _load("last_number")
ADD_RECORD: Final = _load("add_record")
ADD_PAYLOAD: Final = _load("add_payload")

# Step and heartbeat.
FIND_RECORDS: Final = _load("find_records")
FIND_EXPIRED: Final = _load("find_expired")
MOVE_RECORD: Final = _load("move_record")
COUNT_FINISHED: Final = _load("count_finished")
TRIM_EXPIRED: Final = _load("trim_expired")
TRIM_OLDEST: Final = _load("trim_oldest")
FIND_DUE: Final = _load("find_due")
FIND_HELD: Final = _load("find_held")
NEXT_TOKEN: Final = _load("next_token")
RESERVE: Final = _load("reserve")
RENEW_BATCH: Final = _load("renew_batch")
RENEW_LEASES: Final = _load("renew_leases")
FIND_STEP: Final = _load("find_step")
FIND_WAITING_STEP: Final = _load("find_waiting_step")
REMEMBER_STEP: Final = _load("remember_step")
REMEMBER_WAITING_STEP: Final = _load("remember_waiting_step")
NOTE_SEEN: Final = _load("note_seen")
FORGET_WORKERS: Final = _load("forget_workers")

# Cancel, requeue and purge.
REQUEST_CANCEL: Final = _load("request_cancel")
IS_KEY_HELD: Final = _load("is_key_held")
REQUEUE: Final = _load("requeue")
PURGE: Final = _load("purge")

# Schedules.
GET_SCHEDULE: Final = _load("get_schedule")
FIND_DUE_SCHEDULES: Final = _load("find_due_schedules")
FIND_FIRST_TICK: Final = _load("find_first_tick")
PAGE_SCHEDULES: Final = _load("page_schedules")
NEXT_REVISION: Final = _load("next_revision")
PUT_SCHEDULE: Final = _load("put_schedule")
REMOVE_SCHEDULE: Final = _load("remove_schedule")

# Reading.
GET: Final = _load("get")
GET_MANY: Final = _load("get_many")
PAGE_WAITING: Final = _load("page_waiting")
PAGE_ACTIVE: Final = _load("page_active")
PAGE_FINISHED: Final = _load("page_finished")
COUNTS: Final = _load("counts")
COUNT_DUE: Final = _load("count_due")
COUNT_LATER: Final = _load("count_later")
FIND_WORKERS: Final = _load("find_workers")
COUNT_WRONG_COUNTS: Final = _load("count_wrong_counts")
