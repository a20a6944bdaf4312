-- Return a finished or scheduled record to its queue: due now, with new progress and no recoveries.
-- Needs: shared/columns shared/moves
-- ARGV[first..]: id, 1 if progress follows, progress.
-- Answers 'requeued', 'unfinished', 'key_taken' or 'unknown'.
-- First write: HSET holder, or a ZREM.
local id, has_progress, progress = unpack(ARGV, first, first + 2)
local blob = call('HGET', RECORD, id)
local shape = blob and shape_of(blob)
if not shape then
  return 'unknown'
end
local state, _, _, last = locate(id, shape)
if state == 'active' or state == 'queued' then
  return 'unfinished'
end
local key = key_of(blob)
local holder = key and call('HGET', HOLDER, key)
if holder and holder ~= id then
  return 'key_taken'
end
if key and not holder then
  call('HSET', HOLDER, key, id)
end
call('ZREM', DUE[shape.queue], id)
call('ZREM', SUSPECT[shape.queue], id)
if FINISHED[state] then
  call('ZREM', FINISHED[state], id)
  call('ZREM', EXPIRY, id)
  count(state, shape.queue, -1)
end
call('HDEL', RECOVERIES, id)
if has_progress == '1' then
  call('HSET', PROGRESS, id, progress)
else
  call('HDEL', PROGRESS, id)
end
local _, settled, started, failed, worker = parse_outcome(last)
call('HSET', OUTCOME, id, format_outcome('-', settled, started, failed, now_text, kind_of(blob), worker, ''))
add_waiting(id, shape, now)
write_counts()
return 'requeued'
