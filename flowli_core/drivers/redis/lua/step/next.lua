-- Next: find out when a step will have something to do, and wake another worker for what this step left. Needs columns.lua,
-- reserve.lua.

-- When the first record of a queue is due that a step could reserve: the earliest due one, and the earliest suspect.
-- A step reserves one suspect; after that the due ones do not count.
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

-- Store a wake-up if due records are left that this step could have reserved, or delete one if none are left. If only
-- suspects are left that this step did not want, another worker may want them.
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
    if DUE[queue] then
      local due, suspect = due_times(queue, with_suspect)
      add(due)
      add(suspect)
      update_wake_up(queue, due, with_suspect)
    end
  end
  return soonest < math.huge and math.max(soonest - now, 0) or -1, tick and math.max(tick - now, 0) or -1
end
