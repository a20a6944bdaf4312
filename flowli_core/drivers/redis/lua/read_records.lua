-- Read one record, or a page of the records in a state, newest first.
-- Needs: shared/columns shared/clock shared/moves shared/text
-- ARGV[first..]: an id; or state, the ms and the id of the position after which the page begins (-1: at the start), limit,
-- 1 to answer the payloads or 0 to leave them out.
-- Answers {id, blob, state, due, attempts, recoveries, token, outcome, finished, end of the lease, 1 if its cancellation was
-- requested} for each. Without payloads the outcome ends before its newline. For a record that cannot be read: {id, state, due,
-- finished, queue, damage}.
-- Writes nothing.
read_as_of_last_step()

-- Read a time from a score. One out of range is damaged.
local function time_of(score)
  return math.floor(math.min(math.max(tonumber(score), 0), 253402300799999))
end

-- Read a record, as _packing.unpack_stored takes it, and its state. Returns nil if it is not stored, or in no index.
local function read_record(id, payloads)
  local is_too_long = call('HSTRLEN', RECORD, id) > 67108864
  local blob = is_too_long and '' or call('HGET', RECORD, id)
  if not blob then
    return nil
  end
  local kind, shape = parse_record(blob)
  local state, due, token, outcome, queue = locate(id, kind and shape)
  if not state then
    return nil
  end
  local finished = FINISHED[state] and format_ms(time_of(call('ZSCORE', FINISHED[state], id) or 0)) or false
  local lease = state == 'active' and call('ZSCORE', LEASE, id)
  lease = lease and format_ms(time_of(lease))
  local last_state, _, _, _, _, _, last_kind = parse_outcome(outcome)
  local is_set_aside = last_state == 'failed' and string.byte(last_kind) == 33
  if not kind or is_set_aside then
    queue = is_set_aside and shape_of(last_kind).queue or queue or ''
    return { id, state, format_ms(due), finished, queue, kind and string.match(outcome, '\n(.*)') or shape }, state
  end
  if payloads == '0' then
    blob = string.match(blob, '^[^\n]*\n') .. '-\n'
    outcome = outcome and string.match(outcome, '^[^\n]*')
  end
  local attempts, recoveries = call('HGET', ATTEMPTS, id), call('HGET', RECOVERIES, id) or '0'
  local is_cancelling = state == 'active' and call('SISMEMBER', CANCELLING, id) == 1
  return { id, blob, state, format_ms(due), attempts, recoveries, token, outcome, finished, lease, is_cancelling }, state
end

if #ARGV == first then
  return { (read_record(ARGV[first])) }
end

local state, after_ms, after_id, limit, payloads = unpack(ARGV, first, first + 4)
after_ms, limit = tonumber(after_ms), tonumber(limit)
local positions = {}

local function collect_one(ms, id)
  local is_behind = after_ms < 0 or ms < after_ms or (ms == after_ms and id < after_id)
  if is_behind and is_text(id) then
    positions[#positions + 1] = { ms, id }
    return 1
  end
  return 0
end

-- Collect the first `most` positions after (after_ms, after_id) of an index, in descending order from `highest`.
local function collect(index, highest, lowest, most)
  local offset, added = 0, 0
  while true do
    local entries = call('ZREVRANGEBYSCORE', index, highest, lowest, 'WITHSCORES', 'LIMIT', offset, most)
    for i = 1, #entries, 2 do
      added = added + collect_one(time_of(entries[i + 1]), entries[i])
    end
    if added >= most or #entries < 2 * most then
      return
    end
    offset = offset + most
  end
end

-- Collect the positions after (after_ms, after_id), at least the first `most`.
local function collect_all(most)
  positions = {}
  local highest = after_ms < 0 and '+inf' or format_ms(after_ms)
  if state == 'queued' or state == 'scheduled' then
    local lowest = '-inf'
    if state == 'queued' then
      highest = format_ms(after_ms < 0 and now or math.min(now, after_ms))
    else
      lowest = '(' .. now_text
    end
    for _, queue in ipairs(call('SMEMBERS', QUEUES)) do
      collect(DUE[queue], highest, lowest, most)
      collect(SUSPECT[queue], highest, lowest, most)
    end
  elseif state == 'active' then
    -- The only range without a limit: no index has the active records in the order of their ids. There are as many as the
    -- workers have slots, at most.
    for _, id in ipairs(call('ZRANGE', LEASE, 0, -1)) do
      collect_one(0, id)
    end
  else
    collect(FINISHED[state], highest, '-inf', most)
  end
  table.sort(positions, function(one, other)
    if one[1] ~= other[1] then
      return one[1] > other[1]
    end
    return one[2] > other[2]
  end)
end

-- An entry whose record is missing, or is in another state, is passed over. So the listing goes on behind it.
local records = {}
repeat
  local most = limit - #records
  collect_all(most)
  for i = 1, math.min(most, #positions) do
    local record, in_state = read_record(positions[i][2], payloads)
    after_ms, after_id = positions[i][1], positions[i][2]
    if in_state == state then
      records[#records + 1] = record
    end
  end
until #records == limit or #positions < most
return records
