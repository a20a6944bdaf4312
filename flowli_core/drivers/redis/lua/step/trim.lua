-- Trim: remove finished records after their retention, and those above the number to keep. Needs columns.lua, moves.lua.

-- Free the keys of completed records, unless an unfinished record holds them. If a record was removed, another may have its id now.
local function free_keys(keys)
  for _, key in ipairs(keys) do
    local holder = call('HGET', HOLDER, key)
    local blob = holder and call('HGET', RECORD, holder)
    local its_key = blob and parse_head(blob)
    if holder and (FINISHED[parse_outcome(call('HGET', OUTCOME, holder))] or not blob or (its_key and its_key ~= key)) then
      call('HDEL', HOLDER, key)
    end
    call('ZREM', UNIQUE, key)
  end
end

local function remove_some(ids, state)
  if #ids > 0 then
    -- Insert: shared/uses shared/remove
    remove(ids, state)
  end
end

local function trim(most, keep, most_taken)
  local expired = call('ZRANGEBYSCORE', EXPIRY, '-inf', now, 'LIMIT', 0, most)
  remove_some(expired)
  local left = most - #expired
  for _, state in ipairs({ 'completed', 'failed', 'cancelled' }) do
    local excess = math.min(call('ZCARD', FINISHED[state]) - tonumber(keep[state]), left)
    if excess > 0 then
      remove_some(call('ZRANGE', FINISHED[state], 0, excess - 1), state)
      left = left - excess
    end
  end
  if call('EXISTS', TAKEN, UNIQUE) == 0 then
    return
  end
  local taken, unique = call('ZCARD', TAKEN), call('ZCARD', UNIQUE)
  if taken > 0 then
    call_with_all('ZREM', TAKEN, call('ZRANGEBYSCORE', TAKEN, '-inf', 4 * now + 3, 'LIMIT', 0, most), 1)
  end
  if taken > tonumber(most_taken) then
    call_with_all('ZREM', TAKEN, call('ZRANGE', TAKEN, 0, math.min(taken - most_taken, most) - 1), 1)
  end
  if unique > 0 then
    free_keys(call('ZRANGEBYSCORE', UNIQUE, '-inf', now, 'LIMIT', 0, most))
    free_keys(call('ZRANGEBYSCORE', UNIQUE, '(253402300799999', '+inf', 'LIMIT', 0, most)) -- after the year 9999: damaged
  end
  if unique > tonumber(most_taken) then
    free_keys(call('ZRANGE', UNIQUE, 0, math.min(unique - most_taken, most) - 1))
  end
end
