-- Cancel a record that waits; ask for one that is active.
-- ARGV[first]: id.
-- Answers 'cancelled', 'requested', 'finished' or 'unknown'.
-- First write: SADD cancelling, or a ZREM.
local id = ARGV[first]
local blob = call('HGET', RECORD, id)
local shape = blob and shape_of(blob)
if not shape then
  return 'unknown'
end
if call('HEXISTS', TOKEN, id) == 1 then
  call('SADD', CANCELLING, id)
  return 'requested'
end
local queue = shape.queue
local due = call('ZSCORE', DUE[queue], id) or call('ZSCORE', SUSPECT[queue], id)
if not due then
  return 'finished'
end
call('ZREM', DUE[queue], id)
call('ZREM', SUSPECT[queue], id)
local text = call('HGET', OUTCOME, id)
local before = text and outcome_of(text) or { settled = '0', started = '0', failed = '0', worker = '' }
local kind = kind_of(blob)
call('HSET', OUTCOME, id, outcome('cancelled', before.settled, before.started, before.failed, tonumber(due), kind, before.worker, ''))
make_finished(id, kind, shape, 'cancelled')
write_counts()
return 'cancelled'
