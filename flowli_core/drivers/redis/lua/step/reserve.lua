-- Reserve: give due records to a worker, under a lease and a token. Needs columns.lua, lanes.lua, moves.lua.

-- The batch of this step. `histories` are {position, attempts, recoveries} of the records that had an outcome before.
local batch = { ids = {}, blobs = {}, histories = {}, has_suspect = false }

-- The records that had expired, {id, name, queue}; nil without any. A step cancels at most this many: see EXPIRE_PER_STEP in
-- limits.py.
local expired, MOST_EXPIRED = nil, 100

-- For each queue that was reserved from: when the first record that stays is due, false if none stays.
local first_due = {}

-- True if a queue has suspects, or lanes that have a turn. It is read once, after the stages that add them.
local others = {}
local function has_others(queue)
  if others[queue] == nil then
    others[queue] = call('EXISTS', SUSPECT[queue], root .. 'turn:' .. queue, root .. 'turn_suspect:' .. queue) > 0
  end
  return others[queue]
end

-- Find the first due suspect of a queue. Returns its id and due time in lists, and its lane; or nil, and true if there is one but
-- another record comes before it. If its lane may not run now, the lists are empty.
local function find_suspect(queue)
  -- The first of two entries, {member, time}: nil if there is none.
  local function first_of(one, other)
    local time, other_time = tonumber(one[2]), tonumber(other[2])
    if time and (not other_time or time < other_time or (time == other_time and one[1] <= other[1])) then
      return one
    end
    return other_time and other
  end
  -- The first entry of an index and of one of turns, in the order of a queue: at the same time, lanes come before records.
  local function first_entry(index, turns, last)
    local entry = call('ZRANGEBYSCORE', index, '-inf', last, 'WITHSCORES', 'LIMIT', 0, 1)
    local turn = call('ZRANGEBYSCORE', turns, '-inf', last, 'WITHSCORES', 'LIMIT', 0, 1)
    if turn[1] then
      turn[1] = '\n' .. turn[1]
    end
    return first_of(turn, entry)
  end
  local suspect = first_entry(SUSPECT[queue], root .. 'turn_suspect:' .. queue, now)
  local other = suspect and first_entry(DUE[queue], root .. 'turn:' .. queue, '+inf')
  if not suspect or (other and first_of(other, suspect) == other) then
    return nil, suspect and true
  end
  local lane = string.match(suspect[1], '^\n(.*)$')
  if lane then
    local id, due = lanes().first_record(queue, lane)
    return { id }, { due }, { lane }
  end
  return { suspect[1] }, { suspect[2] }
end

-- A step that has met this many lanes that may not run yet, as after the clock was set back, reserves no more.
local MOST_IDLE, idle_turns = 1000, 0

-- Find the first due records of a queue that are no suspects, and the first record of each lane that has its turn. Returns their ids
-- and due times, and the first entries of the index: one more than `most`, due or not. If lanes had turns, it returns the lane of
-- each record that has one.
local function find_due(queue, most)
  local entries = call('ZRANGE', DUE[queue], 0, most, 'WITHSCORES')
  local ids, dues, due = {}, {}, nil
  for i = 1, math.min(#entries, 2 * most), 2 do
    if entries[i + 1] ~= due then
      due = entries[i + 1]
      if tonumber(due) > now then
        break
      end
    end
    local k = (i + 1) / 2
    ids[k], dues[k] = entries[i], due
  end
  if not has_others(queue) then
    return ids, dues, entries
  end
  local turns = call('ZRANGEBYSCORE', root .. 'turn:' .. queue, '-inf', now, 'WITHSCORES', 'LIMIT', 0, most)
  if #turns == 0 then
    return ids, dues, entries
  end
  local round, round_dues, lane_of, k = {}, {}, {}, 1
  for i = 1, #turns + 2, 2 do
    local lane, time = turns[i], tonumber(turns[i + 1] or math.huge)
    while ids[k] and #round < most and tonumber(dues[k]) < time do
      round[#round + 1], round_dues[#round + 1], k = ids[k], dues[k], k + 1
    end
    if lane and #round < most then
      local id, due = lanes().first_record(queue, lane)
      if id then
        round[#round + 1], round_dues[#round + 1] = id, due
        lane_of[#round] = lane
      else
        idle_turns = idle_turns + 1
      end
    end
  end
  return round, round_dues, entries, lane_of
end

-- Add the attempts and recoveries of the records from `position` in the batch on. A record without an outcome has none.
local function add_histories(ids, position)
  if call('EXISTS', ATTEMPTS, RECOVERIES) == 0 then
    return
  end
  local outcomes, with_history, positions = read_fields(OUTCOME, ids), {}, {}
  for i = 1, #ids do
    if outcomes[i] then
      with_history[#with_history + 1], positions[#positions + 1] = ids[i], position + i - 1
    end
  end
  local attempts, recoveries = read_fields(ATTEMPTS, with_history), read_fields(RECOVERIES, with_history)
  for i = 1, #positions do
    local number = number_or(string.match(recoveries[i] or '', '^%d+'), 0)
    table.insert(batch.histories, { positions[i], attempts[i] and string.sub(attempts[i], 1, LONGEST), number })
  end
end

-- Redis keeps a small sorted set as a list, in which each change looks at all members. A member that is longer than 64 bytes makes
-- it a tree for good, also once it is removed. So a drain by one worker, which holds few leases, costs a fifth less.
local MANY_LEASES, LONG_MEMBER = 20, string.rep('-', 65)

-- Reserve from one queue. Returns the number of input bytes of the batch, true if the batch is full, as it is with a suspect, and
-- true if records had expired or lanes had turns, so that there may be more to reserve.
local function reserve_from(queue, most, options, bytes)
  local index, ids, dues, entries, lane_of = SUSPECT[queue], nil, nil, nil, nil
  if options.with_suspect and #batch.ids == 0 and has_others(queue) then
    ids, dues, lane_of = find_suspect(queue)
  end
  local suspect_waits = not ids and dues
  if not ids then
    index = DUE[queue]
    ids, dues, entries, lane_of = find_due(queue, most)
  end
  local blobs, first_position = read_fields(RECORD, ids), #batch.ids + 1
  local all_ids, all_blobs = batch.ids, batch.blobs
  local token, lease_end, worker = options.token, options.lease_end, options.worker
  local leases, tokens, reserved, in_lanes, removed = {}, {}, {}, {}, 0
  local is_full, had_expired, is_stale = false, false, false
  -- Many records of a batch have the same head and due time. So the head that was last read is kept, with its kind, its shape and
  -- the size of what is in front of the input, if it has nothing else; and the token that was last written.
  local head, head_kind, head_shape, head_size = '', nil, nil, nil
  local token_text, token_kind, token_due = nil, nil, nil
  for i, id in ipairs(ids) do
    local blob, kind, shape, size, expires, lane = blobs[i], nil, nil, nil, nil, nil
    local lane_of_turn = lane_of and lane_of[i]
    if blob and head_kind and string.sub(blob, 1, #head) == head and #blob >= head_size and #blob <= LARGEST then
      kind, shape, size = head_kind, head_shape, #blob - head_size
    elseif blob then
      kind, shape, size, expires, lane = parse_record(blob)
      if kind and not expires and not lane and ids[i + 1] then
        head = string.sub(blob, 1, string.find(blob, '\n', string.find(blob, '\n', DIGEST + 1, true) + 1, true))
        head_kind, head_shape, head_size = kind, shape, #blob - size
      end
    end
    if not kind or shape.queue ~= queue or lane ~= lane_of_turn then
      -- There is nothing to run: the record is missing, or it cannot be read.
      if lane_of_turn then
        lanes().leave(id, queue, lane_of_turn, true)
      else
        call('ZREM', index, id)
      end
      removed = removed + 1
      if blob then
        set_aside(id, queue, kind and 'its queue or its lane is another one' or shape)
      else
        admit_behind(id)
      end
      -- A record that was behind it may wait now, in any queue: read again when the first records are due.
      first_due, others, is_stale = {}, {}, true
    elseif expires and expires <= now and string.find(call('HGET', OUTCOME, id) or '\nreplaced', '\nreplaced$') then
      expired = expired or {}
      if #expired == MOST_EXPIRED then
        is_full = true
        break
      end
      local due = format_ms(number_or(dues[i], now))
      add_finished(id, kind, shape, 'cancelled')
      -- After that, because a record with an outcome does not expire: the step may fail here, and be sent again.
      call('HSET', OUTCOME, id, format_outcome('cancelled', '0', '0', '0', due, kind, '', 'expired'))
      if lane then
        lanes().leave(id, queue, lane, true)
      else
        call('ZREM', index, id)
      end
      notify({ id })
      add_history('X', queue, shape.name, 1)
      expired[#expired + 1] = { id, shape.name, queue }
      removed, had_expired = removed + 1, true
    elseif had_expired and #all_ids == 0 and suspect_waits then
      -- A suspect may be the next due record: read the indexes again.
      break
    else
      bytes = bytes + size
      if #all_ids > 0 and bytes > options.most_bytes then
        is_full = true
        break
      end
      local due, n, m = dues[i], #reserved, #all_ids + 1
      if lane or kind ~= token_kind or due ~= token_due then
        token_kind, token_due = not lane and kind, due
        due = string.find(due, '^%d+$') and due or now_text
        token_text = format_token(token, due, kind, worker, lane)
      end
      leases[2 * n + 1], leases[2 * n + 2] = lease_end, id
      tokens[2 * n + 1], tokens[2 * n + 2] = id, token_text
      reserved[n + 1], all_ids[m], all_blobs[m] = id, id, blob
      if lane then
        lanes().take_place(id, lane)
        in_lanes[#in_lanes + 1] = { id, queue, lane, true }
      end
    end
  end
  if #reserved > 0 then
    -- Before the token is used: it must not be used again, even if the script fails after this.
    call('HSET', SERIAL, 'now', now_text, 'token', token)
  end
  if lane_of then
    -- In other queues the lanes may have other turns now.
    first_due[queue], others = nil, {}
    is_full = is_full or idle_turns > MOST_IDLE
  end
  if entries and not lane_of and not is_stale then
    first_due[queue] = tonumber(entries[2 * (removed + #reserved) + 2]) or false
  elseif not entries then
    batch.has_suspect = #reserved > 0
    is_full = is_full or batch.has_suspect
  end
  call_with_all('HSET', TOKEN, tokens, 2)
  if #reserved >= MANY_LEASES then
    call('ZADD', LEASE, lease_end, LONG_MEMBER)
  end
  call_with_all('ZADD', LEASE, leases, 2)
  if #reserved >= MANY_LEASES then
    call('ZREM', LEASE, LONG_MEMBER)
  end
  call_with_all('ZREM', index, reserved, 1)
  for _, record in ipairs(in_lanes) do
    lanes().leave(unpack(record))
  end
  refresh_lanes()
  count('active', queue, #reserved)
  notify(reserved)
  add_histories(reserved, first_position)
  return bytes, is_full, had_expired or lane_of ~= nil
end

-- Reserve up to `want` records. `options` has worker, token, lease_end, with_suspect, most_bytes.
local function reserve(queues, want, options)
  local bytes, is_full = 0, false
  for _, queue in ipairs(queues) do
    local may_have_more = true
    while may_have_more and want > #batch.ids and not is_full do
      bytes, is_full, may_have_more = reserve_from(queue, want - #batch.ids, options, bytes)
    end
  end
end
