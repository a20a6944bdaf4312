-- How records are moved between indexes and counted. Needs columns.lua.

-- Counts are collected, and written once, together with the states that they count.
local changes = {}
local function count(state, queue, by)
  local of_state = changes[state]
  if not of_state then
    of_state = {}
    changes[state] = of_state
  end
  of_state[queue] = (of_state[queue] or 0) + by
end
local function write_counts()
  for state, queues in pairs(changes) do
    for queue, by in pairs(queues) do
      if by ~= 0 then
        call('HINCRBY', COUNTS, state .. ' ' .. queue, by)
      end
    end
  end
  changes = {}
end

-- The kind of a record is the digest of its shape, and + if it has an idempotency key or - if not.
local function kind_of(blob)
  return string.sub(blob, 1, 8) .. (string.find(blob, '^%d+ \n', 9) and '-' or '+')
end

-- Release the idempotency key of a record, if it holds one.
local function release_key(id, kind)
  if string.byte(kind, 9) == 43 then -- a plus
    local blob = call('HGET', RECORD, id)
    local key = blob and key_of(blob)
    if key and call('HGET', HOLDER, key) == id then
      call('HDEL', HOLDER, key)
    end
  end
end

-- Make a record wait; the caller has removed it from its previous index. Wake one waiter if the record is due, or if it is
-- now the first of its index: the waiter must learn of the earlier time. `announced` are the queues with such a time.
local announced = {}
local function add_waiting(id, shape, due)
  local queue = shape.queue
  local recoveries = tonumber(call('HGET', RECOVERIES, id) or 0)
  local index = recoveries >= shape.max_recoveries and SUSPECT[queue] or DUE[queue]
  call('ZADD', index, due, id)
  local is_next = due > now and call('ZRANGE', index, 0, 0)[1] == id
  announced[queue] = announced[queue] or is_next
  if due <= now or is_next then
    call('ZADD', WAKE[queue], 0, '0')
  end
end

-- Make a record finished; the caller has removed it from its previous index, and written its outcome.
local function add_finished(id, kind, shape, state)
  call('ZADD', FINISHED[state], now_text, id)
  call('ZADD', EXPIRY, shape.expiry[state], id)
  count(state, shape.queue, 1)
  release_key(id, kind)
end
