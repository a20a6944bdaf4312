-- Cancel waiting records, and request the cancellation of active ones. Set aside waiting ones that cannot be read.
-- Needs: shared/columns shared/watchers shared/paused shared/lanes shared/add_history shared/moves shared/remove_waiting shared/targets
-- ARGV[first..]: for each record its id, and the state in which it must be or -.
-- Answers for each record 'cancelled', 'requested', 'finished', 'changed' or 'unknown'. It may answer for the first of them only: see
-- targets.lua.
-- First write: ZREM lease, or a ZREM.
local answers, cancelled, number_of = {}, {}, {}

local function cancel(record)
  local id, kind, shape = record.id, record.kind, record.shape
  remove_waiting(id, record.queue, record.lane)
  if not kind then
    set_aside(id, record.queue, shape)
    record.state = 'failed'
    return 'finished'
  end
  local _, settled, started, failed, worker = parse_outcome(record.outcome)
  local outcome = format_outcome('cancelled', settled, started, failed, format_ms(record.due), kind, worker, '')
  call('HSET', OUTCOME, id, outcome)
  add_finished(id, kind, shape, 'cancelled')
  cancelled[#cancelled + 1], record.state = id, 'cancelled'
  number_of[shape] = (number_of[shape] or 0) + 1
  return 'cancelled'
end

for i, target in ipairs(read_targets(2)) do
  local record, wanted = unpack(target)
  if not record.is_stored then
    answers[i] = 'unknown'
  elseif wanted ~= '-' and wanted ~= record.state then
    answers[i] = 'changed'
  elseif record.state == 'active' then
    call('ZREM', LEASE, '')
    call('SADD', CANCELLING, record.id)
    answers[i] = 'requested'
  elseif record.state == 'queued' or record.state == 'scheduled' then
    answers[i] = cancel(record)
  else
    answers[i] = 'finished'
  end
end
notify(cancelled)
for shape, number in pairs(number_of) do
  add_history('X', shape.queue, shape.name, number)
end
write_counts()
return answers
