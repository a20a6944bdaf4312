-- Cancel a waiting record, or request that of an active one.
-- Needs: shared/columns shared/moves
-- ARGV[first]: id.
-- Answers 'cancelled', 'requested', 'finished' or 'unknown'.
-- First write: a ZREM, of nothing if need be, so that jobs can be cancelled when memory is full.
local id = ARGV[first]
local blob = call('HGET', RECORD, id)
local shape = blob and shape_of(blob)
if not shape then
  return 'unknown'
end
local state, due, _, last = locate(id, shape)
if state == 'active' then
  call('ZREM', LEASE, '')
  call('SADD', CANCELLING, id)
  return 'requested'
elseif state ~= 'queued' and state ~= 'scheduled' then
  return 'finished'
end
call('ZREM', DUE[shape.queue], id)
call('ZREM', SUSPECT[shape.queue], id)
local _, settled, started, failed, worker = parse_outcome(last)
local kind = kind_of(blob)
call('HSET', OUTCOME, id, format_outcome('cancelled', settled, started, failed, format_ms(due), kind, worker, ''))
add_finished(id, kind, shape, 'cancelled')
write_counts()
return 'cancelled'
