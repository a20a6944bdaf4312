-- Reserve: give due records to a worker, under a lease and a token. Needs columns.lua, moves.lua.

-- The batch of this step. `histories` are {position, attempts, recoveries} of the records that had an outcome before.
local batch = { ids = {}, blobs = {}, histories = {}, has_suspect = false }

-- The records that had expired, {id, name, queue}; nil without any. A step cancels at most this many: see EXPIRE_PER_STEP in
-- limits.py.
local expired, MOST_EXPIRED = nil, 100

-- For each queue that was reserved from: when the first record that stays is due, false if none stays.
local first_due = {}

-- True if a queue has suspects. It is read once, after the stages that add suspects.
local suspects = {}
local function has_suspects(queue)
  if suspects[queue] == nil then
    suspects[queue] = call('EXISTS', SUSPECT[queue]) == 1
  end
  return suspects[queue]
end

-- Find the first due suspect of a queue. Returns its id and due time in lists, or nil if another record comes before it.
local function find_suspect(queue)
  local suspect = call('ZRANGEBYSCORE', SUSPECT[queue], '-inf', now, 'WITHSCORES', 'LIMIT', 0, 1)
  local first = call('ZRANGE', DUE[queue], 0, 0, 'WITHSCORES')
  local due, first_time = tonumber(suspect[2]), tonumber(first[2])
  if due and (not first_time or due < first_time or (due == first_time and suspect[1] < first[1])) then
    return { suspect[1] }, { suspect[2] }
  end
end

-- Find the first due records of a queue that are no suspects. Returns their ids and due times, and the first entries of the
-- index: one more than `most`, due or not.
local function find_due(queue, most)
  local entries = call('ZRANGE', DUE[queue], 0, most, 'WITHSCORES')
  local ids, dues = {}, {}
  for i = 1, math.min(#entries, 2 * most), 2 do
    if tonumber(entries[i + 1]) > now then
      break
    end
    ids[#ids + 1], dues[#dues + 1] = entries[i], entries[i + 1]
  end
  return ids, dues, entries
end

-- Add the attempts and recoveries of the records from `position` in the batch on. A record without an outcome has none.
local function add_histories(ids, position)
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

-- Reserve from one queue. Returns the number of input bytes of the batch, true if the batch is full, as it is with a suspect, and
-- true if records had expired, so that there may be more to reserve.
local function reserve_from(queue, most, options, bytes)
  local index, ids, dues, entries = SUSPECT[queue], nil, nil, nil
  if options.with_suspect and #batch.ids == 0 and has_suspects(queue) then
    ids, dues = find_suspect(queue)
  end
  if not ids then
    index = DUE[queue]
    ids, dues, entries = find_due(queue, most)
  end
  local blobs, first_position = read_fields(RECORD, ids), #batch.ids + 1
  local all_ids, all_blobs = batch.ids, batch.blobs
  local token, lease_end, worker = options.token, options.lease_end, options.worker
  local leases, tokens, reserved, removed, is_full, had_expired, is_stale = {}, {}, {}, 0, false, false, false
  for i, id in ipairs(ids) do
    local blob, kind, shape, size, expires = blobs[i], nil, nil, nil, nil
    if blob then
      kind, shape, size, expires = parse_record(blob)
    end
    if not kind or shape.queue ~= queue then
      -- There is nothing to run: the record is missing, or it cannot be read.
      call('ZREM', index, id)
      removed = removed + 1
      if blob then
        set_aside(id, queue, kind and 'its queue is another one' or shape)
      else
        admit_behind(id)
      end
      -- A record that was behind it may wait now, in any queue: read again when the first records are due.
      first_due, is_stale = {}, true
    elseif expires and expires <= now and not call('HGET', OUTCOME, id) then
      expired = expired or {}
      if #expired == MOST_EXPIRED then
        is_full = true
        break
      end
      local due = format_ms(number_or(dues[i], now))
      add_finished(id, kind, shape, 'cancelled')
      -- After that, because a record with an outcome does not expire: the step may fail here, and be sent again.
      call('HSET', OUTCOME, id, format_outcome('cancelled', '0', '0', '0', due, kind, '', 'expired'))
      call('ZREM', index, id)
      notify({ id })
      add_history('X', queue, shape.name, 1)
      expired[#expired + 1] = { id, shape.name, queue }
      removed, had_expired = removed + 1, true
    elseif had_expired and #all_ids == 0 then
      -- A suspect may be the next due record: read the indexes again.
      break
    else
      bytes = bytes + size
      if #all_ids > 0 and bytes > options.most_bytes then
        is_full = true
        break
      end
      local due, n = string.find(dues[i], '^%d+$') and dues[i] or now_text, #reserved
      leases[2 * n + 1], leases[2 * n + 2] = lease_end, id
      tokens[2 * n + 1], tokens[2 * n + 2] = id, format_token(token, due, kind, worker)
      reserved[n + 1], all_ids[#all_ids + 1], all_blobs[#all_blobs + 1] = id, id, blob
    end
  end
  if #reserved > 0 then
    -- Before the token is used: it must not be used again, even if the script fails after this.
    call('HSET', SERIAL, 'now', now_text, 'token', token)
  end
  if entries and not is_stale then
    first_due[queue] = tonumber(entries[2 * (removed + #reserved) + 2]) or false
  elseif not entries then
    batch.has_suspect = #reserved > 0
    is_full = is_full or batch.has_suspect
  end
  call_with_all('HSET', TOKEN, tokens, 2)
  call_with_all('ZADD', LEASE, leases, 2)
  call_with_all('ZREM', index, reserved, 1)
  count('active', queue, #reserved)
  notify(reserved)
  add_histories(reserved, first_position)
  return bytes, is_full, had_expired
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

-- Return the batch of a step that was sent before: the records that the worker still holds. Extend their leases.
local function reserve_again(token, ids_text, lease_end, stepping)
  local ids = {}
  for id in string.gmatch(ids_text, '%S+') do
    ids[#ids + 1] = id
  end
  local tokens, blobs, recoveries = read_fields(TOKEN, ids), read_fields(RECORD, ids), read_fields(RECOVERIES, ids)
  for i, id in ipairs(ids) do
    local kind, shape = nil, nil
    if blobs[i] then
      kind, shape = parse_record(blobs[i])
    end
    if kind and is_held(tokens[i], token, stepping) then
      call('ZADD', LEASE, lease_end, id)
      batch.ids[#batch.ids + 1] = id
      batch.blobs[#batch.blobs + 1] = blobs[i]
      batch.has_suspect = batch.has_suspect or number_or(string.match(recoveries[i] or '', '^%d+'), 0) >= shape.max_recoveries
    end
  end
  add_histories(batch.ids, 1)
end
