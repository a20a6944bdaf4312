r"""The keys of a prefix. All have the prefix as their hash tag, so that a cluster stores them on one node.

A call names one key of the prefix, and the scripts make the others from it. To name all keys that queues share would
cost 4 % of an enqueue, and to name the keys of 10,000 queues would make each call a hundred times as slow. Redis wants
a call to name all its keys for two reasons. First, it checks the permissions for them; but it checks them for each
command of a script again. Second, a node of a cluster refuses a call for keys that it does not have. All keys of a
prefix are in one slot, so only while that slot moves can a node have some of them. Therefore each call also names a key
that never exists: while the slot moves, the node refuses every call that names it, before the script starts.

========================== ===== ======================================================================================
Key                        Type  What it holds, and when an entry is removed
========================== ===== ======================================================================================
record                     hash  id -> shape digest, creation time, idempotency key, expiry, meta, input; with the
                                 record (1)
shape                      hash  digest -> limits, queue, job name, policy, as many records share them; with the last of
                                 these records
uses                       hash  digest -> number of records with this shape, see head.lua; with the shape
token                      hash  id -> token, times, worker, lane of an active record; when it is settled or recovered
attempts                   hash  id -> attempts, opaque to the driver; with the record (1), or by requeue
progress                   hash  id -> the last progress that its handler reported; with the record (1), or by requeue
log                        hash  id -> its last log lines, and how many came under the last token; with the record (1)
outcome                    hash  id -> last state, token, times, worker, result; with the record (1)
recoveries                 hash  id -> number of recoveries that count, number taken back, token of the last one; with
                                 the record (1), or by requeue
lease                      zset  id -> end of its lease; when it is settled or recovered
completed failed cancelled zset  id -> when it finished; with the record (1), or by requeue
expiry                     zset  id -> end of its retention; with the record (1), or by requeue
holder                     hash  idempotency key -> id of the record that holds it; when that finishes, or with `unique`
unique                     zset  key that a completed record holds -> until when; then, or if too many, or by requeue
behind                     hash  id -> id of the record with the same key that it waits for; when that finishes
cancelling                 set   ids of active records to cancel; when they are settled or recovered
counts                     hash  "state queue" -> records that are active, completed, failed, cancelled; with the queue
queues                     set   names of queues; with the last record of the queue
taken                      zset  id of a removed record -> when it is free again, and the state; then, or if too many
serial                     hash  last token, last revision of a schedule, time of the last step, paused queues; never
workers                    zset  worker -> last seen; when it leaves, or 10 minutes after that, by any worker's step
tick                       zset  schedule key -> next tick; when it has no next tick or is removed
schedule                   hash  schedule key -> revision, ticks, queue, spec; when it is removed
schedules                  zset  schedule keys in order, for listing; when it is removed
due:QUEUE                  zset  id -> due time of waiting records; when reserved or cancelled
suspect:QUEUE              zset  the same for suspects
held:QUEUE                 zset  the same for records that wait in a lane, or for another record to finish
turn:QUEUE                 zset  lane, "LIMIT\nVALUE" -> when it has its next turn; when it has none
turn_suspect:QUEUE         zset  the same for lanes whose first record is a suspect
lane:QUEUE\nLIMIT\nVALUE   zset  id -> due time of the waiting records of a lane; when reserved or cancelled
lane_suspects              set   ids of the suspects among these records; the same
waits:LIMIT\nVALUE         set   queues in which records of a lane wait; with the last of them
lanes                      zset  "QUEUE\nLIMIT\nVALUE" -> minus the number of waiting records; with the last of them
places:LIMIT\nVALUE        set   ids of the active records of a lane; when they are settled or recovered
starts:LIMIT\nVALUE        list  when the last records of a lane were reserved; a minute after the period of its rate
limits                     hash  limit -> concurrency, and count and period of its rate; never
wake:QUEUE                 zset  a wake-up; by the wait that consumes it, or a step that leaves nothing due; expires if
                                 the queue has no records
worker:WORKER              hash  last steps and description of a worker; when it leaves, or 10 minutes after it was seen
history:job:QUEUE\nNAME   hash  minute and metric -> number, of the last minute in which a job was counted; when it is
                                 counted in another minute, or the history is read
history:jobs               zset  "QUEUE\nNAME" -> when it was first counted in that minute; the same
history:minute:MINUTE      hash  "QUEUE\nNAME" -> its numbers in a minute; after 3 hours
history:hour:HOUR          hash  "QUEUE\nNAME" -> its numbers in an hour; after 7 days
history:total              hash  "QUEUE\nNAME" -> its numbers since the first; never
scratch                    any   what `open` tries commands on; at once
watched                    hash  id -> names of its watchers; with the record, or when nobody watches it
watchers                   zset  watcher -> when it last called; 30 seconds after that
changed:WATCHER            zset  ids of its records that have changed; when it asks, or 30 seconds after the last change
absent                     none  never exists; each call names it
========================== ===== ======================================================================================

(1) A record is removed at the end of its retention, when too many of its state are kept, or by purge.
"""

from __future__ import annotations

from collections.abc import Iterable

DEFAULT_PREFIX = "flowli"
LAYOUT = 1

COLUMNS = (
    "record",
    "shape",
    "token",
    "attempts",
    "outcome",
    "recoveries",
    "lease",
    "completed",
    "failed",
    "cancelled",
    "expiry",
    "holder",
    "cancelling",
    "counts",
    "queues",
    "serial",
    "workers",
    "tick",
)
"""The keys that all queues share, and that most scripts use: see lua/shared/columns.lua."""


_HASHES = {
    *("record", "shape", "token", "attempts", "outcome", "recoveries", "holder", "counts", "serial"),
    *("schedule", "uses", "progress", "log", "watched", "behind", "limits"),
}
_SETS = {"cancelling", "queues", "lane_suspects"}
_OF_LANES = ("lanes", "limits", "lane_suspects")


class Keys:
    """The keys of one prefix."""

    def __init__(self, prefix: str) -> None:
        self._root = f"{{{prefix}}}:{LAYOUT}:"
        self.named_by_calls = (self._root + COLUMNS[0], self._root + "absent")
        """The keys that every call names: see the top of this module."""
        self.queues = self._root + "queues"
        self.shape = self._root + "shape"
        self.schedules = (self._root + "schedule", self._root + "schedules")
        """The keys that only the scripts for schedules take."""
        self.scratch = self._root + "scratch"

    def types(self, queues: Iterable[str]) -> dict[str, str]:
        """Return the type of each key of the prefix as types.lua takes it, apart from those of workers."""
        kinds = {"due:": "zset", "suspect:": "zset", "held:": "zset", "turn:": "zset", "turn_suspect:": "zset"}
        kinds["wake:"] = "wake"
        types = {self._root + kind + queue: name for queue in queues for kind, name in kinds.items()}
        unnamed = ("taken", "unique", "behind", "uses", "progress", "log", "watched", "watchers", *_OF_LANES)
        for key in (*map(self.named, COLUMNS), *self.schedules, *map(self.named, unnamed)):
            name = key.removeprefix(self._root)
            types[key] = "hash" if name in _HASHES else "set" if name in _SETS else "zset"
        return types

    def named(self, name: str) -> str:
        """Return the key for a name in the table, such as "due:mail"."""
        return self._root + name

    def wake(self, queue: str) -> str:
        """Return the wake key of a queue."""
        return self._root + "wake:" + queue

    def changed(self, watcher: str) -> str:
        """Return the key of the changes that a watcher has not seen yet."""
        return self._root + "changed:" + watcher

    def worker(self, worker: str) -> str:
        """Return the key of a worker's last steps."""
        return self._root + "worker:" + worker
