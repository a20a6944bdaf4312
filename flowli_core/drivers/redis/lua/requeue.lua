-- Return a finished or scheduled record to its queue: due now, with new attempts (or none stored) and no recoveries.
-- Needs: shared/columns shared/watchers shared/paused shared/moves
-- ARGV[first..]: id, 1 if attempts follow, attempts.
-- Answers 'requeued', 'unfinished', 'key_taken', 'damaged' or 'unknown'.
-- First write: HSET holder, or a ZREM.
local id, has_attempts, attempts = unpack(ARGV, first, first + 2)
local blob = call('HGET', RECORD, id)
if not blob then
  return 'unknown'
end
local kind, shape = parse_record(blob)
if not kind then
  return 'damaged'
end
local state, _, _, last = locate(id, shape)
if state == 'active' or state == 'queued' then
  return 'unfinished'
end
local key = parse_head(blob)
local holder = key ~= '' and call('HGET', HOLDER, key)
if holder and holder ~= id then
  return 'key_taken'
end
if key ~= '' and not holder then
  call('HSET', HOLDER, key, id)
end
call('ZREM', DUE[shape.queue], id)
call('ZREM', SUSPECT[shape.queue], id)
local _, settled, started, failed, worker, _, last_kind = parse_outcome(last)
if FINISHED[state] then
  call('ZREM', FINISHED[state], id)
  call('ZREM', EXPIRY, id)
  -- A record that was set aside is counted in the queue whose index held it.
  count(state, (shape_of(last_kind or kind) or shape).queue, -1)
end
call('HDEL', RECOVERIES, id)
call('HDEL', PROGRESS, id)
if has_attempts == '1' then
  call('HSET', ATTEMPTS, id, attempts)
else
  call('HDEL', ATTEMPTS, id)
end
call('HSET', OUTCOME, id, format_outcome('-', settled, started, failed, now_text, kind, worker, ''))
add_waiting(id, shape, now)
notify({ id })
write_counts()
return 'requeued'
