"""The programs that are measured: how each is installed and set, and what it guarantees."""

from __future__ import annotations

from dataclasses import dataclass

OURS = "Flowli"
LOOP = "redis-py loop"
BARE_LOOP = "bare loop"
POP = "bare pop"
BULLMQ = "BullMQ"


@dataclass(frozen=True)
class Subject:
    """A program. `words` run it: a module of `peers` and its arguments, or a script for Node.

    `packages` are installed in an environment of its own. A program without them runs in that of the benchmark.
    `slow` programs get fewer jobs.
    """

    name: str
    words: tuple[str, ...]
    packages: tuple[str, ...]
    setting: str
    guarantees: str
    slow: bool = False
    newer_python: bool = False
    only_pickup: bool = False

    @property
    def folder(self) -> str:
        """The name of its environment."""
        return self.words[0].removesuffix("_peer").removesuffix(".mjs")

    @property
    def is_peer(self) -> bool:
        """True for the other job queues."""
        return bool(self.packages)


_LOOP = "one job in one hash and one sorted set, a hundred per step, the next step in flight while this batch runs"
_LOOP_GUARANTEES = "at least once, without recovery; no retries, wake-ups, names or state"

SUBJECTS = (
    Subject(
        OURS,
        ("flowli_peer",),
        (),
        "concurrency 200, uvloop, redis-py with hiredis",
        "at least once: renewed leases with tokens, recovery, retries with limits on poison jobs, durable settlement in"
        " the same step, wake-ups, history, input validated on both sides, cancellation, dashboard data",
    ),
    Subject(LOOP, ("ideal", "redis-py"), (), f"uvloop, hiredis; {_LOOP}", _LOOP_GUARANTEES),
    Subject(BARE_LOOP, ("ideal", "bare"), (), f"uvloop, hiredis; {_LOOP}", _LOOP_GUARANTEES),
    Subject(POP, ("ideal", "pop"), (), "uvloop, redis-py: ZADD and BZPOPMIN", "at most once", only_pickup=True),
    Subject(
        BULLMQ,
        ("bullmq.mjs",),
        ("bullmq", "ioredis"),
        "concurrency 100, removeOnComplete; bulk of 1,000 per addBulk",
        "at least once: renewed locks with tokens, stalled jobs recovered, retries, events",
    ),
    Subject(
        "ardiq",
        ("ardiq_peer",),
        ("ardiq", "uvloop"),
        "concurrency 100, prefetch 200, uvloop; bulk of 1,000 per call",
        "at least once: idle entries of the stream reclaimed, retries, results kept for a while, dead letters",
        newer_python=True,
    ),
    Subject(
        "repid",
        ("repid_peer",),
        ("repid[redis]", "hiredis", "typing-extensions", "uvloop"),
        "100 tasks, batches of 100, uvloop; dead entries are not reclaimed unless claim_interval is set (left at its"
        " default, the faster setting); acknowledged entries stay in the stream",
        "a stream entry is acknowledged after its run; no retries by default",
    ),
    Subject(
        "taskiq",
        ("taskiq_peer",),
        ("taskiq", "taskiq-redis", "hiredis", "uvloop"),
        "RedisStreamBroker, 100 tasks, prefetch 100, no results, uvloop; acknowledged entries stay in the stream",
        "a stream entry is acknowledged after its run, and reclaimed after 10 idle minutes",
        slow=True,
    ),
    Subject(
        "saq",
        ("saq_peer",),
        ("saq[redis,hiredis]", "typing-extensions", "uvloop"),
        "concurrency 10, no results, uvloop",
        "at least once: heartbeats, swept after a timeout, retries",
        slow=True,
    ),
    Subject(
        "arq",
        ("arq_peer",),
        ("arq", "hiredis", "uvloop"),
        "100 jobs, no results, uvloop; polls every 0.5 s, its default",
        "at least once: a fixed lock per job, retries",
        slow=True,
    ),
    Subject(
        "docket",
        ("docket_peer",),
        ("pydocket", "hiredis", "uvloop"),
        "concurrency 50 (with 100 it stands still), looks every 10 ms, no results kept, uvloop; bulk by add_many",
        "at least once: renewed leases, redelivery, retries, state",
        slow=True,
    ),
    Subject(
        "streaq",
        ("streaq_peer",),
        ("streaq", "uvloop"),
        "concurrency 32, no results, uvloop; bulk of 1,000 per enqueue_many",
        "at least once: idle entries reclaimed, retries, state",
        slow=True,
    ),
    Subject(
        "dramatiq",
        ("dramatiq_peer",),
        ("dramatiq[redis]", "hiredis"),
        "4 threads, default middleware",
        "at least once: heartbeats per worker, retries; blocking calls",
        slow=True,
    ),
    Subject(
        "celery",
        ("celery_peer",),
        ("celery[redis]", "hiredis"),
        "solo pool, prefetch 100, acks_late, no results",
        "at least once after a fixed visibility timeout of an hour; blocking calls",
        slow=True,
    ),
)
