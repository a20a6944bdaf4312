"""The stored form of idempotency keys, which all jobs and schedules of a store share.

The name of a job has no space and does not begin with `@`. So no two jobs store the same key, and no call stores the
key of a schedule.
"""


def key_of_call(job: str, key: str) -> str:
    """Return the stored form of a key that a call of a job gives."""
    return f"{job} {key}"


def key_of_schedule(job: str, key: str) -> str:
    """Return the key of the jobs of a schedule whose `overlap` is "skip". `key` is that of the schedule."""
    return f"@{job} {key}"


def given_key(job: str, stored: str) -> str:
    """Return the key as the call gave it. That of a schedule is returned as it is stored."""
    return stored.removeprefix(f"{job} ")
