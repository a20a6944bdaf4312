-- Trim: remove finished records after their retention, and those above the number to keep. Needs columns.lua, remove.lua.
local function trim(most, keep)
  local expired = call('ZRANGEBYSCORE', EXPIRY, '-inf', now, 'LIMIT', 0, most)
  remove(expired)
  local left = most - #expired
  for _, state in ipairs({ 'completed', 'failed', 'cancelled' }) do
    local excess = math.min(call('ZCARD', FINISHED[state]) - tonumber(keep[state]), left)
    if excess > 0 then
      remove(call('ZRANGE', FINISHED[state], 0, excess - 1))
      left = left - excess
    end
  end
end
