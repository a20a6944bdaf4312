"""Known ways to break the lanes of Redis: see `mutations.py`."""

from __future__ import annotations

from tests.mutants.mutation import Changes

_LANES, _TURNS, _RATES = [f"tests/conformance/test_{name}.py" for name in ("lanes", "lane_turns", "rates")]
_REDIS = "tests/redis/test_lanes.py"
_DAMAGED = "tests/redis/test_damaged_lanes.py"

LANES: dict[tuple[str, str], Changes] = {
    ("step/settle.lua", _LANES): (
        ("settle keeps the place", "lanes().free_place(unpack(record))"),
        ("a retried record leaves its lane", "{ id, shape, due_ms, lane }", "{ id, shape, due_ms }"),
    ),
    ("step/recover.lua", _LANES): (
        (
            "recover keeps the place",
            "  if lane then\n    lanes().free_place(id, lane)\n  end\n  if not shape then\n",
            "  if not shape then\n",
        ),
        (
            "a recovered record leaves its lane",
            "add_waiting(id, shape, due_ms, lane)",
            "add_waiting(id, shape, due_ms)",
        ),
    ),
    ("cancel.lua", _REDIS): (
        (
            "a cancelled record stays in its lane",
            "remove_waiting(id, record.queue, record.lane)",
            "remove_waiting(id, record.queue)",
        ),
    ),
    ("requeue.lua", _LANES): (
        (
            "a requeued record leaves its lane",
            "add_waiting(id, shape, now, record.lane)",
            "add_waiting(id, shape, now)",
        ),
    ),
    ("take_back.lua", _LANES): (("a suspect of a lane stays one", "call('SREM', root .. 'lane_suspects', id)"),),
    ("pause_queue.lua", _LANES): (
        (
            "a resume wakes nobody for a lane",
            "root .. 'turn:' .. queue, root .. 'turn_suspect:' .. queue",
            "DUE[queue]",
        ),
    ),
    ("step/reserve.lua", _LANES): (
        ("a reserved record takes no place", "lanes().take_place(id, lane)"),
        (
            "a token does not name the lane",
            "format_token(token, due, kind, worker, lane)",
            "format_token(token, due, kind, worker)",
        ),
        ("a reserved record waits in its lane", "lanes().leave(unpack(record))"),
    ),
    ("step/reserve.lua", _TURNS): (
        ("a lane keeps its turn", "{ id, queue, lane, true }", "{ id, queue, lane }"),
        ("a step makes one round", "had_expired or lane_of ~= nil", "had_expired"),
        ("a lane comes after records of its time", "tonumber(dues[k]) < time do", "tonumber(dues[k]) <= time do"),
    ),
    ("step/next.lua", _RATES): (
        ("a turn is nothing to do", "due = math.min(due or math.huge, turn or math.huge)", "due = due or math.huge"),
    ),
    ("shared/lanes.lua", _LANES): (
        (
            "a lane has one place more",
            "call('SCARD', PLACES .. lane) >= limit",
            "call('SCARD', PLACES .. lane) > limit",
        ),
        (
            "a free place is noticed in no queue",
            "call('SREM', PLACES .. lane, id)\n    changed_everywhere[lane] = true",
            "call('SREM', PLACES .. lane, id)",
        ),
        ("a record of a lane is not held", "call('ZADD', HELD[queue], due, id)"),
        ("a suspect of a lane is none", "if is_suspect then", "if false then"),
        ("a turn wakes nobody", "if (time <= now or is_next) and", "if false and"),
        (
            "a limit is never changed",
            "if text and call('HGET', LIMITS, name) ~= text then",
            "if text and not call('HGET', LIMITS, name) then",
        ),
        (
            "a lane is not asked again at its turn",
            "if due and number_or(due, 0) <= now and start and start <= now then",
            "if due then",
        ),
    ),
    ("shared/lanes.lua", _TURNS): (
        ("a waiting lane loses its turn", "not is_served and old and old <= now and old or now", "now"),
        (
            "a lane is due with its first record only",
            "time = math.max(due, allowed > now",
            "time = math.max(allowed > now",
        ),
    ),
    ("shared/lanes.lua", _RATES): (
        ("a start is allowed a period after the one before the last", "-limit.count))", "1 - limit.count))"),
        ("a start is not counted", "call('RPUSH', STARTS .. lane, now_text)", "0"),
        ("a rate holds up no turn", "math.max(due, allowed > now and allowed or not", "math.max(due, not"),
        ("a start to come is counted until then", "if start and start > now then", "if false then"),
    ),
    ("step/reserve.lua", _REDIS): (
        (
            "a record that is in no lane has its turn",
            " or lane ~= lane_of_turn then",
            " or lane and lane ~= lane_of_turn then",
        ),
    ),
    ("shared/lanes.lua", _REDIS): (
        ("a lane waits for a damaged due time", "number_or(due, 0) <= now and", "tonumber(due) <= now and"),
        (
            "a limit that was read is not read again",
            "given_limits[name], limits[name] = nil, nil",
            "given_limits[name] = nil",
        ),
        ("a paused queue is woken", "and not paused_since(queue) then", "then"),
        ("the starts are kept for ever", "call('PEXPIRE', STARTS .. lane, format_ms(limit.period + SPARE_MS))"),
        ("more starts are kept than the rate counts", "call('LPOP', STARTS .. lane)\n      end", "end"),
        ("the depth of an empty lane is kept", "call('ZREM', LANES, member)"),
        ("the queues of an empty lane are kept", "call('SREM', WAITS .. lane, queue)"),
        ("a suspect that has left its lane is kept", "call('SREM', SUSPECTS, id)"),
        (
            "an entry that is not held stops the lane",
            "call('ZREM', LANE .. queue .. '\\n' .. lane, id)\n    end",
            "end",
        ),
        (
            "a damaged limit has any number of places",
            "limits[name] = is_sound and limit or { text = '', concurrency = 1 }",
            "limits[name] = limit",
        ),
    ),
    ("shared/clock.lua", _RATES): (
        ("a turn stays where the clock was", "or is_suspect], now, lane)", "or is_suspect], last_now, lane)"),
    ),
    ("shared/moves.lua", "tests/conformance/test_replace.py"): (
        (
            "a record behind another joins no lane",
            "add_waiting(behind, shape, number_or(due, now), lane)",
            "add_waiting(behind, shape, number_or(due, now))",
        ),
    ),
    ("audit/lanes.lua", _REDIS): (
        ("a place of a record of another lane is not found", "'\\n(.*)$') == lane then", "'\\n(.*)$') then"),
        (
            "a place of no record is not found",
            "'\\n(.*)$') == lane then",
            "'\\n(.*)$') or true then",
        ),
        ("a record without a place is not found", "call('SISMEMBER', root .. 'places:' .. lane, id) == 0", "false"),
        ("a lane that is stuck is not found", "if not is_active and not turn then", "if false then"),
    ),
    ("audit/lanes.lua", _DAMAGED): (
        ("a turn that is too late is not found", "tonumber(turn) > latest_turn(queue, lane) then", "false then"),
        (
            "a record with another due time in its lane is not found",
            "due ~= call('ZSCORE', HELD[queue], id) then",
            "false then",
        ),
    ),
    ("mend_lane.lua", _DAMAGED): (
        ("the name of no lane is kept", "call('ZREM', root .. 'lanes', member)"),
        ("an entry of no record is held for ever", "call('ZREM', HELD[of], member)"),
    ),
    ("overview.lua", _DAMAGED): (("a damaged turn stops an overview", "format_ms(number_or(turn, 0))", "turn"),),
    ("step/trim.lua", _DAMAGED): (
        (
            "a key with a damaged end is kept for ever",
            "call('ZRANGEBYSCORE', UNIQUE, '(253402300799999', '+inf', 'LIMIT', 0, most)",
            "{}",
        ),
    ),
    ("mend_lane.lua", _REDIS): (
        ("a place of no record is kept", "lanes().free_place(id, place_of)"),
        ("a record is not put into its lane", "add_waiting(id, shape, format_ms(number_or(due, last_due)), its_lane)"),
        ("an active record gets no place", "call('SADD', PLACES .. its_lane, id)"),
    ),
}
