-- Remove finished records. Needs columns.lua, moves.lua.

-- taken: a sorted set of the ids that stay taken after their record was removed. The score is four times the ms until then,
-- and on top of that the state in which the record finished.
local STATE_NUMBERS = { completed = 1, failed = 2, cancelled = 3 }

-- Add an id to the members for `taken`, if it stays taken.
local function take_id(taken, id, state, finished, shape)
  local free_at = tonumber(finished) + shape.keep_id
  if shape.keep_id > 0 and free_at > now then
    append(taken, format_ms(4 * free_at + STATE_NUMBERS[state]), id)
  end
end

local function remove(ids)
  if #ids == 0 then
    return
  end
  local outcomes, by_state, orphans, taken = read_fields(OUTCOME, ids), {}, {}, {}
  for i, id in ipairs(ids) do
    local state, _, _, _, _, _, kind, finished = parse_outcome(outcomes[i])
    if FINISHED[state] then
      by_state[state] = by_state[state] or {}
      table.insert(by_state[state], id)
      local shape = shape_of(kind)
      if shape then
        count(state, shape.queue, -1)
        take_id(taken, id, state, finished, shape)
      end
    else
      orphans[#orphans + 1] = id
    end
  end
  for state, index in pairs(FINISHED) do
    call_with_all('ZREM', index, orphans, 1)
    call_with_all('ZREM', index, by_state[state] or {}, 1)
  end
  call_with_all('ZREM', EXPIRY, ids, 1)
  call_with_all('ZADD', TAKEN, taken, 2)
  for _, column in ipairs({ RECORD, OUTCOME, PROGRESS, RECOVERIES }) do
    call_with_all('HDEL', column, ids, 1)
  end
end
