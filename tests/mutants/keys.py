"""Known ways to break the guards of replaced records, records behind others, and kept keys: see `mutations.py`."""

from __future__ import annotations

from tests.mutants.mutation import Changes

_KEYS = "tests/redis/test_keys.py"
_KEPT = "tests/redis/test_kept_keys.py"
_DAMAGE = "tests/redis/test_keys_damage.py"

KEYS: dict[tuple[str, str], Changes] = {
    ("shared/replace.lua", _KEYS): (
        ("a replaced record is created anew", "number_or(string.match(blob, '^(%d+) ', DIGEST + 1), now)", "now"),
        ("a replaced record keeps its old shape", "subtract_uses(old_digest, 1)"),
        ("a shape that a call has removed is not stored again", "given[old_digest].is_stored = call", "call"),
        ("a replaced record stays in its old index", "remove_waiting(id, queue, old_lane)"),
        ("a replaced record keeps its attempts", "call('HDEL', ATTEMPTS, id)"),
        ("a replaced record keeps its recoveries", "call('HDEL', RECOVERIES, id)"),
        ("a replaced record never expires", "format_ms(due), kind, '', 'replaced')", "format_ms(due), kind, '', '')"),
        ("a record that is replaced waits no longer behind another", "if is_behind then", "if false then"),
        ("a watcher misses that a record is replaced", "notify({ id })"),
        ("an active record is replaced", "if state == 'active' then", "if false then"),
        ("a duplicate replaces", "if blob and not is_known then", "if blob then"),
        (
            "the records before one that replaces are not stored yet",
            "      add_records(given, at, from, number - from, refused)\n",
        ),
        ("a record that replaces is added again", "from = number + 1", "from = number"),
    ),
    ("shared/replace.lua", _DAMAGE): (
        ("another type ends a replacement half-way: queues", "call('SISMEMBER', QUEUES, shape.queue)"),
        ("another type ends a replacement half-way: columns", "call('HGET', column, id)"),
        ("another type ends a replacement half-way: indexes", "call('ZSCORE', index, id)"),
    ),
    ("shared/identities.lua", _KEYS): (
        ("a record waits for longer than it may", "math.min(due, created + most_wait)", "due"),
        (
            "a longest wait that is over is in the past",
            "due = math.max(math.min",
            "due = (function(a) return a end)(math.min",
        ),
        ("a kept key is free", "tonumber(call('ZSCORE', root .. 'unique', key) or 0) <= now", "true"),
        ("a kept key is never free", "tonumber(call('ZSCORE', root .. 'unique', key) or 0) <= now", "false"),
    ),
    ("shared/add_records.lua", _KEYS): (
        ("a record is behind none", "call('HSET', root .. 'behind', ids[1], waits_for)"),
        ("a record behind another wakes a waiter", "      if not waits_for then\n", "      if true then\n"),
        ("a key that was kept is stored twice", "freed[#freed + 1] = key"),
    ),
    ("shared/moves.lua", _KEYS): (
        ("nobody is admitted", "    admit_behind(id, holder)\n"),
        ("an admitted record stays held", "call('ZREM', HELD[queue], behind)"),
        ("an admitted record stays behind", "call('HDEL', BEHIND, behind)"),
        (
            "an admitted record is due at once",
            "add_waiting(behind, shape, number_or(due, now), lane)",
            "add_waiting(behind, shape, now, lane)",
        ),
        ("a cancelled record keeps the key", "call('HSET', HOLDER, key, waits_for)"),
        ("a cancelled record stays behind", "call('HDEL', BEHIND, id)\n  end\nend"),
        ("a key is kept by a record that failed", "and unique_ms and state == 'completed' then", "and unique_ms then"),
        (
            "the time of a kept key begins when it is kept",
            "string.match(blob, '^%d+', DIGEST + 1) + unique_ms",
            "now + unique_ms",
        ),
    ),
    ("shared/moves.lua", _DAMAGE): (
        (
            "the record behind a damaged one waits for ever",
            "if call('EXISTS', BEHIND) == 0 then",
            "if call('EXISTS', BEHIND) == 0 or not holder then",
        ),
        ("the record behind one that is set aside waits for ever", "  admit_behind(id)\n  notify"),
        ("a damaged record that is set aside stays behind", "  call('HDEL', BEHIND, id)\n  admit"),
        ("a damaged record is never admitted", "call('ZADD', DUE[queue], due, behind) -- A step sets it aside."),
    ),
    ("step/reserve.lua", _DAMAGE): (
        ("the record behind a missing one waits for ever", "admit_behind(id)"),
        ("a record that a missing one admits is not noticed", "first_due, others, is_stale = {}, {}, true"),
    ),
    ("step/recover.lua", _DAMAGE): (("the record behind a lost one waits for ever", "admit_behind(id)"),),
    ("step/trim.lua", _KEPT): (
        ("a key stays kept", "free_keys(call('ZRANGEBYSCORE', UNIQUE, '-inf', now, 'LIMIT', 0, most))"),
        ("a key that is no longer kept has a holder", "call('HDEL', HOLDER, key)"),
    ),
    ("step/trim.lua", _DAMAGE): (
        (
            "a key of an unfinished record is freed",
            "if holder and (FINISHED[parse_outcome",
            "if holder and true or (FINISHED[parse_outcome",
        ),
    ),
    ("step/trim.lua", "tests/conformance/test_unique.py"): (
        ("the number of kept keys is not limited", "if unique > tonumber(most_taken) then", "if false then"),
        ("a record with the id of a removed one keeps its key", "(its_key and its_key ~= key)", "false"),
    ),
    ("shared/identities.lua", "tests/conformance/test_unique.py"): (
        ("a record with the id of a removed one holds its key", "(not its_key or its_key == key) and blob", "blob"),
    ),
    ("requeue.lua", _KEPT): (
        ("a key that is no longer kept is taken", "not (unique_until and unique_until <= now) and", "true and"),
        ("a kept key is free for a requeue", "unique_until and unique_until <= now", "unique_until"),
        ("a requeued record has a kept key", "call('ZREM', UNIQUE, key)"),
        (
            "a requeue takes a record from behind another",
            "if state == 'scheduled' and call('HGET', BEHIND, id) then",
            "if false then",
        ),
        ("a record that another waits for cannot be requeued", " and FINISHED[record.state] then", " then"),
    ),
    ("admit.lua", _DAMAGE): (
        ("a record is admitted before the other has finished", "if is_behind or (", "if ("),
        ("a record that has lost its entry is not admitted", "(lane or not is_held)", "true"),
    ),
    ("audit.lua", _DAMAGE): (
        (
            "a record that is behind none is not found",
            "report('behind', id, 'is missing, although the record is held and in no lane')",
            "local _",
        ),
        (
            "a record that is behind a finished one is not found",
            "elseif not state or FINISHED[state] then\n    report('behind'",
            "elseif false then\n    report('behind'",
        ),
        ("a key that no record holds is not found", "if not call('HGET', HOLDER, found[2][i]) then", "if false then"),
    ),
    ("audit.lua", "tests/redis/test_damaged_lanes.py"): (
        (
            "a record that waits for itself is not found",
            "elseif call('HGET', BEHIND, waits_for) then",
            "elseif false then",
        ),
    ),
    ("overview.lua", "tests/conformance/test_replace.py"): (
        ("a record behind another is the oldest", "first_due = find_oldest_held(index)"),
    ),
}
