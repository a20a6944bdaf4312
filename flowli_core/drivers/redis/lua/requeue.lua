-- Return finished or scheduled records to their queues: due now, with new attempts (or none stored) and no recoveries.
-- Needs: shared/columns shared/watchers shared/paused shared/lanes shared/moves shared/remove_waiting shared/targets
-- ARGV[first..]: for each record its id, the state in which it must be or -, 1 if attempts follow, attempts.
-- Answers for each record 'requeued', 'unfinished', 'key_taken', 'damaged', 'changed' or 'unknown'. It may answer for the first of
-- them only: see targets.lua.
-- First write: HSET holder, or a ZREM.
local targets, answers, requeued, holders = read_targets(4), {}, {}, {}
for _, target in ipairs(targets) do
  local key = target[1].key
  if key and key ~= '' then
    -- A key that is no longer unique is free, even if it is still stored.
    local unique_until = tonumber(call('ZSCORE', UNIQUE, key) or nil)
    holders[key] = not (unique_until and unique_until <= now) and call('HGET', HOLDER, key)
  end
end

local function requeue(record, attempts)
  local id, kind, shape, key, state = record.id, record.kind, record.shape, record.key, record.state
  if key ~= '' and not holders[key] then
    call('HSET', HOLDER, key, id)
    holders[key] = id
  end
  call('ZREM', UNIQUE, key)
  remove_waiting(id, shape.queue, record.lane)
  local _, settled, started, failed, worker, _, last_kind = parse_outcome(record.outcome)
  if FINISHED[state] then
    call('ZREM', FINISHED[state], id)
    call('ZREM', EXPIRY, id)
    -- A record that was set aside is counted in the queue whose index held it.
    count(state, (shape_of(last_kind or kind) or shape).queue, -1)
  end
  call('HDEL', RECOVERIES, id)
  call('HDEL', PROGRESS, id)
  if attempts then
    call('HSET', ATTEMPTS, id, attempts)
  else
    call('HDEL', ATTEMPTS, id)
  end
  call('HSET', OUTCOME, id, format_outcome('-', settled, started, failed, now_text, kind, worker, ''))
  if state == 'scheduled' and call('HGET', BEHIND, id) then
    call('ZADD', HELD[shape.queue], now_text, id)
  else
    add_waiting(id, shape, now, record.lane)
  end
  requeued[#requeued + 1], record.state = id, 'queued'
end

for i, target in ipairs(targets) do
  local record, wanted, from = unpack(target)
  local holder = holders[record.key]
  if not record.is_stored then
    answers[i] = 'unknown'
  elseif not record.kind then
    answers[i] = 'damaged'
  elseif wanted ~= '-' and wanted ~= record.state then
    answers[i] = 'changed'
  elseif record.state == 'active' or record.state == 'queued' then
    answers[i] = 'unfinished'
  elseif holder and holder ~= record.id and FINISHED[record.state] then
    answers[i] = 'key_taken'
  else
    requeue(record, ARGV[from] == '1' and ARGV[from + 1])
    answers[i] = 'requeued'
  end
end
notify(requeued)
write_counts()
return answers
