-- Remove finished records. Needs columns.lua, moves.lua.
local function remove(ids)
  if #ids == 0 then
    return
  end
  local outcomes, by_state, orphans = read_fields(OUTCOME, ids), {}, {}
  for i, id in ipairs(ids) do
    local state, _, _, _, _, _, kind = parse_outcome(outcomes[i])
    if FINISHED[state] then
      by_state[state] = by_state[state] or {}
      table.insert(by_state[state], id)
      local shape = shape_of(kind)
      if shape then
        count(state, shape.queue, -1)
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
  for _, column in ipairs({ RECORD, OUTCOME, PROGRESS, RECOVERIES }) do
    call_with_all('HDEL', column, ids, 1)
  end
end
