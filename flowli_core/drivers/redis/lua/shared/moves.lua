-- How records are moved between indexes and counted. Needs columns.lua, watchers.lua, paused.lua, lanes.lua.

local UNIQUE, BEHIND = root .. 'unique', root .. 'behind'

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

-- Returns true if a queue has no records, and the fields of its counts.
local function is_empty(queue)
  local fields = {}
  for _, state in ipairs({ 'active', 'completed', 'failed', 'cancelled' }) do
    fields[#fields + 1] = state .. ' ' .. queue
  end
  for _, number in ipairs(call('HMGET', COUNTS, unpack(fields))) do
    if number and number ~= '0' then
      return false
    end
  end
  return call('EXISTS', DUE[queue], SUSPECT[queue], HELD[queue]) == 0, fields
end

-- Write the counts and the turns of lanes, and forget the queues that have lost their last record: they are among `may_be_empty`.
local may_be_empty = {}
local function write_counts()
  refresh_lanes()
  for state, queues in pairs(changes) do
    for queue, by in pairs(queues) do
      if by ~= 0 then
        local field = state .. ' ' .. queue
        if type(redis.pcall('HINCRBY', COUNTS, field, by)) == 'table' then
          -- It is damaged. Count from here; fsck reports the difference.
          call('HSET', COUNTS, field, math.max(by, 0))
        end
      end
    end
  end
  changes = {}
  for queue in pairs(may_be_empty) do
    local nothing_left, fields = is_empty(queue)
    if nothing_left then
      call('SREM', QUEUES, queue)
      call('HDEL', COUNTS, unpack(fields))
      call('DEL', WAKE[queue])
    end
  end
end

-- The size in bytes of the largest record that can be read.
local LARGEST = 67108864

-- Read the head of a record's blob, "digest created key\nlength of meta, expiry, length of lane, unique ms\nlane meta input": see
-- _packing.py. Returns its key, '' if it has none, and the size of its input; then, or nil for each that it has not, when it
-- expires, its lane, and for how many ms its key stays unique. Returns nil if it cannot be read, or has more than 64 MiB.
local function parse_head(blob)
  local created_to, key, meta_length, from = string.match(blob, '^%d+() ([^\n]*)\n([%d -]+)\n()', DIGEST + 1)
  local meta_size, expires, lane, unique = meta_length == '-' and 0 or string.match(meta_length or '', '^%d+$'), nil, nil, nil
  if not meta_size and meta_length then
    local words = { string.match(meta_length .. ' - - -', '^(%S+) (%S+) (%S+) (%S+)') }
    for i = 1, 4 do
      local number = #(words[i] or '') <= 15 and string.match(words[i] or '', '^%d+$')
      words[i] = tonumber(number or nil) or (words[i] ~= '-' and math.huge or nil)
    end
    meta_size, expires, unique = words[1] or 0, words[2], words[4]
    if words[3] and from + words[3] <= #blob + 1 then
      lane, from = string.sub(blob, from, from + words[3] - 1), from + words[3]
    end
    if expires == math.huge or unique == math.huge or (words[3] and not string.find(lane or '', '^[^\n]+\n')) then
      meta_size = math.huge
    end
  end
  local input_from = created_to and from + (meta_size or math.huge)
  if created_to and created_to <= DIGEST + 17 and input_from <= #blob + 1 and #blob <= LARGEST then
    return key, #blob + 1 - input_from, expires, lane, unique
  end
end

-- The kind of a record is the digest of its shape, and + if it has an idempotency key, * if it has a lane, # if both, - if neither.
local function kind_of(blob, key, lane)
  local flag = key == '' and '-' or '+'
  if lane then
    flag = key == '' and '*' or '#'
  end
  return string.sub(blob, 1, DIGEST) .. flag
end

-- Read a record: its kind, its shape, the size of its input, and if it has them, when it expires, and its lane. Returns nil if it
-- cannot be read, and why. A record expires only if it has no outcome, or was replaced: it has not begun, and was not requeued.
local function parse_record(blob)
  local key, size, expires, lane = parse_head(blob)
  if not key then
    return nil, 'the head of its record cannot be read'
  end
  local shape, damage = shape_of(blob)
  if not shape then
    return nil, damage
  end
  return kind_of(blob, key, lane), shape, size, expires, lane
end

-- Make a record wait, in its lane if it has one; the caller has removed it from its previous index. Wake one waiter if the record
-- is due, or if it is now the first of its index: the waiter must learn of the earlier time. A record of a paused queue wakes
-- nobody. Call refresh_lanes once all records wait.
local function add_waiting(id, shape, due, lane)
  local queue = shape.queue
  local recoveries = number_or(string.match(call('HGET', RECOVERIES, id) or '', '^%d+'), 0)
  if lane then
    lanes().join(id, queue, lane, due, recoveries >= shape.max_recoveries)
    return
  end
  local index = recoveries >= shape.max_recoveries and SUSPECT[queue] or DUE[queue]
  call('ZADD', index, due, id)
  if paused_since(queue) then
    return
  end
  local is_next = due > now and call('ZRANGE', index, 0, 0)[1] == id
  announced[queue] = announced[queue] or is_next
  if due <= now or is_next then
    call('ZADD', WAKE[queue], 0, '0')
  end
end

-- behind: a hash, id -> id of the active record with the same key for which it waits. Such a record holds the key, and is in `held`.
--
-- Make the record wait that is behind one which has finished. `holder` is the one that holds its key, or nil if that is not known:
-- then all are searched.
local function admit_behind(id, holder)
  if call('EXISTS', BEHIND) == 0 then
    return
  end
  local behind, cursor = holder and call('HGET', BEHIND, holder) == id and holder, '0'
  while not behind do
    local scan = call('HSCAN', BEHIND, cursor, 'COUNT', 1000)
    for i = 1, #scan[2], 2 do
      behind = scan[2][i + 1] == id and scan[2][i] or behind
    end
    cursor = scan[1]
    if cursor == '0' and not behind then
      return
    end
  end
  local kind, shape, _, _, lane = parse_record(call('HGET', RECORD, behind) or '')
  local queue = kind and shape.queue or select(5, locate(behind))
  local due = queue and call('ZSCORE', HELD[queue], behind)
  if due and kind then
    add_waiting(behind, shape, number_or(due, now), lane)
  elseif due then
    call('ZADD', DUE[queue], due, behind) -- A step sets it aside.
  end
  if due and not lane then
    call('ZREM', HELD[queue], behind)
  end
  call('HDEL', BEHIND, behind)
end

-- Release the idempotency key of a record that finishes in a state. If another record waits for that, make it wait in its queue. If
-- this one is behind another, return the key to that one. A completed record keeps its key as long as it is unique: `unique` is a
-- sorted set of such keys -> until when they are kept.
local function release_key(id, kind, state)
  local flag = string.byte(kind, DIGEST + 1)
  if flag ~= 43 and flag ~= 35 then -- + or #
    return
  end
  local blob = call('HGET', RECORD, id)
  local key, _, _, _, unique_ms = parse_head(blob or '')
  local holder = key and call('HGET', HOLDER, key)
  local waits_for = state == 'cancelled' and call('HGET', BEHIND, id)
  if waits_for and holder == id then
    call('HSET', HOLDER, key, waits_for)
  elseif holder == id and unique_ms and state == 'completed' then
    call('ZADD', UNIQUE, format_ms(string.match(blob, '^%d+', DIGEST + 1) + unique_ms), key)
  elseif holder == id then
    call('HDEL', HOLDER, key)
  elseif not waits_for then
    admit_behind(id, holder)
  end
  if waits_for then
    call('HDEL', BEHIND, id)
  end
end

-- Make a record finished; the caller has removed it from its previous index, and written its outcome.
local function add_finished(id, kind, shape, state)
  call('ZADD', FINISHED[state], now_text, id)
  call('ZADD', EXPIRY, shape.expiry[state], id)
  count(state, shape.queue, 1)
  release_key(id, kind, state)
end

-- Set aside a record that cannot be read: make it failed, with its data unchanged, and store what is damaged in its outcome.
-- The caller removes it from its previous index. `set_asides` are {id, queue, damage}.
local set_asides = {}
local function set_aside(id, queue, damage)
  set_asides[#set_asides + 1] = { id, queue, damage }
  local kind = '!' .. string.gsub(queue, '.', function(letter)
    return string.format('%02x', string.byte(letter))
  end)
  call('HSET', OUTCOME, id, format_outcome('failed', '0', '0', '0', now_text, kind, '', damage))
  add_finished(id, kind, shape_of(kind), 'failed')
  call('HDEL', BEHIND, id)
  admit_behind(id)
  notify({ id })
end
