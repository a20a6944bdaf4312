-- Next: find out when there will be work, and wake another worker for the due records that this step left. Needs
-- columns.lua, reserve.lua.

-- Returns when the first record of a queue is due, and when its first suspect is: nil if there is none. If this step has
-- reserved a suspect, which it does with one at a time, those that are due now do not count.
local function due_times(queue, with_suspect)
  local due = first_due[queue]
  if due == nil then
    due = tonumber(call('ZRANGE', DUE[queue], 0, 0, 'WITHSCORES')[2])
  end
  local suspect
  if with_suspect and has_suspects(queue) then
    local from = batch.has_suspect and '(' .. now_text or '-inf'
    suspect = tonumber(call('ZRANGEBYSCORE', SUSPECT[queue], from, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2])
  end
  return due or nil, suspect
end

-- Store a wake-up if the step left due records that it would have reserved, and delete it if it left none. If it left only
-- suspects that it did not want, keep the wake-up as it is, because another worker may want them.
local function update_wake_up(queue, due, with_suspect)
  local any_suspect = has_suspects(queue) and call('ZCOUNT', SUSPECT[queue], '-inf', now) > 0
  if (due and due <= now) or (any_suspect and with_suspect) then
    call('ZADD', WAKE[queue], 0, '0')
  elseif not any_suspect and not announced[queue] then
    call('DEL', WAKE[queue])
  end
end

-- Returns the ms until there is something to do, and the ms until the next tick of a schedule: -1 for never.
local function find_next(queues, with_suspect, first_lease_end, lease_ms)
  local soonest = math.huge
  local function add(time)
    soonest = math.min(soonest, time or math.huge)
  end
  add(first_lease_end)
  if #batch.ids > 0 then
    add(now + lease_ms)
  end
  local tick = tonumber(call('ZRANGE', TICK, 0, 0, 'WITHSCORES')[2])
  if tick and tick > now then
    add(tick)
  end
  for _, queue in ipairs(queues) do
    local due, suspect = due_times(queue, with_suspect)
    add(due)
    add(suspect)
    update_wake_up(queue, due, with_suspect)
  end
  return soonest < math.huge and math.max(soonest - now, 0) or -1, tick and math.max(tick - now, 0) or -1
end
