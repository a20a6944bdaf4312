-- Find out which new records are not accepted, and read the options of records. Needs columns.lua.

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

-- Returns {number, disposition, id, state, due, attempts} if a record is not accepted. `holder` is the record that holds its key.
-- `added` are the due times of the records of this call, `held` the ids that hold its keys.
local function refuse(number, id, key, shape, blob, holder, added, held)
  local disposition, state, due = 'duplicate', find(id, blob, added[id])
  local taken_state = not state and shape.keeps_id and state_of_taken(id)
  if taken_state then
    return { number, disposition, id, taken_state, now_text, false }
  elseif not state then
    if not holder then
      return nil
    end
    state, due = find(holder, not held[key] and read_holder(holder, key), held[key] and added[holder])
    local is_held = state and not FINISHED[state]
    if not is_held and tonumber(call('ZSCORE', root .. 'unique', key) or 0) <= now then
      return nil
    end
    disposition, id = 'existing', holder
  end
  local attempts = state and call('HGET', ATTEMPTS, id) or false
  attempts = attempts and string.sub(attempts, 1, LONGEST)
  return { number, disposition, id, state or 'completed', format_ms(due or now), attempts }
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
