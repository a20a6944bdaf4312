-- Read one record, or a page of the records in a state, newest first.
-- Needs: shared/columns
-- ARGV[first..]: an id; or state, the ms and the id of the position after which the page begins (-1: at the start), limit,
-- 1 to answer the payloads or 0 to leave them out.
-- Answers {id, blob, state, due, progress, recoveries, token, outcome, finished} for each. Without payloads the outcome ends
-- before its newline.
-- Writes nothing.

-- Read a record, as _packing.unpack_stored takes it. Returns nil if it is not stored.
local function read_record(id, payloads)
  local blob = call('HGET', RECORD, id)
  local shape = blob and shape_of(blob)
  if not shape then
    return nil
  end
  local state, due, token, outcome = locate(id, shape)
  if not state then
    return nil
  end
  local finished = FINISHED[state] and call('ZSCORE', FINISHED[state], id) or false
  if payloads == '0' then
    blob = string.match(blob, '^[^\n]*\n') .. '-\n'
    outcome = outcome and string.match(outcome, '^[^\n]*')
  end
  return {
    id, blob, state, format_ms(due), call('HGET', PROGRESS, id), call('HGET', RECOVERIES, id) or '0', token, outcome, finished,
  }
end

if #ARGV == first then
  return { read_record(ARGV[first]) }
end

local state, after_ms, after_id, limit, payloads = unpack(ARGV, first, first + 4)
after_ms, limit = tonumber(after_ms), tonumber(limit)
local positions = {}

-- Collect the first `limit` positions after (after_ms, after_id) of an index, in descending order from `highest`.
local function collect(index, highest, lowest)
  local offset, added = 0, 0
  while true do
    local entries = call('ZREVRANGEBYSCORE', index, highest, lowest, 'WITHSCORES', 'LIMIT', offset, limit)
    for i = 1, #entries, 2 do
      local id, ms = entries[i], tonumber(entries[i + 1])
      if after_ms < 0 or ms < after_ms or (ms == after_ms and id < after_id) then
        positions[#positions + 1] = { ms, id }
        added = added + 1
      end
    end
    if added >= limit or #entries < 2 * limit then
      return
    end
    offset = offset + limit
  end
end

local highest = after_ms < 0 and '+inf' or format_ms(after_ms)
if state == 'queued' or state == 'scheduled' then
  local lowest = '-inf'
  if state == 'queued' then
    highest = format_ms(after_ms < 0 and now or math.min(now, after_ms))
  else
    lowest = '(' .. now_text
  end
  for _, queue in ipairs(call('SMEMBERS', QUEUES)) do
    collect(DUE[queue], highest, lowest)
    collect(SUSPECT[queue], highest, lowest)
  end
elseif state == 'active' then
  -- The only range without a limit: no index has the active records in the order of their ids. There are as many as the
  -- workers have slots, at most.
  for _, id in ipairs(call('ZRANGE', LEASE, 0, -1)) do
    if after_ms < 0 or id < after_id then
      positions[#positions + 1] = { 0, id }
    end
  end
else
  collect(FINISHED[state], highest, '-inf')
end
table.sort(positions, function(one, other)
  if one[1] ~= other[1] then
    return one[1] > other[1]
  end
  return one[2] > other[2]
end)
local records = {}
for i = 1, math.min(limit, #positions) do
  records[#records + 1] = read_record(positions[i][2], payloads)
end
return records
