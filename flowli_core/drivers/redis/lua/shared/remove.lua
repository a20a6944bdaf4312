-- Remove finished records. Needs columns.lua, moves.lua, uses.lua.

-- taken: a sorted set of the ids that stay taken after their record was removed. The score is four times the ms until then,
-- and on top of that the state in which the record finished.
local STATE_NUMBERS = { completed = 1, failed = 2, cancelled = 3 }

-- Add an id to the members for `taken`, if it stays taken.
local function take_id(taken, id, state, finished, shape)
  local free_at = tonumber(finished) + shape.keep_id
  if free_at > now then
    append(taken, format_ms(4 * free_at + STATE_NUMBERS[state]), id)
  end
end

-- Remove records that were stored with a shape.
local function remove_of_shape(digest, ids)
  local removed = 0
  for from = 1, #ids, 6000 do
    removed = removed + call('HDEL', RECORD, unpack(ids, from, math.min(from + 5999, #ids)))
  end
  subtract_uses(digest, removed)
end

-- Read the start of an outcome, up to its first newline, that many records may have. Returns {state, finished, shape, digest}; the
-- state is nil if it cannot be read, or is not that of a finished record in `in_state`, if that is given.
local function read_start(start, in_state)
  local state, _, _, _, _, _, kind, finished = parse_outcome(start)
  if not FINISHED[state] or state ~= (in_state or state) then
    return {}
  end
  local is_set_aside = string.byte(kind) == 33
  local shape = shape_of(kind)
  if is_set_aside and shape then
    may_be_empty[shape.queue] = true
  end
  return { state = state, finished = finished, shape = shape, digest = not is_set_aside and string.sub(kind, 1, DIGEST) }
end

-- `in_state` is the state whose index held the ids; nil if they come from the ends of retention.
local function remove(ids, in_state)
  if #ids == 0 then
    return
  end
  local outcomes, by_state, by_digest, gone, taken, starts = read_fields(OUTCOME, ids), {}, {}, {}, {}, {}
  for i = 1, #ids do
    local id, outcome = ids[i], outcomes[i] or ''
    local start = string.sub(outcome, 1, string.find(outcome, '\n', 1, true) or 0)
    local read = starts[start]
    if not read then
      read = read_start(start, in_state)
      starts[start] = read
    end
    local state, shape, digest = read.state, read.shape, read.digest
    if not state then
      -- The outcome is damaged, or the record has not finished and should have no end of retention.
      state = in_state or locate(id)
      shape = FINISHED[state] and shape_of(call('HGET', RECORD, id) or '')
    end
    if FINISHED[state] then
      local members = by_state[state] or {}
      by_state[state], members[#members + 1] = members, id
      if shape then
        count(state, shape.queue, -1)
        if shape.keep_id > 0 then
          take_id(taken, id, state, read.finished or now_text, shape)
        end
      end
    end
    if not state or FINISHED[state] then
      gone[#gone + 1] = id
      digest = digest or string.sub(call('HGET', RECORD, id) or '', 1, DIGEST)
      local members = by_digest[digest] or {}
      by_digest[digest], members[#members + 1] = members, id
    end
  end
  for state, index in pairs(FINISHED) do
    call_with_all('ZREM', index, by_state[state] or {}, 1)
  end
  call_with_all('ZREM', EXPIRY, ids, 1)
  call_with_all('ZADD', TAKEN, taken, 2)
  for digest, ids_of_shape in pairs(by_digest) do
    remove_of_shape(digest, ids_of_shape)
  end
  call_with_all('HDEL', OUTCOME, gone, 1)
  for _, column in ipairs({ ATTEMPTS, RECOVERIES }) do
    if call('EXISTS', column) == 1 then
      call_with_all('HDEL', column, gone, 1)
    end
  end
  if call('EXISTS', PROGRESS, LOG) > 0 then
    pcall(call_with_all, 'HDEL', PROGRESS, gone, 1)
    pcall(call_with_all, 'HDEL', LOG, gone, 1)
  end
  notify(gone, true)
end
