-- Recover: return the records of expired leases to their queues, or end those that were recovered too often. Needs
-- columns.lua, moves.lua.

-- Recover one record, from its token and its last outcome. A recovery by its own worker does not count: that worker is alive.
-- Returns {id, digest, recoveries, new state}, or nil if the record is missing.
local function recover_one(id, token_text, outcome_text, stepping)
  local _, reserved, due, kind, worker
  if token_text then
    _, reserved, due, kind, worker = parse_token(token_text)
    if not kind then
      -- The token is damaged. The record has what is needed to go on.
      local blob = call('HGET', RECORD, id)
      if blob then
        reserved, due, kind, worker = now_text, now_text, kind_of(blob), ''
      end
    end
  end
  local shape = kind and shape_of(kind)
  if not shape then
    return nil
  end
  local recoveries, state = nil, '-'
  if worker == stepping then
    recoveries = tonumber(call('HGET', RECOVERIES, id) or 0)
  else
    recoveries = call('HINCRBY', RECOVERIES, id, 1)
  end
  local due_ms = math.min(tonumber(due), now)
  if call('SREM', CANCELLING, id) == 1 then
    state = 'cancelled'
  elseif recoveries > shape.max_recoveries then
    state = 'failed'
  else
    due = format_ms(due_ms)
  end
  count('active', shape.queue, -1)
  local _, settled, _, failed = parse_outcome(outcome_text)
  call('HSET', OUTCOME, id, format_outcome(state, settled, reserved, failed, due, kind, worker, ''))
  if state == '-' then
    add_waiting(id, shape, due_ms)
  else
    add_finished(id, kind, shape, state)
  end
  return { id, string.sub(kind, 1, 8), recoveries, state == '-' and 'queued' or state }
end

local function first_lease_end()
  return tonumber(call('ZRANGE', LEASE, 0, 0, 'WITHSCORES')[2])
end

-- Recover up to `most` records. Returns them, when the first of the other leases ends, nil if there is none, and true if this
-- waiting step has left leases of its own worker as they are.
local function recover(most, stepping, is_waiting)
  local lease_end = first_lease_end()
  if not lease_end or lease_end > now then
    return {}, lease_end
  end
  local expired = call('ZRANGEBYSCORE', LEASE, '-inf', now, 'LIMIT', 0, most)
  local ids, tokens, recovered = {}, {}, {}
  for k, token_text in ipairs(read_fields(TOKEN, expired)) do
    local worker = token_text and select(5, parse_token(token_text))
    if not (is_waiting and worker == stepping) then
      ids[#ids + 1], tokens[#ids + 1] = expired[k], token_text
    end
  end
  local outcomes = read_fields(OUTCOME, ids)
  call_with_all('ZREM', LEASE, ids, 1)
  call_with_all('HDEL', TOKEN, ids, 1)
  for k, id in ipairs(ids) do
    recovered[#recovered + 1] = recover_one(id, tokens[k], outcomes[k], stepping)
  end
  return recovered, first_lease_end(), #ids < #expired
end
