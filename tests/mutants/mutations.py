"""Known ways to break the scripts, each by one short piece of text that stands in a file once.

They are sorted by the file that they break, and by the tests that are asked first whether they notice.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutation:
    """In `file`, `old` becomes `new`. `name` says what that breaks, `first` which tests are asked first."""

    file: str
    first: str
    name: str
    old: str
    new: str = ""


_ALL: dict[tuple[str, str], tuple[tuple[str, str] | tuple[str, str, str], ...]] = {
    ("step.lua", "tests/conformance/test_leases.py"): (
        ("settle checks no token", "active_token == token and shape_of(kind)", "shape_of(kind)"),
        ("an ack sent again is answered lost", "answers[k] = 'd'", "answers[k] = 'l'"),
        ("an ack that is lost is answered duplicate", "answers[k] = 'l'", "answers[k] = 'd'"),
        ("settle leaves the token", "many('HDEL', TOKEN, gone, 1)"),
        ("settle leaves the lease", "many('ZREM', LEASE, gone, 1)"),
        ("recovery leaves the token", "many('HDEL', TOKEN, ids, 1)"),
        ("recovery leaves the lease", "many('ZREM', LEASE, ids, 1)"),
        ("recoveries are not counted", "call('HINCRBY', RECOVERIES, id, 1)", "1"),
        ("the limit of recoveries is ignored", "elseif recoveries > shape.most then", "elseif false then"),
        (
            "the limit of recoveries is one too low",
            "elseif recoveries > shape.most then",
            "elseif recoveries >= shape.most then",
        ),
        ("recovery forgets that a cancel was asked for", "if call('SREM', CANCELLING, id) == 1 then", "if false then"),
        ("recovery keeps the count of the active", "count('active', shape.queue, -1)\n      call(", "call("),
        ("recovery is unbounded", "'LIMIT', 0, most_recovered", "'LIMIT', 0, 1000"),
        ("several suspects at once", "if may_suspect and not took_suspect and", "if may_suspect and"),
        ("a suspect for one who wants none", "if may_suspect and not took_suspect and", "if not took_suspect and"),
        ("a clock that was set back is not minded", "if now < seen then", "if false then"),
    ),
    ("step.lua", "tests/conformance/test_order.py"): (
        ("a retry is due at once", "and now + delay or", "and now or"),
        ("what is given back goes behind", "math.min(tonumber(due), now)", "now"),
        ("a batch is not bounded by bytes", "bytes > most_bytes", "false"),
    ),
    ("step.lua", "tests/conformance/test_cancel.py"): (
        (
            "settle forgets that a cancel was asked for",
            "(any_cancelling and call('SISMEMBER', CANCELLING, id) == 1)",
            "false",
        ),
        ("a request to cancel outlives the record's run", "many('SREM', CANCELLING, gone, 1)"),
    ),
    ("step.lua", "tests/conformance/test_retention.py"): (
        (
            "settle keeps the count of the active",
            "gone[#gone + 1] = id\n      count('active', shape.queue, -1)",
            "gone[#gone + 1] = id",
        ),
        ("settle does not count what has finished", "count(state, shape.queue, 1)"),
        ("settle writes no end of retention", "many('ZADD', EXPIRY, expiries, 2)"),
        ("what has expired is not trimmed", "remove(expired)"),
        ("what is too much is not trimmed", "if excess > 0 then", "if false then"),
        ("a step that has acks trims only where it reserves nothing", "ack_count > 0 or not token", "not token"),
        ("a step that does nothing else trims nothing", "ack_count > 0 or not token", "ack_count > 0"),
        ("reserve does not count the active", "count('active', queue, #held_now)"),
    ),
    ("step.lua", "tests/conformance/test_identities.py"): (
        ("settle keeps the idempotency key", "free_key(id, kind)\n      end\n      written", "end\n      written"),
    ),
    ("step.lua", "tests/conformance/test_steps.py"): (
        ("a token is used again", "tonumber(serial[2] or 0) + 1", "tonumber(serial[2] or 1)"),
        (
            "a lease is not written one time in seven",
            "many('ZADD', LEASE, leases, 2)",
            "if token and token % 7 ~= 0 then many('ZADD', LEASE, leases, 2) end",
        ),
        ("what is reserved stays due", "many('ZREM', DUE[queue], taken, 1)"),
        (
            "a batch asked for again holds what is lost",
            "tokens[i] and held(tokens[i]).token == token then",
            "true then",
        ),
        ("a batch asked for again keeps its leases short", "call('ZADD', LEASE, lease_until, id)"),
        ("late copies of old steps act", "sequence > last_sequence then", "sequence ~= last_sequence then"),
        ("a step sent again acts again", "sequence > last_sequence then", "sequence >= last_sequence then"),
        ("a step sent again is taken for a late one", "elseif sequence == last_sequence then", "elseif false then"),
    ),
    ("step.lua", "tests/conformance/test_wait.py"): (
        ("the two sequences of a worker are one", "ARGV[first + 13] == '1' and 'wait_' or ''", "''"),
        ("a gap between waiting steps means lost data", "sequence_of == '' and sequence > 1", "sequence > 1"),
        ("what is left wakes nobody", "if (at and at <= now) or (any_suspect and may_suspect) then", "if false then"),
        ("the wake-up stays when nothing is left", "call('DEL', WAKE[queue])"),
        ("the first that stays is passed over", "(gone + #taken) + 2]", "(gone + #taken) + 4]"),
        ("what was just reserved is not foreseen", "if #ids_reserved > 0 and (not", "if false and (not"),
    ),
    ("step.lua", "tests/redis/test_damage.py"): (
        ("an orphan is taken for what stays", "gone = gone + (i == suspect_at and 0 or 1)"),
    ),
    ("step.lua", "tests/redis/test_refusals.py"): (
        (
            "a full store cannot settle",
            "many('ZREM', LEASE, gone, 1)",
            "many('HSET', OUTCOME, written, 2)\n  many('ZREM', LEASE, gone, 1)",
        ),
        (
            "a full store cannot reserve",
            "many('ZREM', DUE[queue], taken, 1)",
            "many('ZADD', LEASE, leases, 2)\n    many('ZREM', DUE[queue], taken, 1)",
        ),
        ("a full store answers no idle runner", "call('ZREM', LEASE, '')\n  call('HSET'", "call('HSET'"),
    ),
    ("columns.lua", "tests/conformance/test_identities.py"): (("a key is never freed", "call('HDEL', HOLDER, key)"),),
    ("columns.lua", "tests/redis/test_damage.py"): (
        ("a key is freed by one that does not hold it", "call('HGET', HOLDER, key) == id then", "true then"),
    ),
    ("columns.lua", "tests/conformance/test_wait.py"): (
        ("what waits again wakes nobody", "if due <= now or is_next then", "if false then"),
        ("what will be the next wakes nobody", "if due <= now or is_next then", "if due <= now then"),
    ),
    ("columns.lua", "tests/conformance/test_leases.py"): (
        ("suspects wait among the others", "recoveries >= shape.most and SUSPECT[queue] or DUE[queue]", "DUE[queue]"),
        ("recovery and cancel write no end of retention", "call('ZADD', EXPIRY, ", "call('ZADD', EXPIRY, 'XX', "),
        ("recovery and cancel do not count what has finished", "count(state, shape.queue, 1)"),
    ),
    ("columns.lua", "tests/conformance/test_retention.py"): (
        ("what is removed stays counted", "count(state, shape.queue, -1)"),
        ("what is removed keeps its end of retention", "many('ZREM', EXPIRY, ids, 1)"),
        ("what is removed leaves its columns", "{ RECORD, OUTCOME, PROGRESS, RECOVERIES }", "{ RECORD }"),
    ),
    ("columns.lua", "tests/redis"): (
        (
            "a queue that the caller does not know goes unseen",
            "if call('SCARD', QUEUES) ~= known_count then",
            "if false then",
        ),
    ),
    ("enqueue.lua", "tests/conformance/test_identities.py"): (
        ("an id that is there is stored again", "elseif there[k] then", "elseif false then"),
        ("an id twice in a call is stored twice", "if new[id] then", "if false then"),
        ("a key that is held is given away", "elseif holder then", "elseif false then"),
        (
            "a key twice in a call is given away",
            "(keys[key] or call('HGET', HOLDER, key))",
            "call('HGET', HOLDER, key)",
        ),
        ("a key that is taken is not written", "many('HSET', HOLDER, holders, 2)"),
    ),
    ("enqueue.lua", "tests/conformance/test_wait.py"): (
        ("a new queue is kept a secret", "call('SADD', QUEUES, queue)"),
        ("a new record wakes nobody", "call('ZADD', WAKE[queue], 0, '0')"),
        (
            "a delayed record that is the next wakes nobody",
            "if soonest > now then",
            "if soonest > now then soonest = nil end if soonest and soonest > now then",
        ),
    ),
    ("enqueue.lua", "tests/conformance/test_order.py"): (("a moment in the past is kept", "math.max(now, ms)", "ms"),),
    ("enqueue.lua", "tests/conformance/test_leases.py"): (
        ("a new suspect waits among the others", "(shape.is_suspect and SUSPECT or DUE)", "DUE"),
    ),
    ("enqueue.lua", "tests/redis/test_refusals.py"): (
        ("a full store stores something", "local shape_count", "call('ZREM', LEASE, '')\nlocal shape_count"),
    ),
    ("heartbeat.lua", "tests/conformance/test_leases.py"): (
        ("heartbeat checks no token", "string.match(tokens[k], '^%d+') == ARGV[first + 1 + 2 * k] then", "true then"),
        ("heartbeat extends nothing", "many('ZADD', LEASE, leases, 2)"),
    ),
    ("heartbeat.lua", "tests/conformance/test_cancel.py"): (
        ("heartbeat tells of no cancel", "cancelled[#cancelled + 1] = id"),
    ),
    ("heartbeat.lua", "tests/redis/test_refusals.py"): (("a full store cannot renew", "call('ZREM', LEASE, '')"),),
    ("cancel.lua", "tests/conformance/test_cancel.py"): (
        ("a request to cancel is not kept", "call('SADD', CANCELLING, id)"),
        ("a cancelled suspect still waits", "call('ZREM', SUSPECT[queue], id)"),
        ("cancel counts nothing", "write_counts()"),
    ),
    ("requeue.lua", "tests/conformance/test_requeue.py"): (
        ("a requeued record takes a held key", "if holder and holder ~= id then", "if false then"),
        ("a requeued record keeps its recoveries", "call('HDEL', RECOVERIES, id)"),
        ("a requeued record is trimmed", "call('ZREM', EXPIRY, id)"),
        ("a record that is due is requeued", "(due and tonumber(due) <= now)", "false"),
    ),
    ("overview.lua", "tests/conformance/test_overview.py"): (
        ("a waiting suspect is not counted", "{ DUE[name], SUSPECT[name] }", "{ DUE[name] }"),
        ("a record that is not due is the oldest", "if due > 0 then", "if call('ZCARD', index) > 0 then"),
        ("a worker that is gone is listed", "'(' .. string.format('%.0f', now - tonumber(ARGV[first]))", "'-inf'"),
    ),
    ("put_schedule.lua", "tests/conformance/test_schedules.py"): (
        ("a schedule is changed at any revision", "~= ARGV[first + 1] then", "~= ARGV[first + 1] and false then"),
        (
            "a removed schedule keeps its tick",
            "  call('ZREM', TICK, key)\n  call('ZREM', SCHEDULES, key)",
            "  call('ZREM', SCHEDULES, key)",
        ),
        ("a removed schedule is still listed", "call('ZREM', SCHEDULES, key)"),
    ),
    ("purge.lua", "tests/conformance/test_retention.py"): (
        ("purge heeds no age", "string.format('%.0f', now - older_ms)", "string.format('%.0f', now)"),
        ("purge heeds no limit", "'LIMIT', 0, limit", "'LIMIT', 0, 1000"),
    ),
}

MUTATIONS = tuple(Mutation(file, first, *change) for (file, first), changes in _ALL.items() for change in changes)
