"""Known ways to break the Lua scripts, sorted by the file that they break, and by the tests to run first."""

from __future__ import annotations

from tests.mutants.keys import KEYS
from tests.mutants.lanes import LANES
from tests.mutants.mutation import Changes, Mutation

_FOLDER = "flowli_core/drivers/redis/lua"
_DRIVER = ("-k", "redis and not least")


_ALL: dict[tuple[str, str], Changes] = {
    ("step/settle.lua", "tests/conformance/test_leases.py"): (
        (
            "settle does not check the token",
            "active_token == token and worker == stepping and",
            "worker == stepping and",
        ),
        ("a repeated ack is answered lost", "answers[k] = 'd'", "answers[k] = 'l'"),
        ("a lost ack is answered duplicate", "answers[k] = 'l'", "answers[k] = 'd'"),
        ("settle keeps the token", "call_with_all('HDEL', TOKEN, settled, 1)"),
        ("settle keeps the lease", "call_with_all('ZREM', LEASE, settled, 1)"),
    ),
    ("step/settle.lua", "tests/conformance/test_order.py"): (
        ("a retry is due at once", "due_ms = now + delay_ms", "due_ms = now"),
        ("a released record goes to the end of the queue", "math.min(number_or(due, now), now)", "now"),
    ),
    ("step/settle.lua", "tests/conformance/test_cancel.py"): (
        ("settle ignores a requested cancellation", "(is_cancelled and 'cancelled') or '-'", "'-'"),
        ("a requested cancellation outlives the run", "call_with_all('SREM', CANCELLING, settled, 1)"),
    ),
    ("step/settle.lua", "tests/conformance/test_outcomes.py"): (
        ("settle counts the first of records that are alike", "run[5] = run[5] + 1", "run[5] = 1"),
        ("a run has records that end differently", " and letter == run_letter", ""),
        ("an outcome is that of the record before", "state ~= head_state or ", ""),
        ("a token is read once", "if tokens[k] ~= text then", "if not text then"),
        ("the words of an ack are read once", "if words ~= last_words then", "if not last_words then"),
    ),
    ("step/settle.lua", "tests/conformance/test_retention.py"): (
        ("settle does not reduce the active count", "count('active', shape.queue, -number)"),
        ("settle does not count the finished records", "count(state, shape.queue, number)"),
        ("settle writes no expiry", "call_with_all('ZADD', EXPIRY, expiries, 2)"),
    ),
    ("step/settle.lua", "tests/conformance/test_identities.py"): (
        ("settle does not release the idempotency key", "release_key(id, kind, state)"),
    ),
    ("shared/moves.lua", "tests/redis/test_damage.py"): (
        ("a key is released by a record that does not hold it", "elseif holder == id then", "elseif key then"),
        ("the length of a meta is not checked", "and input_from <= #blob + 1"),
        ("a damaged count ends the script", "redis.pcall('HINCRBY', COUNTS", "call('HINCRBY', COUNTS"),
        ("a damaged record is not reported", "set_asides[#set_asides + 1] = { id, queue, damage }"),
    ),
    ("shared/columns.lua", "tests/redis/test_damage.py"): (
        ("a damaged shape ends the script", "  if not queue then\n", "  if false then\n"),
    ),
    ("shared/head.lua", "tests/redis/test_damage.py"): (
        ("a number that is too great is read", "number <= 9007199254740992", "number <= math.huge"),
    ),
    ("shared/clock.lua", "tests/redis/test_damage.py"): (
        ("a damaged time of the last step is followed", "and last_now < now + 315576000000"),
    ),
    ("shared/identities.lua", "tests/redis/test_damage.py"): (
        ("a finished record keeps its key", "state and not FINISHED[state]", "state"),
    ),
    ("read_records.lua", "tests/redis/test_damage.py"): (
        ("a record is listed in a state that it is not in", "if in_state == state and", "if in_state and"),
        ("an invalid id is listed", "== state and is_valid and", "== state and"),
        ("a listing ends at a missing record", "#positions == most or looked_at", "looked_at"),
        ("a record that was set aside is shown as sound", "if not kind or is_set_aside then", "if not kind then"),
    ),
    ("read_records.lua", "tests/conformance/test_listing.py"): (
        (
            "a listing forgets the positions that it found",
            "for i = first + 13, #ARGV, 3 do",
            "for i = 1, 0 do",
        ),
        ("suspects are not listed", "#indexes > 6000 or (#indexes > 0 and", "#indexes > 6000 and (#indexes > 0 and"),
        (
            "a listing ends within records of the same time",
            "local before = count_before(index)",
            "local before = #entries",
        ),
        ("a listing keeps the wrong positions", "lowest = math.max(lowest, positions[most][1])", "lowest = math.huge"),
    ),
    ("read_records.lua", "tests/conformance/test_filters.py"): (
        ("a filtered call reads large records without a limit", "is_filtered and bytes_read > MOST_BYTES", "false"),
        ("a filter by age lists younger records", "highest = math.min(highest, now - older_ms - 1)"),
        ("a filter by queue lists no suspects", "    collect(SUSPECT[wanted_queue], wanted_queue)\n"),
    ),
    ("read_records/filter.lua", "tests/conformance/test_filters.py"): (
        ("a filter by name lists all", "(wanted_name ~= '' and shape.name ~= wanted_name)", "false"),
        ("a filter by queue lists all", "wanted_queue == '' or queue == wanted_queue", "true"),
        ("a filter by age lists younger active records", "or is_old_enough(id)", "or true"),
        ("the wanted part of the attempts is a pattern", "wanted_part, 1, true)", "wanted_part)"),
    ),
    ("read_schedules.lua", "tests/redis/test_damage.py"): (
        ("a damaged schedule is due", "(mode ~= 'due' or parse_schedule(texts[i]))", "true"),
    ),
    ("requeue.lua", "tests/redis/test_damage.py"): (
        ("a damaged record is requeued", "not record.kind then", "false then"),
    ),
    ("cancel.lua", "tests/redis/test_damage.py"): (
        ("a damaged record is not set aside by cancel", "    set_aside(id, record.queue, shape)\n"),
    ),
    ("step.lua", "tests/redis/test_damage.py"): (
        ("a worker whose last step is damaged takes nothing", "last_sequence > sequence + MOST_BEHIND", "false"),
        ("damaged answers to acks are answered", "string.find(acks, '[^odl]')", "false"),
    ),
    ("step/recover.lua", "tests/redis/test_damage.py"): (
        (
            "a record whose token is lost is not recovered",
            "not token_text and locate(id, kind and shape)",
            "not token_text",
        ),
        ("a step searches the queues for two records", "if not token_text and not kind and has_searched", "if false"),
    ),
    ("shared/remove.lua", "tests/redis/test_damage.py"): (
        ("a record whose outcome is damaged is not counted", "in_state or locate(id)\n", "nil\n"),
        ("an end of retention removes an unfinished record", "if not state or FINISHED[state] then", "if true then"),
    ),
    ("types.lua", "tests/redis/test_damage.py"): (("a key of another type is not named", "kind ~= ARGV[i]", "false"),),
    ("step/settle.lua", "tests/redis/test_damage.py"): (
        (
            "a record is taken from its lease before it is elsewhere",
            "call_with_all('HSET', ATTEMPTS, attempts, 2)",
            "call_with_all('HDEL', TOKEN, settled, 1)\n  call_with_all('HSET', ATTEMPTS, attempts, 2)",
        ),
    ),
    ("read_records.lua", "tests/conformance/test_leases.py"): (
        ("the end of a lease is not shown", "lease and format_ms(time_of(lease))", "false"),
    ),
    ("read_records.lua", "tests/conformance/test_cancel.py"): (
        ("the request to cancel a record is not shown", "call('SISMEMBER', CANCELLING, id) == 1", "false"),
    ),
    ("step/recover.lua", "tests/conformance/test_leases.py"): (
        ("recover keeps the token", "call_with_all('HDEL', TOKEN, ids, 1)"),
        ("recover keeps the lease", "call_with_all('ZREM', LEASE, ids, 1)"),
        ("recoveries are not counted", "recoveries = recoveries + 1"),
        ("a recovery by its own worker counts", "if worker ~= stepping then", "if true then"),
        ("a waiting step recovers the leases of its own worker", "is_waiting and worker == stepping", "false"),
        ("the limit of recoveries is ignored", "elseif recoveries > shape.max_recoveries then", "elseif false then"),
        (
            "the limit of recoveries is one too low",
            "elseif recoveries > shape.max_recoveries then",
            "elseif recoveries >= shape.max_recoveries then",
        ),
        ("recover ignores a requested cancellation", "if call('SREM', CANCELLING, id) == 1 then", "if false then"),
        ("recover does not reduce the active count", "count('active', shape.queue, -1)"),
        ("recover has no limit", "'LIMIT', 0, most", "'LIMIT', 0, 1000"),
        ("a recovered record is reported with half of its meta", "from + length - 1", "from + length / 2"),
    ),
    ("step/reserve.lua", "tests/conformance/test_leases.py"): (
        (
            "attempts are read only beside recoveries",
            "ATTEMPTS, RECOVERIES) == 0 then",
            "ATTEMPTS, RECOVERIES) < 2 then",
        ),
        ("a suspect although none is wanted", "if options.with_suspect and #batch", "if #batch"),
        (
            "a suspect beside records of an earlier queue",
            "and #batch.ids == 0 and has_others",
            "and has_others",
        ),
        ("a suspect beside the records of a later queue", "is_full = is_full or batch.has_suspect", "is_full = false"),
        (
            "a suspect is not in the order of due time",
            "(other and first_of(other, suspect) == other)",
            "false",
        ),
    ),
    ("step/reserve.lua", "tests/conformance/test_expiry.py"): (
        ("an expired record is reserved", "expires and expires <= now and string", "false and string"),
        ("a record expires before its time", "expires and expires <= now and string", "expires and string"),
        (
            "a record that has begun expires",
            " and string.find(call('HGET', OUTCOME, id) or '\\nreplaced', '\\nreplaced$') then",
            " then",
        ),
        ("any number of records expires in a step", "#expired == MOST_EXPIRED", "false"),
        ("another number of records expires in a step", "MOST_EXPIRED = nil, 100", "MOST_EXPIRED = nil, 101"),
        ("a step reserves from other queues after its limit", "is_full = is_full or batch", "is_full = batch"),
        (
            "a step ends after expired records",
            "bytes, is_full, may_have_more = reserve_from",
            "may_have_more = false; bytes, is_full = reserve_from",
        ),
        (
            "no suspect is next after an expired record",
            "elseif had_expired and #all_ids == 0 and suspect_waits then",
            "elseif false then",
        ),
        (
            "an expired record stays due",
            "        call('ZREM', index, id)\n      end\n      notify({ id })",
            "      end\n      notify({ id })",
        ),
        ("a watcher misses that a record expires", "      notify({ id })\n"),
        ("an expired record is not counted", "add_history('X', queue, shape.name, 1)"),
        ("an expired record stays in no state", "add_finished(id, kind, shape, 'cancelled')"),
    ),
    ("shared/identities.lua", "tests/conformance/test_expiry.py"): (
        ("an expiry counts from now", "due + expires_in", "now + expires_in"),
    ),
    ("read_records.lua", "tests/conformance/test_expiry.py"): (
        ("a listing shows no expiry", "(expires and format_ms(expires) or '-')", "'-'"),
        ("a listing does not show that a record has expired", " and state == 'completed' then", " then"),
    ),
    ("step/recover.lua", "tests/conformance/test_expiry.py"): (
        ("a recovered record that could expire has no meta", "(%d+) ?[%d-]* ?(%d*)[%d -]*\\n", "(%d+)(x?)\\n"),
    ),
    ("step/reserve.lua", "tests/conformance/test_order.py"): (
        ("the bytes of a batch are not limited", "bytes > options.most_bytes", "false"),
    ),
    ("step/reserve.lua", "tests/conformance/test_outcomes.py"): (
        ("a head is that of the record before", " and string.sub(blob, 1, #head) == head and", " and"),
        ("a token has the due time of the record before", "or due ~= token_due then", "then"),
    ),
    ("step/reserve.lua", "tests/conformance/test_retention.py"): (
        ("reserve does not count the active records", "count('active', queue, #reserved)"),
    ),
    ("step/reserve.lua", "tests/conformance/test_steps.py"): (
        (
            "one lease in seven is not written",
            "call_with_all('ZADD', LEASE, leases, 2)",
            "if token % 7 ~= 0 then call_with_all('ZADD', LEASE, leases, 2) end",
        ),
        ("reserved records stay due", "call_with_all('ZREM', index, reserved, 1)"),
    ),
    ("step/reserve_again.lua", "tests/conformance/test_steps.py"): (
        (
            "a repeated step returns records that are no longer held",
            "is_held(tokens[i], token, stepping) then",
            "true then",
        ),
        ("a repeated step does not extend leases", "call('ZADD', LEASE, lease_end, id)"),
    ),
    ("step/reserve.lua", "tests/conformance/test_wait.py"): (
        ("the first record that stays is skipped", "(removed + #reserved) + 2]", "(removed + #reserved) + 4]"),
    ),
    ("step/reserve.lua", "tests/redis/test_stored_layout.py"): (
        ("a member that only makes a tree stays", "    call('ZREM', LEASE, LONG_MEMBER)"),
    ),
    ("step/reserve.lua", "tests/redis/test_damage.py"): (
        ("an orphan counts as a record that stays", "removed = removed + 1"),
        (
            "a record is taken from its queue before it has a token",
            "call_with_all('HSET', TOKEN, tokens, 2)",
            "call_with_all('ZREM', DUE[queue], reserved, 1)\n  call_with_all('HSET', TOKEN, tokens, 2)",
        ),
        ("a record of another queue is reserved", "or shape.queue ~= queue"),
    ),
    ("step/trim.lua", "tests/conformance/test_retention.py"): (
        ("expired records are not trimmed", "remove_some(expired)"),
        ("surplus records are not trimmed", "if excess > 0 then", "if false then"),
    ),
    ("step/next.lua", "tests/conformance/test_leases.py"): (
        ("nobody learns that a suspect is due", "is_suspect_first = true", "is_suspect_first = false"),
        (
            "a suspect is always next",
            "suspect and not (due and due <= suspect)",
            "suspect",
        ),
        ("suspects that are due later do not count", "later or math.huge", "math.huge"),
    ),
    ("step/next.lua", "tests/conformance/test_wait.py"): (
        (
            "records that are left wake no worker",
            "if (due and due <= now) or (suspect and batch.has_suspect) then",
            "if false then",
        ),
        ("the wake-up stays when no record is left", "call('DEL', WAKE[queue])"),
        ("the new leases are ignored", "soonest = math.min(soonest, now + lease_ms)"),
    ),
    ("step.lua", "tests/conformance/test_retention.py"): (
        ("a step with acks trims only if it reserves nothing", "ack_count > 0 or not token", "not token"),
        ("a step without acks never trims", "ack_count > 0 or not token", "ack_count > 0"),
        (
            "a record that finished before the clock was set back is removed too early",
            "if is_set_back(number_or(finished, now)) then",
            "if false then",
        ),
    ),
    ("step.lua", "tests/conformance/test_leases.py"): (
        ("a waiting step reserves a suspect", "with_suspect and not is_waiting", "with_suspect"),
        ("a waiting step of a worker that stands still reserves", "left_own and 0 or tonumber(want)", "tonumber(want)"),
    ),
    ("step.lua", "tests/conformance/test_steps.py"): (
        ("late copies of old steps are executed", "sequence > last_sequence then", "sequence ~= last_sequence then"),
        ("a repeated step is executed again", "sequence > last_sequence then", "sequence >= last_sequence then"),
        ("a repeated step is handled as a late copy", "if sequence == last_sequence then", "if false then"),
    ),
    ("step.lua", "tests/conformance/test_wait.py"): (
        ("both sequences of a worker are the same", "is_waiting and 'wait_' or ''", "''"),
        ("a gap between waiting steps is reported as lost data", "not is_waiting and sequence > 1", "sequence > 1"),
    ),
    ("step.lua", "tests/conformance/test_overview.py"): (
        ("a worker that has left is still listed", "call('ZREM', WORKERS, worker)"),
        ("the last steps of a worker that has left are kept", "call('DEL', WORKER)"),
        ("a worker is not listed as it described itself", "call('HSET', WORKER, 'about', about)"),
    ),
    ("step.lua", "tests/redis/test_refusals.py"): (("a full server refuses steps", "call('ZREM', LEASE, '')"),),
    ("shared/moves.lua", "tests/conformance/test_identities.py"): (
        ("an idempotency key is never released", "call('HDEL', HOLDER, key)"),
    ),
    ("shared/moves.lua", "tests/conformance/test_wait.py"): (
        ("a record that waits again wakes no worker", "if due <= now or is_next then", "if false then"),
        ("a record with the earliest due time wakes no worker", "if due <= now or is_next then", "if due <= now then"),
    ),
    ("shared/moves.lua", "tests/conformance/test_leases.py"): (
        (
            "suspects wait among the other records",
            "recoveries >= shape.max_recoveries and SUSPECT[queue] or DUE[queue]",
            "DUE[queue]",
        ),
        ("recover and cancel write no expiry", "call('ZADD', EXPIRY, ", "call('ZADD', EXPIRY, 'XX', "),
        ("recover and cancel do not count the finished records", "count(state, shape.queue, 1)"),
    ),
    ("shared/tokens.lua", "tests/redis"): (
        ("a token is used again at once", "number_or(last, 0) + 1", "number_or(last, 0)"),
        (
            "a token is used again after lost writes",
            "number_or(known, 0) + 1, now * 1000 + micros)",
            "number_or(known, 0) + 1)",
        ),
    ),
    ("take_back.lua", "tests/conformance/test_late_reports.py"): (
        ("a recovery is taken back for any token", "last ~= token or"),
        ("recoveries are taken back without a limit", " or taken_back >= most"),
        ("a recovery of a failed record is taken back", " or FINISHED[state] then", " then"),
        ("a recovery is taken back twice", ".. ' -')", ".. ' ' .. token)"),
        ("a record that is no suspect any more waits as one", "    add_waiting(id, shape, due, lane)\n"),
        ("a record that is no suspect any more waits twice", "    call('ZREM', SUSPECT[queue], id)\n"),
    ),
    ("step/recover.lua", "tests/conformance/test_late_reports.py"): (
        ("recover forgets how many recoveries were taken back", "' ' .. taken_back", "' 0'"),
    ),
    ("step/settle.lua", "tests/conformance/test_tokens.py"): (
        ("any worker may settle a record", "and worker == stepping and", "and"),
    ),
    ("shared/tokens.lua", "tests/conformance/test_tokens.py"): (
        ("any worker may renew a lease", "current == token and holder == worker", "current == token"),
        ("a token that the worker knows is used again", "number_or(known, 0) + 1, ", ""),
    ),
    ("shared/clock.lua", "tests/conformance/test_tokens.py"): (
        ("no numbers are skipped if the clock was set back", "+ SKIPPED_NUMBERS)", ")"),
        ("revisions are not skipped if the clock was set back", "{ 'token', 'revision' }", "{ 'token' }"),
    ),
    ("step.lua", "tests/conformance/test_tokens.py"): (
        ("the skipped tokens are used", "  serial[2] = call('HGET', SERIAL, 'token')\n"),
    ),
    ("put_schedule.lua", "tests/conformance/test_tokens.py"): (
        ("put_schedule does not follow the clock", "follow_clock(number_or(call('HGET', SERIAL, 'now'), 0))"),
    ),
    ("shared/last_step.lua", "tests/conformance/test_leases.py"): (
        ("readers do not see what was due", "now, now_text = last_now, format_ms(last_now)"),
    ),
    ("shared/clock.lua", "tests/conformance/test_leases.py"): (
        ("a clock that was set back is not noticed", "return now < last_now and", "return false and"),
        ("a clock that was set back is followed twice", "call('HSET', SERIAL, 'now', now_text)"),
    ),
    ("shared/remove.lua", "tests/conformance/test_taken_ids.py"): (
        ("ids are free with their records", "if free_at > now then", "if false then"),
    ),
    ("step/trim.lua", "tests/conformance/test_taken_ids.py"): (
        ("the number of taken ids is not limited", "if taken > tonumber(most_taken) then", "if false then"),
    ),
    ("shared/add_records.lua", "tests/conformance/test_taken_ids.py"): (
        ("no taken id is looked for", " or (shape.keeps_id and call('ZSCORE', root .. 'taken', id))"),
    ),
    ("shared/identities.lua", "tests/conformance/test_taken_ids.py"): (
        ("a taken id is not refused", "if taken_state then", "if false then"),
        ("an id is taken for ever", "math.floor(score / 4) > now and", "score > 0 and"),
    ),
    ("shared/remove.lua", "tests/conformance/test_retention.py"): (
        ("removed records stay counted", "count(state, shape.queue, -1)"),
        ("removed records keep their expiry", "call_with_all('ZREM', EXPIRY, ids, 1)"),
        ("removed records keep their outcome", "call_with_all('HDEL', OUTCOME, gone, 1)"),
        ("removed records keep their attempts and recoveries", "ipairs({ ATTEMPTS, RECOVERIES })", "ipairs({})"),
    ),
    ("shared/uses.lua", "tests/conformance/test_size.py"): (
        ("a shape is never forgotten", "call('HDEL', SHAPE, digest)"),
        ("the uses of a shape are never forgotten", "call('HDEL', USES, digest)"),
        ("a queue is never forgotten", "may_be_empty[shape.queue] = true"),
        ("a shape is forgotten before its last record", "if uses and uses > removed then", "if false then"),
        ("removed records still use their shape", "call('HINCRBY', USES, digest, -removed * USE)"),
    ),
    ("shared/remove.lua", "tests/redis/test_shapes.py"): (
        ("the queue of a record that was set aside is never forgotten", "may_be_empty[shape.queue] = true"),
    ),
    ("shared/moves.lua", "tests/conformance/test_size.py"): (
        ("the counts of a queue are never forgotten", "call('HDEL', COUNTS, unpack(fields))"),
        ("the wake-up of a queue is never forgotten", "call('DEL', WAKE[queue])"),
        ("a queue is forgotten although it has finished records", "if number and number ~= '0' then", "if false then"),
        (
            "a queue is forgotten although a record waits",
            "call('EXISTS', DUE[queue], SUSPECT",
            "call('EXISTS', SUSPECT",
        ),
        ("a queue is forgotten although it has a suspect", "DUE[queue], SUSPECT[queue], HELD", "DUE[queue], HELD"),
    ),
    ("shared/uses.lua", "tests/redis/test_shapes.py"): (
        (
            "a shape goes if more records are removed than were counted",
            "elseif uses == removed then",
            "elseif uses then",
        ),
        ("a removal does not change a damaged number", "redis.pcall('HINCRBY', USES, digest, USE)"),
        ("a damaged number of records is trusted", "and (sum - FIRST_USE) % USE == 0"),
        (
            "a number that HINCRBY cannot read is read",
            "string.match(text or '', '^[1-9]%d*$') and number_or(text)",
            "number_or(text)",
        ),
    ),
    ("read_records.lua", "tests/redis/test_damage_bounds.py"): (
        ("a page ends among the damaged times", "if is_damaged then", "if false then"),
        (
            "a page begins below a damaged time",
            "'(' .. format_ms(highest + 1) or '+inf'",
            "format_ms(highest) or '+inf'",
        ),
        ("damaged times have no second page", "highest < LAST_TIME and '('", "'('"),
        ("what is stored beside a record is shown whole", "token, outcome = cut(token), cut(outcome)"),
    ),
    ("step.lua", "tests/redis/test_damage_bounds.py"): (
        ("a damaged end of a retention is kept", "      call('ZADD', EXPIRY, format_ms(latest), id)\n"),
    ),
    ("step/reserve.lua", "tests/redis/test_damage_bounds.py"): (
        ("attempts are reserved whole", "attempts[i] and string.sub(attempts[i], 1, LONGEST)", "attempts[i]"),
    ),
    ("recount.lua", "tests/redis/test_shapes.py"): (
        ("a number that has changed is replaced", "(call('HGET', USES, digest) or '') ~= wrong", "false"),
        ("a number that shows no changes is corrected", "elseif wrong ~= '0' and (", "elseif false and ("),
    ),
    ("shared/add_records.lua", "tests/redis/test_shapes.py"): (
        ("a number that was lost begins again", "if sum == added then", "if true then"),
        ("a shape is not compared", "stored ~= text then", "false then"),
    ),
    ("enqueue.lua", "tests/redis/test_shapes.py"): (
        ("what differs is stored all the same", "if #differing == 0 then", "if true then"),
    ),
    ("put_schedule.lua", "tests/redis/test_shapes.py"): (
        ("a schedule is stored without its records", "if #differing > 0 then", "if false then"),
    ),
    ("shared/add_records.lua", "tests/conformance/test_size.py"): (
        ("records are not counted as uses of their shape", "shape.uses = shape.uses + 1", "shape.uses = 1"),
    ),
    ("shared/add_records.lua", "tests/conformance/test_identities.py"): (
        ("a stored id is stored again", "may_be_refused = stored[k] or", "may_be_refused ="),
        ("an id that occurs twice in a call is stored twice", "(added and added[id])", "false"),
        (
            "a key that occurs twice in a call is ignored",
            "(held and held[key] or call('HGET', root .. 'holder', key))",
            "call('HGET', root .. 'holder', key)",
        ),
        ("the holder of a key is not written", "    call_with_all('HSET', root .. 'holder', holders, 2)\n"),
    ),
    ("shared/identities.lua", "tests/conformance/test_identities.py"): (
        ("a key that is held is ignored", "if not is_held and", "if true or"),
    ),
    ("shared/add_records.lua", "tests/conformance/test_wait.py"): (
        ("a new queue is not stored", "if call('SADD', root .. 'queues', shape.queue) == 1 then", "if true then"),
        ("a new record wakes no worker", "and redis.pcall('ZADD', wake, '0', '0')", "and 0"),
        ("a delayed record that is the next wakes no worker", "(not head or due < head) and", "due <= now and"),
    ),
    ("shared/add_records.lua", "tests/conformance/test_order.py"): (
        ("a due time in the past is kept", "math.max(now, tonumber(ms))", "tonumber(ms)"),
    ),
    ("shared/add_records.lua", "tests/conformance/test_leases.py"): (
        ("enqueue does not follow the clock", "      functions.follow_clock(last_now)\n"),
        ("a new suspect waits among the other records", "max_recoveries == '0' and 'suspect:' or 'due:'", "'due:'"),
    ),
    ("shared/add_records.lua", "tests/redis/test_refusals.py"): (
        (
            "a full server stores records",
            "local given, differing",
            "call('ZREM', root .. 'lease', '')\n  local given, differing",
        ),
    ),
    ("shared/add_records.lua", "tests/redis/test_waiting_steps.py"): (
        ("the wake-up of a queue with records expires", "call('DEL', root .. 'wake:' .. shape.queue)"),
    ),
    ("shared/wake_up.lua", "tests/conformance/test_size.py"): (
        ("a wake-up without records never expires", "call('PEXPIRE', WAKE[queue], 60000)"),
    ),
    ("wake.lua", "tests/conformance/test_wait.py"): (("a wake-up that a wait took is lost", "wake_up(ARGV[i])"),),
    ("shared/reports.lua", "tests/conformance/test_reports.py"): (
        (
            "a report without a lease is stored",
            "if is_held(call('HGET', TOKEN, id), token, worker) then",
            "if true then",
        ),
        ("a report without progress replaces it", "if progress ~= '' then", "if true then"),
        ("the log keeps all lines", "math.max(#lines - MOST_LINES + 1, 1)", "1"),
        ("a line that comes again is appended again", "if number >= count then", "if true then"),
        ("a late copy makes the log forget what it has", "format_ms(math.max(count, number))", "format_ms(number)"),
        (
            "the lines of another attempt are counted",
            "last_token == token and number_or(count, 0)",
            "number_or(count, 0)",
        ),
    ),
    ("step.lua", "tests/conformance/test_reports.py"): (
        (
            "a report is stored after its record is settled",
            (
                "    store_reports(reports_from, acks_from - 1, worker)\n"
                "  end\n"
                "  if ack_count > 0 then\n"
                "    -- Insert: step/settle\n"
                "    acks = settle(acks_from, ack_count, worker)\n"
            ),
            (
                "    -- Insert: step/settle\n"
                "    acks = settle(acks_from, ack_count, worker)\n"
                "    store_reports(reports_from, acks_from - 1, worker)\n"
                "  elseif ack_count > 0 then\n"
                "    -- Insert: step/settle\n"
                "    acks = settle(acks_from, ack_count, worker)\n"
            ),
        ),
    ),
    ("heartbeat.lua", "tests/conformance/test_reports.py"): (
        ("a heartbeat stores no reports", "store_reports(first + 4, leases_from - 1, worker)"),
    ),
    ("requeue.lua", "tests/conformance/test_reports.py"): (
        ("a requeued record keeps its progress", "call('HDEL', PROGRESS, id)"),
    ),
    ("shared/remove.lua", "tests/conformance/test_reports.py"): (
        ("the progress of a removed record stays", "pcall(call_with_all, 'HDEL', PROGRESS, gone, 1)"),
        ("the log of a removed record stays", "pcall(call_with_all, 'HDEL', LOG, gone, 1)"),
        (
            "what was reported is removed only if a record has both",
            "call('EXISTS', PROGRESS, LOG) > 0",
            "call('EXISTS', PROGRESS, LOG) > 1",
        ),
    ),
    ("read_records.lua", "tests/conformance/test_reports.py"): (
        ("a listing reads the logs", "with_log and call('HGET', LOG, id)", "call('HGET', LOG, id)"),
    ),
    ("shared/reports.lua", "tests/redis/test_damage.py"): (
        ("a damaged log ends the script", "string.sub(text, from) or ''", "string.sub(text, from)"),
    ),
    ("heartbeat.lua", "tests/conformance/test_leases.py"): (
        (
            "heartbeat does not check the token",
            "if is_held(tokens[k], ARGV[leases_from + 2 * k - 1], worker) then",
            "if true then",
        ),
        ("heartbeat does not follow the clock", "follow_clock(number_or(call('HGET', SERIAL, 'now'), 0))"),
        ("heartbeat extends no lease", "call_with_all('ZADD', LEASE, leases, 2)"),
    ),
    ("heartbeat.lua", "tests/conformance/test_cancel.py"): (
        ("heartbeat does not report cancellations", "cancelled[#cancelled + 1] = id"),
    ),
    ("heartbeat.lua", "tests/redis/test_refusals.py"): (("a full server cannot renew", "call('ZREM', LEASE, '')"),),
    ("cancel.lua", "tests/redis/test_refusals.py"): (("a full server cannot cancel", "call('ZREM', LEASE, '')"),),
    ("put_schedule.lua", "tests/cli/test_full_server.py"): (
        ("a full server cannot pause", "or (is_paused == '1' and not ARGV[records_from])"),
    ),
    ("cancel.lua", "tests/conformance/test_cancel.py"): (
        ("a requested cancellation is not stored", "call('SADD', CANCELLING, record.id)"),
        ("cancel counts nothing", "write_counts()"),
    ),
    ("shared/remove_waiting.lua", "tests/conformance/test_cancel.py"): (
        ("a cancelled suspect still waits", "call('ZREM', SUSPECT[queue], id)"),
    ),
    ("requeue.lua", "tests/conformance/test_requeue.py"): (
        ("a requeued record takes a held key", "holder and holder ~= record.id", "false"),
        ("a requeued record keeps its recoveries", "call('HDEL', RECOVERIES, id)"),
        ("a requeued record is trimmed", "call('ZREM', EXPIRY, id)"),
        (
            "a due record is requeued",
            "record.state == 'active' or record.state == 'queued' then",
            "record.state == 'active' then",
        ),
    ),
    ("cancel.lua", "tests/conformance/test_batches.py"): (
        ("a record in another state is cancelled", "wanted ~= '-' and wanted ~= record.state", "false"),
        (
            "a record that is named twice is cancelled twice",
            "cancelled[#cancelled + 1], record.state = id, 'cancelled'",
        ),
    ),
    ("requeue.lua", "tests/conformance/test_batches.py"): (
        ("two records of a call take one key", "    holders[key] = id\n"),
        ("a record in another state is requeued", "wanted ~= '-' and wanted ~= record.state", "false"),
        (
            "a record that is named twice is requeued twice",
            "record.state = id, 'queued'",
            "record.state = id, 'failed'",
        ),
    ),
    ("purge.lua", "tests/conformance/test_batches.py"): (
        ("purge of named records ignores the age", "finished and finished < before", "finished"),
        ("a record that is named twice is removed twice", "not is_known[id] and tonumber", "tonumber"),
        ("purge of named records ignores the limit", "math.min(#entries, limit)", "#entries"),
    ),
    ("shared/targets.lua", "tests/redis/test_damage.py"): (
        ("a call searches the queues for two records", "if not kind and has_searched then", "if false then"),
    ),
    ("shared/targets.lua", "tests/redis/test_slow_calls.py"): (
        ("a batch of large records is read in one call", "if bytes > MOST_BYTES then", "if false then"),
    ),
    ("overview.lua", "tests/conformance/test_overview.py"): (
        ("waiting suspects are not counted", "{ SUSPECT[name], HELD[name] }", "{ HELD[name] }"),
        ("a record that is not due is the oldest", "if first_due > now then", "if false then"),
        ("a count is read from the wrong queue", "'completed ' .. name)", "'completed')"),
        ("a dead worker is listed", "'(' .. format_ms(now - listed_ms)", "'-inf'"),
    ),
    ("put_schedule.lua", "tests/conformance/test_schedules.py"): (
        ("a schedule is changed at any revision", "~= tonumber(revision) then", "~= tonumber(revision) and false then"),
        (
            "a removed schedule keeps its tick",
            "if not is_paused or (is_paused",
            "if (is_paused",
        ),
        ("a removed schedule is still listed", "call('ZREM', SCHEDULES, key)"),
    ),
    ("step/settle.lua", "tests/conformance/test_watch.py"): (("a watcher misses the end of a run", "notify(settled)"),),
    ("step/reserve.lua", "tests/conformance/test_watch.py"): (("a watcher misses the start", "notify(reserved)"),),
    ("step/recover.lua", "tests/conformance/test_watch.py"): (("a watcher misses a recovery", "notify(ids)"),),
    ("cancel.lua", "tests/conformance/test_watch.py"): (("a watcher misses a cancellation", "notify(cancelled)"),),
    ("requeue.lua", "tests/conformance/test_watch.py"): (("a watcher misses a requeue", "notify(requeued)"),),
    ("shared/remove.lua", "tests/conformance/test_watch.py"): (
        ("a removed record keeps its watchers, and they miss the removal", "notify(gone, true)"),
    ),
    ("shared/moves.lua", "tests/conformance/test_watch.py"): (
        ("a watcher misses that a record is set aside", "notify({ id })"),
    ),
    ("shared/watchers.lua", "tests/conformance/test_watch.py"): (
        ("dead watchers stay", "> now - WATCHER_MEMORY\n", ">= 0\n"),
        ("a change does not end a wait", "or { '0', '' }", "or {}"),
        ("the changes for a dead watcher stay", "call('PEXPIRE', CHANGED .. name, WATCHER_MEMORY)"),
    ),
    ("watch.lua", "tests/conformance/test_watch.py"): (
        ("a record that is not stored is watched", "and call('HSTRLEN', RECORD, id) > 0 then", "then"),
        ("a record that is no longer watched is reported", "  if is_watched then\n", "  if false then\n"),
        ("changes are reported again", "call_with_all('ZREM', CHANGED_IDS, changed, 1)"),
        ("the watchers stay", "call('PEXPIRE', WATCHERS, WATCHER_MEMORY)"),
        ("the list of watched records stays", "call('PEXPIRE', WATCHED, WATCHER_MEMORY)"),
        ("a record has any number of watchers", "#names >= MOST_WATCHERS", "false"),
    ),
    ("step/settle.lua", "tests/conformance/test_history.py"): (
        ("a bucket is one too high", "math.floor(buckets / 100), 27) + 1", "math.floor(buckets / 100), 27) + 2"),
        ("the last bucket is missing", "math.min(buckets % 100, 27) + 1", "math.min(buckets % 100, 26) + 1"),
        (
            "the durations of the last attempt count again",
            "if started ~= last_started or due ~= last_due then",
            "if not last_due then",
        ),
        ("a retry that is cancelled counts as retried", "is_cancelled and ack == 'r' and 'x' or ack, 0", "ack, 0"),
        ("a release counts as cancelled", "letter = is_cancelled and 'X' or nil", "letter = 'X'"),
        ("a run may be negative", "frexp(run_ms > 0 and run_ms or 0)", "frexp(run_ms)"),
    ),
    ("step/recover.lua", "tests/conformance/test_history.py"): (
        ("a recovery that fails a record does not count as failed", "if state ~= 'queued' then", "if false then"),
    ),
    ("cancel.lua", "tests/conformance/test_history.py"): (
        ("a cancelled record that waits does not count", "add_history('X', shape.queue, shape.name, number)"),
    ),
    ("shared/add_records.lua", "tests/redis/test_history.py"): (
        (
            "an enqueue that fails half-way is counted",
            "  call_with_all('HSET', RECORD, blobs, 2)\n",
            "  call_with_all('HSET', RECORD, blobs, 2)\n  add_history('e', 'q', 'send_email', 1)\n",
        ),
    ),
    ("shared/fold_history.lua", "tests/conformance/test_history.py"): (
        ("numbers are folded twice", "call_with_all('HDEL', OF_JOB .. pair, fields, 1)"),
        (
            "there is no limit of jobs in a period",
            "if length - (others and 1 or 0) >= MOST_PAIRS then",
            "if false then",
        ),
        ("the others count as a job", "length - (others and 1 or 0)", "length"),
        (
            "a fold replaces the numbers of a period",
            "sums[metric] = number_or(number, 0) + (numbers[metric] or 0)",
            "sums[metric] = numbers[metric] or 0",
        ),
    ),
    ("shared/add_history.lua", "tests/redis/test_history.py"): (
        ("a damaged number ends the script", "redis.pcall('HINCRBY', root", "call('HINCRBY', root"),
    ),
    ("shared/fold_history.lua", "tests/redis/test_history.py"): (
        ("a period does not expire", "if kept and length == 0 then", "if false then"),
        ("a clock that was set back keeps a period for long", "math.min(kept, 2 * most)", "kept"),
        ("a damaged key of a job ends the script", "redis.pcall('HSCAN', OF_JOB", "call('HSCAN', OF_JOB"),
        ("a damaged index ends the script", "redis.pcall('ZSCORE', PAIRS", "call('ZSCORE', PAIRS"),
        ("a damaged period ends the script", "redis.pcall('HLEN', key)", "call('HLEN', key)"),
        ("the oldest job is not folded to make room", "    fold(oldest)\n"),
    ),
    ("fold_history.lua", "tests/redis/test_history.py"): (
        ("a history cannot be read when memory is full", "call('ZREM', LEASE, '')"),
    ),
    ("step.lua", "tests/conformance/test_pause.py"): (
        ("a paused queue is reserved from", "reserve(open, left_own", "reserve(served, left_own"),
    ),
    ("step/next.lua", "tests/conformance/test_pause.py"): (
        ("a paused queue is something to do", "in ipairs(open) do", "in ipairs(served) do"),
    ),
    ("shared/moves.lua", "tests/conformance/test_pause.py"): (
        ("a retry in a paused queue wakes a waiter", "if paused_since(queue) then", "if false then"),
    ),
    ("shared/add_records.lua", "tests/conformance/test_pause.py"): (
        ("an enqueue to a paused queue wakes a waiter", "        if paused_since(queue) then", "        if false then"),
    ),
    ("shared/paused.lua", "tests/conformance/test_pause.py"): (
        ("a queue with a similar name is paused", "string.gsub(queue, '%p', '%%%0')", "queue"),
    ),
    ("shared/paused.lua", "tests/redis/test_pause.py"): (
        ("a damaged time pauses a queue", "number_or(since, 1e14) < 1e14 and since", "since"),
    ),
    ("shared/list_paused.lua", "tests/redis/test_pause.py"): (
        ("a damaged name is kept", "and is_text(queue) then", "then"),
    ),
    ("pause_queue.lua", "tests/conformance/test_pause.py"): (
        ("a resume wakes nobody", "if not is_to_pause and call('EXISTS'", "if false and call('EXISTS'"),
        ("a queue is paused again", "if is_to_pause == (since and true or false) then", "if false then"),
    ),
    ("pause_queue.lua", "tests/redis/test_pause.py"): (
        ("any number of queues is paused", "#lines >= most then", "false then"),
    ),
    ("purge.lua", "tests/conformance/test_retention.py"): (
        ("purge ignores the age", "now - older_ms", "now"),
        ("purge ignores the limit", "'LIMIT', 0, limit", "'LIMIT', 0, 1000"),
    ),
}

LUA = tuple(
    Mutation(f"{_FOLDER}/{file}", (first, *_DRIVER), *change)
    for (file, first), changes in (*_ALL.items(), *KEYS.items(), *LANES.items())
    for change in changes
)
