-- Store records that may replace the holders of their keys. Needs columns.lua, clock.lua, watchers.lua, moves.lua, uses.lua,
-- add_records.lua.
--
-- A waiting record becomes the new one, under its old id. A new record waits behind an active one: see admit_behind in moves.lua.

-- Make a waiting record of a queue the one with this number. Returns when it is due.
--
-- It reads each key before it writes. So a key of another type fails the script before anything has changed, and the record is
-- never without an index.
local function replace(id, blob, queue, given, from)
  local _, digest, key, options, ms, rest = unpack(ARGV, from, from + 5)
  local shape = given[digest]
  follow_clock(number_or(call('HGET', SERIAL, 'now'), 0))
  call('SISMEMBER', QUEUES, shape.queue)
  for _, column in ipairs({ OUTCOME, ATTEMPTS, RECOVERIES, USES }) do
    call('HGET', column, id)
  end
  for _, name in ipairs({ queue, shape.queue }) do
    for _, index in ipairs({ DUE[name], SUSPECT[name], HELD[name] }) do
      call('ZSCORE', index, id)
    end
  end
  local is_behind = call('HGET', BEHIND, id)
  local created = number_or(string.match(blob, '^(%d+) ', DIGEST + 1), now)
  local _, _, _, old_lane = parse_head(blob)
  local due, lane
  due, rest, lane = apply_options(options, ms, created, rest)
  for _, one in ipairs({ { queue, old_lane }, { shape.queue, lane } }) do
    if one[2] then
      call('ZSCORE', root .. 'lane:' .. one[1] .. '\n' .. one[2], id)
      call('SISMEMBER', root .. 'waits:' .. one[2], one[1])
      call('SISMEMBER', root .. 'lane_suspects', id)
    end
  end
  call('HSET', RECORD, id, digest .. format_ms(created) .. ' ' .. key .. '\n' .. rest)
  local old_digest = string.sub(blob, 1, DIGEST)
  if old_digest ~= digest then
    shape.uses = 1
    add_uses(digest, shape)
    shape.uses = 0
    subtract_uses(old_digest, 1)
    if given[old_digest] then
      given[old_digest].is_stored = call('HGET', SHAPE, old_digest)
    end
  end
  remove_waiting(id, queue, old_lane)
  call('HDEL', ATTEMPTS, id)
  call('HDEL', RECOVERIES, id)
  local kind = parse_record(call('HGET', RECORD, id))
  call('HSET', OUTCOME, id, format_outcome('-', '0', '0', '0', format_ms(due), kind, '', 'replaced'))
  redis.pcall('HDEL', PROGRESS, id)
  redis.pcall('HDEL', LOG, id)
  if is_behind then
    call('ZADD', HELD[shape.queue], format_ms(due), id)
    if lane then
      lanes().write_limit_of(lane)
    end
  elseif lane then
    lanes().join_new(id, shape, lane, format_ms(due))
  else
    add_waiting(id, shape_of(digest), due)
  end
  notify({ id })
  return due
end

-- Store the record with this number, if it is not stored yet. If another unfinished record holds its key, it replaces that one, or
-- waits behind it.
local function add_replacing(given, at, number, refused)
  local from = at + 6 * (number - 1)
  local id, digest, key = unpack(ARGV, from, from + 2)
  local holder = call('HGET', HOLDER, key)
  local blob = holder and read_holder(holder, key)
  local is_known = find(id, call('HGET', RECORD, id)) or (given[digest].keeps_id and state_of_taken(id))
  local state, _, queue
  if blob and not is_known then
    state, _, _, _, queue = locate(holder, shape_of(blob))
  end
  if state == 'active' then
    call('HGET', BEHIND, id)
    call('ZSCORE', HELD[given[digest].queue], id)
    local shape = given[digest]
    local index = shape.index
    shape.index = HELD[shape.queue]
    add_records(given, at, number, 1, refused, holder)
    shape.index = index
  elseif queue then
    local due = replace(holder, blob, queue, given, from)
    refused[#refused + 1] = { number, 'replaced', holder, due > now and 'scheduled' or 'queued', format_ms(due), false }
  else
    add_records(given, at, number, 1, refused)
  end
end

-- Store all records from ARGV[at] on: see add_records. Each sees those before it.
local function add_or_replace(given, at, refused)
  local from, count = 1, (#ARGV - at + 1) / 6
  for number = 1, count do
    if string.find(ARGV[at + 6 * number - 3], 'r', 1, true) then
      add_records(given, at, from, number - from, refused)
      add_replacing(given, at, number, refused)
      from = number + 1
    end
  end
  add_records(given, at, from, count - from + 1, refused)
end
