-- Read one record, or a part of the page of the records in a state, newest first. A page may take several calls, because each
-- reads a limited number of entries: _reads.py repeats them. They find the positions of the page first, then read its records.
-- Needs: shared/columns shared/clock shared/last_step shared/watchers shared/paused shared/lanes shared/moves shared/text read_records/filter
-- ARGV[first..]: an id; or "ids" and ids, of which it reads fewer once the answer is large; or
--                state, the ms and the id of the position after which the page begins (-1: at the start), how many records to
--                read or 0 to find positions only, 1 to answer the payloads or 0 to leave them out, how many positions to find,
--                the least ms of a position that is wanted or -1, a cursor of the queues, or - if positions follow, the five
--                arguments of filter.lua, and the ms, id and queue of each position to read.
-- Answers {'0', records}, and for a page also how many records it has looked at, and the position to go on behind, if there may be
--          more; or, if it only finds positions or there are more queues to search, {cursor, ms, id and queue of each position
--          found}. A record is {id, blob, state, due, attempts, recoveries, token, outcome, finished, end of the lease, 1 if its
--          cancellation was requested, progress, log}; a record of a page has no log. Without payloads the outcome ends before
--          its newline, except that of a cancelled record. A record that cannot be read is {id, state, due, finished, queue, damage}.
-- Writes nothing.
read_as_of_last_step()

-- Read a time from a score. One out of range is damaged.
local LAST_TIME = 253402300799999
local function time_of(score)
  return math.floor(math.min(math.max(tonumber(score), 0), LAST_TIME))
end

local function cut(text)
  return text and string.sub(text, 1, LONGEST)
end

-- Read a record, as _packing.unpack_stored takes it, and its state. Returns nil if it is not stored, or in no index. `queue` is the
-- one whose index has its id, if it is known.
local function read_record(id, payloads, queue, with_log)
  local is_too_long = call('HSTRLEN', RECORD, id) > 67108864
  local blob = is_too_long and '' or call('HGET', RECORD, id)
  if not blob then
    return nil
  end
  local kind, shape, _, expires, lane = parse_record(blob)
  local state, due, token, outcome, waits_in = locate(id, kind and shape, queue)
  token, outcome = cut(token), cut(outcome)
  bytes_read = bytes_read + #blob + #(outcome or '')
  if not state then
    return nil
  end
  local finished = FINISHED[state] and format_ms(time_of(call('ZSCORE', FINISHED[state], id) or 0)) or false
  local lease = state == 'active' and call('ZSCORE', LEASE, id)
  lease = lease and format_ms(time_of(lease))
  local last_state, _, _, _, _, _, last_kind = parse_outcome(outcome)
  local is_set_aside = last_state == 'failed' and string.byte(last_kind) == 33
  if not kind or is_set_aside then
    queue = is_set_aside and shape_of(last_kind).queue or waits_in or ''
    return { id, state, format_ms(due), finished, queue, kind and string.match(outcome, '\n(.*)') or shape }, state
  end
  if payloads ~= '1' then
    local words = '- ' .. (expires and format_ms(expires) or '-') .. ' ' .. (lane and #lane or '-')
    blob = string.match(blob, '^[^\n]*\n') .. words .. '\n' .. (lane or '')
  end
  if payloads == '0' and state == 'completed' then
    outcome = outcome and string.match(outcome, '^[^\n]*')
  end
  local attempts, recoveries = cut(call('HGET', ATTEMPTS, id)), number_or(string.match(call('HGET', RECOVERIES, id) or '', '^%d+'), 0)
  local is_cancelling = state == 'active' and call('SISMEMBER', CANCELLING, id) == 1
  local progress, log = call('HGET', PROGRESS, id), with_log and call('HGET', LOG, id) or false
  return {
    id, blob, state, format_ms(due), attempts, recoveries, token, outcome, finished, lease, is_cancelling, progress, log,
  }, state
end

if #ARGV == first then
  return { '0', { (read_record(ARGV[first], '1', nil, true)) } }
elseif ARGV[first] == 'ids' then
  local records, bytes = {}, 0
  for i = first + 1, #ARGV do
    local record = read_record(ARGV[i], 'result')
    records[#records + 1] = record
    bytes = bytes + (record and #(record[8] or '') or 0)
    if bytes > MOST_BYTES then
      break
    end
  end
  return { '0', records }
end

local state, after_ms, after_id, limit, payloads, most, lowest, cursor = unpack(ARGV, first, first + 7)
after_ms, limit, most, lowest = tonumber(after_ms), tonumber(limit), tonumber(most), tonumber(lowest)
-- A call searches about as many queues as have MOST_WORK entries, and fewer with filters, because such a listing may take many
-- calls. Each queue counts as QUEUE_WORK of them. A call ends between two scans, so a scan returns few queues, and fewer if many
-- entries of each are read.
local MOST_WORK, QUEUE_WORK = is_filtered and 500 or 2000, 4
local QUEUES_PER_SCAN = math.min(20, math.ceil((is_filtered and 1000 or 5000) / most))

-- Entries whose scores are damaged are not in the order of their positions, so some more are read then.
local MOST_DAMAGED = 200

-- Positions are {ms, id, queue}. Those before `lowest` are of no interest.
local positions, highest = {}, after_ms < 0 and LAST_TIME or after_ms
for i = first + 13, #ARGV, 3 do
  positions[#positions + 1] = { tonumber(ARGV[i]), ARGV[i + 1], ARGV[i + 2] }
end

local function add_position(ms, id, queue)
  local is_behind = after_ms < 0 or ms < after_ms or (ms == after_ms and id < after_id)
  if is_behind and ms >= lowest then
    positions[#positions + 1] = { ms, id, queue }
  end
end

-- Sort the positions, and keep the first `most` of them.
local function keep_first()
  table.sort(positions, function(one, other)
    if one[1] ~= other[1] then
      return one[1] > other[1]
    end
    return one[2] > other[2]
  end)
  local kept = {}
  for _, position in ipairs(positions) do
    local last = kept[#kept]
    -- A scan may return a queue twice.
    if #kept < most and not (last and last[1] == position[1] and last[2] == position[2]) then
      kept[#kept + 1] = position
    end
  end
  positions = kept
  if #positions == most then
    lowest = math.max(lowest, positions[most][1])
  end
end

-- How many entries of an index come before the position after which the page begins. Those with the same time are in the
-- descending order of their ids, and there may be any number of them.
local function count_before(index)
  local time = format_ms(after_ms)
  local from = call('ZCOUNT', index, '(' .. time, '+inf')
  local to = from + call('ZCOUNT', index, time, time)
  while from < to do
    local middle = math.floor((from + to) / 2)
    if call('ZRANGE', index, -middle - 1, -middle - 1)[1] < after_id then
      to = middle
    else
      from = middle + 1
    end
  end
  return from
end

-- Returns true if entries have a damaged score, and true if the first one at the time of the position after which the page
-- begins comes before it.
local function examine(entries)
  local is_damaged, is_before = false, nil
  for i = 1, #entries, 2 do
    local score = tonumber(entries[i + 1])
    is_damaged = is_damaged or score ~= time_of(score) or score == 0 or score == LAST_TIME
    if is_before == nil and score == after_ms then
      is_before = entries[i] >= after_id
    end
  end
  return is_damaged, is_before
end

local function add_positions(entries, queue)
  for i = 1, #entries, 2 do
    add_position(time_of(entries[i + 1]), entries[i], queue)
  end
  return #entries / 2
end

-- Collect the first positions of an index. Returns how many entries it has read.
local function collect(index, queue)
  local greatest = highest < LAST_TIME and '(' .. format_ms(highest + 1) or '+inf'
  local least = lowest > 0 and format_ms(lowest) or '-inf'
  local entries = call('ZREVRANGEBYSCORE', index, greatest, least, 'WITHSCORES', 'LIMIT', 0, most)
  local is_damaged, is_before = examine(entries)
  if is_damaged then
    entries = call('ZREVRANGEBYSCORE', index, greatest, least, 'WITHSCORES', 'LIMIT', 0, most + MOST_DAMAGED)
    add_positions(entries, queue)
  end
  if is_before then
    local before = count_before(index)
    entries = call('ZRANGE', index, -before - most, -before - 1, 'WITHSCORES')
  end
  return add_positions(entries, queue)
end

-- Returns false if no queue has suspects or held records. One command for all queues costs less than one for each.
local function have_others(queues)
  local indexes = {}
  for _, queue in ipairs(queues) do
    append(indexes, SUSPECT[queue], HELD[queue])
  end
  -- A server may be configured to return any number of queues at once, and Lua's stack holds about 8,000.
  return #indexes > 6000 or (#indexes > 0 and call('EXISTS', unpack(indexes)) > 0)
end

-- Collect the positions of some queues, and return the cursor of the next.
local function collect_queues()
  local work, queues = 0, nil
  repeat
    cursor, queues = unpack(call('SSCAN', QUEUES, cursor, 'COUNT', QUEUES_PER_SCAN))
    local may_have_others = have_others(queues)
    for _, queue in ipairs(queues) do
      work = work + QUEUE_WORK + collect(DUE[queue], queue)
      if may_have_others then
        work = work + collect(SUSPECT[queue], queue) + collect(HELD[queue], queue)
      end
      if #positions > 2 * most then
        keep_first()
      end
    end
  until cursor == '0' or work > MOST_WORK
end

if older_ms ~= '' and state ~= 'active' then
  highest = math.min(highest, now - older_ms - 1)
end
if cursor == '-' then
  cursor = '0'
elseif state == 'queued' or state == 'scheduled' then
  if state == 'queued' then
    highest = math.min(highest, now)
  else
    lowest = math.max(lowest, now + 1)
  end
  if wanted_queue ~= '' then
    collect(DUE[wanted_queue], wanted_queue)
    collect(SUSPECT[wanted_queue], wanted_queue)
    collect(HELD[wanted_queue], wanted_queue)
  else
    collect_queues()
  end
  -- A caller that asks for positions only sorts those of all its calls.
  if limit > 0 or #positions > most then
    keep_first()
  end
elseif state == 'active' then
  -- The only range without a limit: no index has the active records in the order of their ids. There are as many as the
  -- workers have slots, at most.
  for _, id in ipairs(call('ZRANGE', LEASE, 0, -1)) do
    add_position(0, id)
  end
  keep_first()
else
  collect(FINISHED[state])
  keep_first()
end

if limit == 0 or cursor ~= '0' then
  local reply = { cursor }
  for _, position in ipairs(positions) do
    append(reply, position[1], position[2])
    reply[#reply + 1] = position[3]
  end
  return reply
end

-- An entry whose record is missing, is in another state or has an invalid id is passed over. If the caller needs more records, it
-- goes on behind the last entry that was looked at and has a valid id: no other can be named.
local records, looked_at, last = {}, 0, nil
for i, position in ipairs(positions) do
  if #records == limit or (is_filtered and bytes_read > MOST_BYTES) then
    break
  end
  local is_valid = is_text(position[2])
  looked_at, last = i, is_valid and position or last or { position[1], '' }
  if not is_filtered or matches(position, state) then
    local record, in_state = read_record(position[2], payloads, position[3])
    if in_state == state and is_valid and (not is_filtered or is_sound_enough(record)) then
      records[#records + 1] = record
    end
  end
end
local has_more = #positions == most or looked_at < #positions
return { '0', records, looked_at, has_more and last and { last[1], last[2] } or nil }
