-- Store records that are not stored yet, all of them or none. Needs columns.lua, clock.lua, paused.lua, add_history.lua, and for
-- records in lanes lanes.lua.

-- Find a record that is stored already, or was added by this call and is due at `due`. Returns its state and when it is due.
-- The state is nil if it is not stored, or in no index: then it is stored anew.
local function find(id, blob, due)
  if due then
    return due > now and 'scheduled' or 'queued', due
  elseif blob then
    return locate(id, shape_of(blob))
  end
end

-- Returns the record that holds a key. Returns false if it was removed while it kept the key, and if another record has its id now.
local function read_holder(holder, key)
  local blob = call('HGET', RECORD, holder)
  local its_key = blob and string.match(blob, '^%d+ ([^\n]*)\n', DIGEST + 1)
  return (not its_key or its_key == key) and blob
end

-- The state in which the removed record of an id finished, if the id is still taken: see take_id in remove.lua.
local function state_of_taken(id)
  local score = tonumber(call('ZSCORE', TAKEN, id) or 0)
  return math.floor(score / 4) > now and ({ 'completed', 'failed', 'cancelled' })[score % 4]
end

-- Count the records of a shape. Store it, and its queue, with the first of them.
local function add_uses(digest, shape)
  -- This fails if the number is damaged. Then it stays as it is: see parse_uses.
  local sum = redis.pcall('HINCRBY', USES, digest, shape.uses * USE)
  if not shape.is_stored then
    if sum == shape.uses * USE then
      call('HINCRBY', USES, digest, FIRST_USE)
    end
    call('HSET', SHAPE, digest, shape.text)
    shape.is_stored = true
    if call('SADD', QUEUES, shape.queue) == 1 then
      call('DEL', WAKE[shape.queue]) -- one that would expire: see wake_up.lua
    end
  end
end

-- Returns when a record is due, the rest of its blob, and its lane if it has one, by its options: see add_records. `created` is when
-- it was created.
local function apply_options(options, ms, created, rest)
  local due = string.byte(options) == 100 and now + ms or math.max(now, tonumber(ms)) -- a d
  local expires_in, most_wait, has_lane = string.match(options, '^.(%d*)r?m?(%d*)(%*?)$')
  local lane
  if has_lane ~= '' then
    local length, from = string.match(rest, '^%S+ %S+ (%d+)[^\n]*\n()')
    lane = string.sub(rest, from, from + length - 1)
  end
  if most_wait ~= '' then
    due = math.max(math.min(due, created + most_wait), now)
  end
  if expires_in ~= '' then
    rest = string.gsub(rest, '^([^ \n]+) ?-?', '%1 ' .. format_ms(due + expires_in), 1)
  end
  return due, rest, lane
end

-- Read the shapes and the limits of the records to add, from ARGV[first] on: how many shapes, how many limits, for each shape its
-- digest and text, for each limit its name and numbers. Returns the shapes by digest, {digest, text, ...} of the stored shapes that
-- differ from those given, and the position of the first record.
local function read_shapes(first)
  local given, differing, at = {}, {}, first + 2
  for _ = 1, tonumber(ARGV[first]) do
    local digest, text = ARGV[at], ARGV[at + 1]
    local max_recoveries, _, _, keep_id, queue, name = parse_shape(text)
    local stored = call('HGET', SHAPE, digest)
    if stored and stored ~= text then
      append(differing, digest, stored)
    end
    given[digest] = {
      text = text, is_stored = stored, uses = 0, queue = queue, name = name, keeps_id = keep_id ~= '0',
      index = (max_recoveries == '0' and SUSPECT or DUE)[queue],
    }
    at = at + 2
  end
  for _ = 1, tonumber(ARGV[first + 1]) do
    lanes().give_limit(ARGV[at], ARGV[at + 1])
    at = at + 2
  end
  return given, differing, at
end

-- Add as many records as `number`, from the one at `first_number` on. ARGV[at..] has for each record: id, digest, key, 'd' or 'a' (a
-- delay, or a point in time), ms, the rest of its blob. Behind 'd' or 'a' are its options: the ms from its due time to its expiry,
-- r if it replaces the holder of its key, m and for how many ms it waits at most, * if it has a lane. With `waits_for`, the record is
-- put behind that one: see replace.lua. Adds {number, disposition, id, state, due, attempts} to `refused` for each record that was
-- not accepted.
local function add_records(given, at, first_number, number, refused, waits_for)
  local ids, base = {}, at + 6 * (first_number - 2)
  for k = 1, number do
    ids[k] = ARGV[base + 6 * k]
  end
  local stored = read_fields(RECORD, ids)
  -- `added` are the due times of the records of this call, `held` the ids that hold its keys.
  local added, held, blobs, holders, freed, entries, first_due, is_delayed = {}, {}, {}, {}, {}, {}, {}, false
  local in_lanes = {}
  for k = 1, number do
    local from = base + 6 * k
    local id, digest, key, due_kind, ms, rest = unpack(ARGV, from, from + 5)
    local shape = given[digest]
    local taken_state = shape.keeps_id and state_of_taken(id)
    local holder = key ~= '' and not waits_for and (held[key] or call('HGET', HOLDER, key))
    local state, due_ms = find(id, stored[k], added[id])
    local holder_state, holder_due, key_is_held
    if holder and not state then
      holder_state, holder_due = find(holder, not held[key] and read_holder(holder, key), held[key] and added[holder])
      key_is_held = holder_state and not FINISHED[holder_state] or tonumber(call('ZSCORE', root .. 'unique', key) or 0) > now
    end
    if state then
      local attempts = call('HGET', ATTEMPTS, id)
      attempts = attempts and string.sub(attempts, 1, LONGEST)
      refused[#refused + 1] = { first_number + k - 1, 'duplicate', id, state, format_ms(due_ms), attempts }
    elseif taken_state then
      refused[#refused + 1] = { first_number + k - 1, 'duplicate', id, taken_state, now_text, false }
    elseif key_is_held then
      local attempts = holder_state and call('HGET', ATTEMPTS, holder) or false
      attempts = attempts and string.sub(attempts, 1, LONGEST)
      holder_state = holder_state or 'completed'
      refused[#refused + 1] = { first_number + k - 1, 'existing', holder, holder_state, format_ms(holder_due or now), attempts }
    else
      local due, lane
      if due_kind == 'd' then
        due = now + ms
      else
        due, rest, lane = apply_options(due_kind, ms, now, rest)
      end
      added[id], is_delayed = due, is_delayed or due > now
      shape.uses = shape.uses + 1
      append(blobs, id, digest .. now_text .. ' ' .. key .. '\n' .. rest)
      if key ~= '' then
        held[key] = id
        append(holders, key, id)
        if holder then
          freed[#freed + 1] = key
        end
      end
      if lane and not waits_for then
        in_lanes[#in_lanes + 1] = { id, shape, lane, format_ms(due) }
      else
        entries[shape.index] = entries[shape.index] or {}
        append(entries[shape.index], due == now and now_text or format_ms(due), id)
        if not waits_for then
          first_due[shape.queue] = math.min(first_due[shape.queue] or due, due)
        elseif lane then
          lanes().write_limit_of(lane)
        end
      end
    end
  end
  if #blobs == 0 then
    return
  end
  call_with_all('HSET', RECORD, blobs, 2)
  if is_delayed then
    follow_clock(number_or(call('HGET', SERIAL, 'now'), 0))
  end
  for digest, shape in pairs(given) do
    if shape.uses > 0 then
      add_uses(digest, shape)
    end
  end
  call_with_all('HSET', HOLDER, holders, 2)
  if #freed > 0 then
    call_with_all('ZREM', root .. 'unique', freed, 1)
  end
  if waits_for then
    call('HSET', root .. 'behind', ids[1], waits_for)
  end
  for queue, due in pairs(first_due) do
    -- Wake a waiter for what is due, and for an earlier due time than the one that it knows, unless the queue is paused. A
    -- waiter is woken when the script has ended, and only by a new wake-up. So only after that is it read if it is paused.
    local head = due > now and tonumber(call('ZRANGE', DUE[queue], 0, 0, 'WITHSCORES')[2])
    local added = (not head or due < head) and redis.pcall('ZADD', WAKE[queue], 0, '0')
    if type(added) == 'table' then
      -- It has another type. If the script failed here, the records would be counted again when it is called again.
      call('DEL', WAKE[queue])
      added = call('ZADD', WAKE[queue], 0, '0')
    end
    if added == 1 and paused_since(queue) then
      call('DEL', WAKE[queue])
    end
  end
  for index, members in pairs(entries) do
    call_with_all('ZADD', index, members, 2)
  end
  for _, record in ipairs(in_lanes) do
    lanes().join_new(unpack(record))
  end
  if #in_lanes > 0 then
    refresh_lanes()
  end
  for _, shape in pairs(given) do
    if shape.uses > 0 then
      add_history('e', shape.queue, shape.name, shape.uses)
      shape.uses = 0
    end
  end
end
