"""The policy of a record: its attempts, its backoff and its timeout, fixed when it is enqueued."""

from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

from flowli_core._wire.versioned import VersionedJson
from flowli_core.retry import Backoff


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The retry and timeout settings that a record carries. The definition of the job says which errors are retried."""

    max_attempts: int
    backoff: Backoff
    timeout: timedelta | None = None


FORMAT = VersionedJson(Policy, version=1, label="the record's policy")


@lru_cache(maxsize=1024)
def pack_policy(policy: Policy) -> bytes:
    """Write a policy as JSON. Cached, because most records of a job share one."""
    return FORMAT.pack(policy)


@lru_cache(maxsize=1024)
def unpack_policy(wire: bytes) -> Policy:
    """Read a policy. Raises NewerVersionError, or ValueError if it is malformed."""
    return FORMAT.unpack(wire)
