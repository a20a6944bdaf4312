-- Recover: return the records of expired leases to their queues, or end those that were recovered too often. Needs
-- columns.lua, moves.lua, add_history.lua.

-- Returns the meta of a record, or false if it has none or cannot be read: see parse_head.
local function meta_of(blob)
  local length, lane_length, from = string.match(blob, '^%d+ [^\n]*\n(%d+) ?[%d-]* ?(%d*)[%d -]*\n()', DIGEST + 1)
  from = from and from + number_or(lane_length, 0)
  return length and string.sub(blob, from, from + length - 1) or false
end

-- Recover one record, from its token and its last outcome. A recovery by its own worker does not count: that worker is alive.
-- Returns {id, name, queue, meta, recoveries, new state}; nil if the record is missing, waits or has finished, or if it cannot be
-- read and is set aside in `queue`; or false if the next step must recover it, because this script has searched all queues
-- already.
local function recover_one(id, token_text, outcome_text, stepping, queue)
  local token, reserved, due, kind, worker = parse_token(token_text or '')
  local shape, lane = kind and shape_of(kind), string.match(token_text or '', '\n(.*)$')
  if lane then
    lanes().free_place(id, lane)
  end
  if not shape then
    -- The token or the shape is damaged. The record may have what is needed to go on.
    local blob = call('HGET', RECORD, id)
    if not blob then
      admit_behind(id)
      return nil
    end
    local _
    kind, shape, _, _, lane = parse_record(blob)
    if not token_text and not kind and has_searched then
      return false
    elseif not token_text and locate(id, kind and shape) then
      return nil
    elseif not kind then
      count('active', queue, -1)
      call('SREM', CANCELLING, id)
      set_aside(id, queue, shape)
      return nil
    end
    token, reserved, due, worker = '-', now_text, now_text, ''
    if lane then
      lanes().free_place(id, lane)
    end
  end
  local recoveries_text = call('HGET', RECOVERIES, id)
  local recoveries = number_or(string.match(recoveries_text or '', '^%d+'), 0)
  local state = '-'
  if worker ~= stepping then
    recoveries = recoveries + 1
    local taken_back = string.match(recoveries_text or '', '^%d+ (%d+)') or '0'
    call('HSET', RECOVERIES, id, format_ms(recoveries) .. ' ' .. taken_back .. ' ' .. token)
  end
  local due_ms = math.min(number_or(due, now), now)
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
    add_waiting(id, shape, due_ms, lane)
  else
    add_finished(id, kind, shape, state)
  end
  local meta = meta_of(call('HGET', RECORD, id) or '')
  return { id, shape.name, shape.queue, meta, recoveries, state == '-' and 'queued' or state }
end

-- Recover up to `most` records. What cannot be read is set aside in `queue`. Returns the recovered, when the first of the other
-- leases ends, nil if there is none, and true if this waiting step has left leases of its own worker as they are.
local function recover(most, stepping, is_waiting, queue)
  local expired = call('ZRANGEBYSCORE', LEASE, '-inf', now, 'LIMIT', 0, most)
  local tokens, outcomes, ids, recovered = read_fields(TOKEN, expired), read_fields(OUTCOME, expired), {}, {}
  local left_own = false
  for k, id in ipairs(expired) do
    local worker = tokens[k] and select(5, parse_token(tokens[k]))
    local is_own = is_waiting and worker == stepping
    left_own = left_own or is_own
    local one = not is_own and recover_one(id, tokens[k], outcomes[k], stepping, queue)
    if one ~= false then
      ids[#ids + 1] = id
      recovered[#recovered + 1] = one
    end
  end
  refresh_lanes()
  call_with_all('ZREM', LEASE, ids, 1)
  call_with_all('HDEL', TOKEN, ids, 1)
  for _, one in ipairs(recovered) do
    local _, name, job_queue, _, _, state = unpack(one)
    add_history('v', job_queue, name, 1)
    if state ~= 'queued' then
      add_history(state == 'failed' and 'F' or 'X', job_queue, name, 1)
    end
  end
  notify(ids)
  return recovered, first_lease_end(), left_own
end
