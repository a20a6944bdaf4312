-- Next: find out when there will be work, and wake another worker for the due records that this step left. Needs
-- columns.lua, reserve.lua. It sets the ms until there is something to do, the ms until the next tick of a schedule, -1 for never,
-- and `is_suspect_first` to true if a due suspect comes before all other due records.
local soonest, is_suspect_first = first_end or math.huge, nil
if #batch.ids > 0 then
  soonest = math.min(soonest, now + lease_ms)
end
local tick = tonumber(call('ZRANGE', TICK, 0, 0, 'WITHSCORES')[2])
if tick and tick > now then
  soonest = math.min(soonest, tick)
end
for _, queue in ipairs(open) do
  -- When the first record that is no suspect is due, when the first due suspect was due, and when the next suspect will be due.
  local due, suspect, later = first_due[queue], nil, nil
  if due == nil then
    due = tonumber(call('ZRANGE', DUE[queue], 0, 0, 'WITHSCORES')[2])
  end
  if has_others(queue) then
    local turn = tonumber(call('ZRANGE', root .. 'turn:' .. queue, 0, 0, 'WITHSCORES')[2])
    due = math.min(due or math.huge, turn or math.huge)
    due = due < math.huge and due
    for _, index in ipairs({ SUSPECT[queue], root .. 'turn_suspect:' .. queue }) do
      local first = tonumber(call('ZRANGEBYSCORE', index, '-inf', now, 'WITHSCORES', 'LIMIT', 0, 1)[2])
      local next_one = tonumber(call('ZRANGEBYSCORE', index, '(' .. now_text, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2])
      suspect = first and math.min(suspect or first, first) or suspect
      later = next_one and math.min(later or next_one, next_one) or later
    end
  end
  soonest = math.min(soonest, due or math.huge, later or math.huge)
  -- Store a wake-up if the step left due records, and delete it if it left none. If it left only due suspects, store a wake-up
  -- if it has reserved another suspect. Otherwise keep it as it is: waiting steps reserve no suspects, and would wake each other.
  if (due and due <= now) or (suspect and batch.has_suspect) then
    call('ZADD', WAKE[queue], '0', '0')
  elseif not suspect and not announced[queue] then
    call('DEL', WAKE[queue])
  end
  if is_suspect_first == nil and suspect and not (due and due <= suspect) then
    is_suspect_first = true
  elseif is_suspect_first == nil and due and due <= now then
    is_suspect_first = false
  end
end
local next_ms, tick_ms = soonest < math.huge and math.max(soonest - now, 0) or -1, tick and math.max(tick - now, 0) or -1
