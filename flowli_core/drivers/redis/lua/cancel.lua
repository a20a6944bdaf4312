-- Cancel a waiting record, or request that of an active one. Set aside a waiting one that cannot be read.
-- Needs: shared/columns shared/watchers shared/paused shared/moves
-- ARGV[first]: id.
-- Answers 'cancelled', 'requested', 'finished' or 'unknown'.
-- First write: SADD cancelling, or a ZREM.
local id = ARGV[first]
local blob = call('HGET', RECORD, id)
if not blob then
  return 'unknown'
end
local kind, shape = parse_record(blob)
local state, due, _, last, queue = locate(id, kind and shape)
if state == 'active' then
  call('ZREM', LEASE, '')
  call('SADD', CANCELLING, id)
  return 'requested'
elseif state ~= 'queued' and state ~= 'scheduled' then
  return 'finished'
end
call('ZREM', DUE[queue], id)
call('ZREM', SUSPECT[queue], id)
if kind then
  local _, settled, started, failed, worker = parse_outcome(last)
  call('HSET', OUTCOME, id, format_outcome('cancelled', settled, started, failed, format_ms(due), kind, worker, ''))
  add_finished(id, kind, shape, 'cancelled')
  notify({ id })
else
  set_aside(id, queue, shape)
end
write_counts()
return kind and 'cancelled' or 'finished'
