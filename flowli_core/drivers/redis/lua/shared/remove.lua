-- Remove finished records. Needs columns.lua, moves.lua, uses.lua.

-- taken: a sorted set of the ids that stay taken after their record was removed. The score is four times the ms until then,
-- and on top of that the state in which the record finished.
local STATE_NUMBERS = { completed = 1, failed = 2, cancelled = 3 }

-- Add an id to the members for `taken`, if it stays taken.
local function take_id(taken, id, state, finished, shape)
  if shape.keep_id == 0 then
    return
  end
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

-- `in_state` is the state whose index held the ids; nil if they come from the ends of retention.
local function remove(ids, in_state)
  if #ids == 0 then
    return
  end
  local outcomes, by_state, by_digest, gone, taken = read_fields(OUTCOME, ids), {}, {}, {}, {}
  for i, id in ipairs(ids) do
    local state, _, _, _, _, _, kind, finished = parse_outcome(outcomes[i])
    if not FINISHED[state] or state ~= (in_state or state) then
      -- The outcome is damaged, or the record has not finished and should have no end of retention.
      state, kind = in_state or locate(id), nil
    end
    if FINISHED[state] then
      by_state[state] = by_state[state] or {}
      table.insert(by_state[state], id)
      local shape = shape_of(kind or call('HGET', RECORD, id) or '')
      if shape then
        count(state, shape.queue, -1)
        take_id(taken, id, state, finished or now_text, shape)
      end
    end
    if not state or FINISHED[state] then
      gone[#gone + 1] = id
      local is_set_aside = kind and string.byte(kind) == 33
      if is_set_aside then
        may_be_empty[shape_of(kind).queue] = true
      end
      local digest = string.sub(not is_set_aside and kind or call('HGET', RECORD, id) or '', 1, DIGEST)
      by_digest[digest] = by_digest[digest] or {}
      table.insert(by_digest[digest], id)
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
  for _, column in ipairs({ OUTCOME, ATTEMPTS, RECOVERIES }) do
    call_with_all('HDEL', column, gone, 1)
  end
  if call('EXISTS', PROGRESS, LOG) > 0 then
    pcall(call_with_all, 'HDEL', PROGRESS, gone, 1)
    pcall(call_with_all, 'HDEL', LOG, gone, 1)
  end
  notify(gone, true)
end
