-- Make a finished or scheduled record due now, with new progress, and its recoveries forgotten.
-- ARGV[first..]: id, 1 where progress follows, progress.
-- Answers 'requeued', 'unfinished', 'key_taken' or 'unknown'.
-- First write: HSET holder, or a ZREM.
local id, has_progress, progress = ARGV[first], ARGV[first + 1] == '1', ARGV[first + 2]
local blob = call('HGET', RECORD, id)
local shape = blob and shape_of(blob)
if not shape then
  return 'unknown'
end
local queue = shape.queue
local due = call('ZSCORE', DUE[queue], id) or call('ZSCORE', SUSPECT[queue], id)
if call('HEXISTS', TOKEN, id) == 1 or (due and tonumber(due) <= now) then
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
local text = call('HGET', OUTCOME, id)
local before = text and outcome_of(text) or { state = '-', settled = '0', started = '0', failed = '0', worker = '' }
call('ZREM', DUE[queue], id)
call('ZREM', SUSPECT[queue], id)
if FINISHED[before.state] then
  call('ZREM', FINISHED[before.state], id)
  call('ZREM', EXPIRY, id)
  count(before.state, queue, -1)
end
call('HDEL', RECOVERIES, id)
if has_progress then
  call('HSET', PROGRESS, id, progress)
else
  call('HDEL', PROGRESS, id)
end
call('HSET', OUTCOME, id, outcome('-', before.settled, before.started, before.failed, now, kind_of(blob), before.worker, ''))
make_wait(id, shape, now)
write_counts()
return 'requeued'
