-- Store records that are not stored yet, all of them or none. Needs head.lua, general.lua, add_history.lua, and for
-- records in lanes lanes.lua. It defines few functions and tables, because they cost a call that stores one record most: see head.lua.

-- What `general` returns. Few calls need it, so it is made when it is needed.
local functions

-- Count the records of a shape. Store it, and its queue, with the first of them.
local function add_uses(digest, shape)
  -- This fails if the number is damaged. Then it stays as it is: see parse_uses.
  local added = shape.uses * USE
  local sum = redis.pcall('HINCRBY', root .. 'uses', digest, format_ms(added))
  if not shape.is_stored then
    if sum == added then
      call('HINCRBY', root .. 'uses', digest, FIRST_USE)
    end
    call('HSET', root .. 'shape', digest, shape.text)
    shape.is_stored = true
    if call('SADD', root .. 'queues', shape.queue) == 1 then
      call('DEL', root .. 'wake:' .. shape.queue) -- one that would expire: see wake_up.lua
    end
  end
end

-- Read the shapes and the limits of the records to add, from ARGV[first] on: how many shapes, how many limits, for each shape its
-- digest and text, for each limit its name and numbers. Returns the shapes by digest, {digest, text, ...} of the stored shapes that
-- differ from those given, and the position of the first record.
local function read_shapes(first)
  local given, differing, at = {}, {}, first + 2
  for _ = 1, tonumber(ARGV[first]) do
    local digest, text = ARGV[at], ARGV[at + 1]
    local max_recoveries, keep_id, queue, name = string.match(text, '^(%d+) %d+ %d+ (%d+) ([^\n]*)\n([^\n]*)\n')
    local stored = call('HGET', root .. 'shape', digest)
    if stored and stored ~= text then
      differing[#differing + 1], differing[#differing + 2] = digest, stored
    end
    given[digest] = {
      text = text, is_stored = stored, uses = 0, queue = queue, name = name, keeps_id = keep_id ~= '0',
      index = root .. (max_recoveries == '0' and 'suspect:' or 'due:') .. queue, entries = nil, first_due = nil,
    }
    at = at + 2
  end
  for i = at, at + 2 * ARGV[first + 1] - 1, 2 do
    lanes().give_limit(ARGV[i], ARGV[i + 1])
  end
  return given, differing, at + 2 * ARGV[first + 1]
end

-- Add as many records as `number`, from the one at `first_number` on. ARGV[at..] has for each record: id, digest, key, 'd' or 'a' (a
-- delay, or a point in time), ms, the rest of its blob. Behind 'd' or 'a' are its options: the ms from its due time to its expiry,
-- r if it replaces the holder of its key, m and for how many ms it waits at most, * if it has a lane. With `waits_for`, the record is
-- put behind that one: see replace.lua. Adds {number, disposition, id, state, due, attempts} to `refused` for each record that was
-- not accepted.
local function add_records(given, at, first_number, number, refused, waits_for)
  local base = at + 6 * (first_number - 2)
  local ids = { ARGV[base + 6] }
  for k = 2, number do
    ids[k] = ARGV[base + 6 * k]
  end
  local stored = read_fields(RECORD, ids)
  -- `added` are the due times of the records of this call, `held` the ids that hold its keys. The tables that few calls need are
  -- made when they are needed.
  local added, held, blobs, freed, in_lanes, is_delayed = nil, nil, nil, nil, nil, false
  for k = 1, number do
    local from = base + 6 * k
    local id, digest, key, due_kind, ms, rest = unpack(ARGV, from, from + 5)
    local shape = given[digest]
    local holder = key ~= '' and not waits_for and (held and held[key] or call('HGET', root .. 'holder', key))
    local may_be_refused = stored[k] or holder or (added and added[id]) or (shape.keeps_id and call('ZSCORE', root .. 'taken', id))
    functions = functions or (may_be_refused and general())
    local refusal = may_be_refused
      and functions.refuse(first_number + k - 1, id, key, shape, stored[k], holder, added or {}, held or {})
    if refusal then
      refused[#refused + 1] = refusal
    else
      local due, due_text, lane
      if due_kind == 'd' and ms == '0' then
        due, due_text = now, now_text
      elseif due_kind == 'd' then
        due = now + ms
      elseif due_kind == 'a' then
        due = math.max(now, tonumber(ms))
      else
        functions = functions or general()
        due, rest, lane = functions.apply_options(due_kind, ms, now, rest)
      end
      due_text, is_delayed = due_text or format_ms(due), is_delayed or due > now
      if number > 1 then
        added = added or {}
        added[id] = due
      end
      shape.uses = shape.uses + 1
      local blob = digest .. now_text .. ' ' .. key .. '\n' .. rest
      if blobs then
        blobs[#blobs + 1], blobs[#blobs + 2] = id, blob
      else
        blobs = { id, blob }
      end
      if key ~= '' then
        held = held or {}
        held[key] = id
        if holder then
          freed = freed or {}
          freed[#freed + 1] = key
        end
      end
      if lane and not waits_for then
        in_lanes = in_lanes or {}
        in_lanes[#in_lanes + 1] = { id, shape, lane, due_text }
      else
        local entries = shape.entries
        if entries then
          entries[#entries + 1], entries[#entries + 2] = due_text, id
        else
          shape.entries = { due_text, id }
        end
        if not waits_for then
          shape.first_due = math.min(shape.first_due or due, due)
        elseif lane then
          lanes().write_limit_of(lane)
        end
      end
    end
  end
  if not blobs then
    return
  end
  call_with_all('HSET', RECORD, blobs, 2)
  if is_delayed then
    local last_now = number_or(call('HGET', root .. 'serial', 'now'), 0)
    if last_now > now then
      functions = functions or general()
      functions.follow_clock(last_now)
    end
  end
  for digest, shape in pairs(given) do
    if shape.uses > 0 then
      add_uses(digest, shape)
    end
  end
  if held then
    local holders = {}
    for key, id in pairs(held) do
      holders[#holders + 1], holders[#holders + 2] = key, id
    end
    call_with_all('HSET', root .. 'holder', holders, 2)
  end
  if freed then
    call_with_all('ZREM', root .. 'unique', freed, 1)
  end
  if waits_for then
    call('HSET', root .. 'behind', ids[1], waits_for)
  end
  for _, shape in pairs(given) do
    local due, queue = shape.first_due, shape.queue
    if due then
      -- Wake a waiter for what is due, and for an earlier due time than the one that it knows, unless the queue is paused. A
      -- waiter is woken when the script has ended, and only by a new wake-up. So only after that is it read if it is paused.
      local wake = root .. 'wake:' .. queue
      local head = due > now and tonumber(call('ZRANGE', root .. 'due:' .. queue, 0, 0, 'WITHSCORES')[2])
      local is_new = (not head or due < head) and redis.pcall('ZADD', wake, '0', '0')
      if type(is_new) == 'table' then
        -- It has another type. If the script failed here, the records would be counted again when it is called again.
        call('DEL', wake)
        is_new = call('ZADD', wake, '0', '0')
      end
      if is_new == 1 then
        -- Insert: shared/paused
        if paused_since(queue) then
          call('DEL', wake)
        end
      end
    end
  end
  for _, shape in pairs(given) do
    if shape.entries then
      call_with_all('ZADD', shape.index, shape.entries, 2)
    end
  end
  if in_lanes then
    for _, record in ipairs(in_lanes) do
      lanes().join_new(unpack(record))
    end
    refresh_lanes()
  end
  for _, shape in pairs(given) do
    if shape.uses > 0 then
      add_history('e', shape.queue, shape.name, shape.uses)
      shape.uses, shape.entries, shape.first_due = 0, nil, nil
    end
  end
end
