-- What every script begins with: the columns, the queues, the time, and how a record is read and moved.
-- It is no operation of its own; the driver puts it in front of each other file.
--
-- KEYS: the columns in the order below, then due, suspect and wake of each queue.
-- ARGV: the time in ms or -1 for the server's, how many queues follow, how many queues the caller knows of, their names,
--       and then what the operation takes, from ARGV[first] on.
-- Answers 'stale' where the caller does not know all queues: it asks for their names and calls again.
local RECORD, SHAPE, TOKEN, PROGRESS, OUTCOME, RECOVERIES = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local LEASE, COMPLETED, FAILED, CANCELLED, EXPIRY = KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11]
local HOLDER, CANCELLING, COUNTS, QUEUES, SERIAL, WORKERS = KEYS[12], KEYS[13], KEYS[14], KEYS[15], KEYS[16], KEYS[17]
local TICK = KEYS[18]
local FINISHED = { completed = COMPLETED, failed = FAILED, cancelled = CANCELLED }

local call = redis.call
local now = tonumber(ARGV[1])
if now < 0 then
  local time = call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local now_text = string.format('%.0f', now)

local queue_names, known, DUE, SUSPECT, WAKE = {}, {}, {}, {}, {}
local queue_count, known_count = tonumber(ARGV[2]), tonumber(ARGV[3])
for i = 1, queue_count do
  local name, at = ARGV[3 + i], 18 + 3 * (i - 1)
  queue_names[i], known[name] = name, i <= known_count
  DUE[name], SUSPECT[name], WAKE[name] = KEYS[at + 1], KEYS[at + 2], KEYS[at + 3]
end
local first = 4 + queue_count
if call('SCARD', QUEUES) ~= known_count then
  return 'stale'
end

-- A command with many arguments, in slices that Lua's stack can hold. `width` arguments belong together.
local function many(command, key, arguments, width)
  local slice = 6000 - 6000 % width
  for from = 1, #arguments, slice do
    call(command, key, unpack(arguments, from, math.min(from + slice - 1, #arguments)))
  end
end

local function read(key, ids)
  local found = {}
  for from = 1, #ids, 6000 do
    local some = call('HMGET', key, unpack(ids, from, math.min(from + 5999, #ids)))
    for i = 1, #some do
      found[from + i - 1] = some[i]
    end
  end
  return found
end

-- What records of one kind share: see pack_shape in _packing.py. A record's blob begins with the digest of its shape.
local shapes = {}
local function shape_of(text_with_digest)
  local digest = string.sub(text_with_digest, 1, 8)
  local shape = shapes[digest]
  if not shape then
    local text = call('HGET', SHAPE, digest)
    if not text then
      return nil
    end
    local most, completed, failed, queue = string.match(text, '^(%d+) (%d+) (%d+) ([^\n]*)\n')
    -- Times that go into an index are text: Redis would print each number anew.
    shape = {
      most = tonumber(most),
      queue = queue,
      until_completed = string.format('%.0f', now + tonumber(completed)),
      until_failed = string.format('%.0f', now + tonumber(failed)),
    }
    shapes[digest] = shape
  end
  return shape
end

-- A blob is "digest created key\nlength of meta or -\nmeta input": see pack_record in _packing.py.
local function input_size(blob)
  local length, from = string.match(blob, '^[^\n]*\n([%-%d]+)\n()')
  return #blob - from + 1 - (tonumber(length) or 0)
end

local function key_of(blob)
  local key = string.match(blob, '^........%d+ ([^\n]*)\n')
  return key ~= '' and key or nil
end

-- The digest of a record's shape, and whether it has a key: all that moving it takes to know.
local function kind_of(blob)
  return string.sub(blob, 1, 8) .. (string.find(blob, '^%d+ \n', 9) and '-' or '+')
end

-- token: "token reserved due kind worker", there exactly while the record is active.
local function held(text)
  local token, reserved, due, kind, worker = string.match(text, '^(%d+) (%d+) (%d+) (%S+) (.*)$')
  return { token = token, reserved = reserved, due = tonumber(due), kind = kind, worker = worker }
end

-- outcome: "state settled started failed updated due kind worker\nresult", from the first time that a record is moved on.
local function outcome(state, settled, started, failed, due, kind, worker, result)
  return state .. ' ' .. settled .. ' ' .. started .. ' ' .. failed .. ' ' .. now_text .. ' '
    .. string.format('%.0f', due) .. ' ' .. kind .. ' ' .. worker .. '\n' .. result
end

local function outcome_of(text)
  local state, settled, started, failed, updated, due, kind, worker, at =
    string.match(text, '^(%S+) (%d+) (%d+) (%d+) (%d+) (%d+) (%S+) ([^\n]*)\n()')
  return {
    state = state, settled = settled, started = started, failed = failed, due = tonumber(due), kind = kind, worker = worker, at = at,
  }
end

-- Counts change together with the states they count: gathered here, written once.
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

-- A key is freed only by the record that holds it.
local function free_key(id, kind)
  if string.byte(kind, 9) == 43 then
    local blob = call('HGET', RECORD, id)
    local key = blob and key_of(blob)
    if key and call('HGET', HOLDER, key) == id then
      call('HDEL', HOLDER, key)
    end
  end
end

-- Make a record wait: its caller has taken it out of where it was. One that is due, or will be before all others in its
-- index, is a wake-up: somebody must learn of the time. `announced` are the queues where such a time lies ahead.
local announced = {}
local function make_wait(id, shape, due)
  local queue = shape.queue
  local recoveries = tonumber(call('HGET', RECOVERIES, id) or 0)
  local index = recoveries >= shape.most and SUSPECT[queue] or DUE[queue]
  call('ZADD', index, due, id)
  local is_next = due > now and call('ZRANGE', index, 0, 0)[1] == id
  announced[queue] = announced[queue] or is_next
  if due <= now or is_next then
    call('ZADD', WAKE[queue], 0, '0')
  end
end

-- End a record: its caller has taken it out of where it was, and written its outcome.
local function make_finished(id, kind, shape, state)
  call('ZADD', FINISHED[state], now_text, id)
  call('ZADD', EXPIRY, state == 'completed' and shape.until_completed or shape.until_failed, id)
  count(state, shape.queue, 1)
  free_key(id, kind)
end

-- Forget finished records.
local function remove(ids)
  if #ids == 0 then
    return
  end
  local outcomes, by_state, orphans = read(OUTCOME, ids), {}, {}
  for i, id in ipairs(ids) do
    local state, kind
    if outcomes[i] then
      state, kind = string.match(outcomes[i], '^(%S+) %d+ %d+ %d+ %d+ %d+ (%S+) ')
    end
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
  for _, finished in pairs(FINISHED) do
    many('ZREM', finished, orphans, 1)
  end
  for state, some in pairs(by_state) do
    many('ZREM', FINISHED[state], some, 1)
  end
  many('ZREM', EXPIRY, ids, 1)
  for _, column in ipairs({ RECORD, OUTCOME, PROGRESS, RECOVERIES }) do
    many('HDEL', column, ids, 1)
  end
end

-- All of a record as _packing.unpack_stored reads it, or nil where it is not there.
local function stored(id)
  local blob = call('HGET', RECORD, id)
  local shape = blob and shape_of(blob)
  if not shape then
    return nil
  end
  local token, text = call('HGET', TOKEN, id), call('HGET', OUTCOME, id)
  local state, due, finished = nil, nil, false
  if token then
    state, due = 'active', held(token).due
  else
    due = call('ZSCORE', DUE[shape.queue], id) or call('ZSCORE', SUSPECT[shape.queue], id)
    if due then
      due = tonumber(due)
      state = due > now and 'scheduled' or 'queued'
    elseif text then
      local last = outcome_of(text)
      state, due = last.state, last.due
      finished = FINISHED[state] and call('ZSCORE', FINISHED[state], id) or false
    else
      return nil
    end
  end
  return {
    id, blob, state, string.format('%.0f', due), call('HGET', PROGRESS, id), call('HGET', RECOVERIES, id) or '0', token, text, finished,
  }
end
