-- Count the records and find the oldest due record of some queues, and list the workers.
-- Needs: shared/columns shared/clock shared/last_step shared/text shared/paused shared/lanes shared/list_paused
-- ARGV[first..]: a cursor of the queues, '0' at the start, about how many queues to read, for how many ms a worker is listed
--                after it was last seen, and how many lanes to list.
-- Answers {now, cursor of the next queues or '0', {queue, number of queued, number of scheduled, when the oldest due record is due
--          or -1} for each queue, the numbers of active, completed, failed and cancelled for each queue, {worker, when it was last
--          seen, its description} for each worker, {queue, since} for each paused queue, the number of lanes, and for the lanes with
--          the most waiting records {"queue\nlimit\nvalue", number of waiting, number of active, the numbers of its limit,
--          when it has its next turn or -1, when its rate allows a start}}. Workers, paused queues and lanes are answered with
--          the first queues only.
-- Writes nothing.
read_as_of_last_step()
local cursor, most, listed_ms, most_lanes = unpack(ARGV, first, first + 3)

-- Returns the numbers of queued and scheduled records of an index, and when the first of the queued was due.
local function count_waiting(index)
  local first_due = tonumber(call('ZRANGE', index, 0, 0, 'WITHSCORES')[2])
  if not first_due then
    return 0, 0, math.huge
  end
  local waiting = call('ZCARD', index)
  if first_due > now then
    return 0, waiting, math.huge
  end
  local due = waiting == 1 and 1 or call('ZCOUNT', index, '-inf', now_text)
  return due, waiting - due, first_due
end

-- Returns when the first due record of a queue was due that waits in a lane. It passes over those that are behind other records, but
-- reads only the first ones.
local function find_oldest_held(index)
  local entries, ids = call('ZRANGEBYSCORE', index, '-inf', now_text, 'WITHSCORES', 'LIMIT', 0, 1000), {}
  for i = 1, #entries, 2 do
    ids[#ids + 1] = entries[i]
  end
  for i, waits_for in ipairs(read_fields(root .. 'behind', ids)) do
    if not waits_for then
      return tonumber(entries[2 * i])
    end
  end
  return math.huge
end

-- Read counts. A small hash is a list, which each look-up would search from its start; a scan returns all of it.
local function read_counts(fields)
  local scan, numbers = call('HSCAN', COUNTS, '0', 'COUNT', 1), {}
  if scan[1] ~= '0' then
    return read_fields(COUNTS, fields)
  end
  for i = 1, #scan[2], 2 do
    numbers[scan[2][i]] = scan[2][i + 1]
  end
  for i, field in ipairs(fields) do
    fields[i] = numbers[field] or false
  end
  return fields
end

local scan, queues, fields, workers = call('SSCAN', QUEUES, cursor, 'COUNT', most), {}, {}, {}
for i, name in ipairs(scan[2]) do
  local queued, scheduled, oldest = count_waiting(DUE[name])
  for _, index in ipairs({ SUSPECT[name], HELD[name] }) do
    local more_queued, more_scheduled, first_due = count_waiting(index)
    if index == HELD[name] and first_due < math.huge and call('EXISTS', root .. 'behind') == 1 then
      first_due = find_oldest_held(index)
    end
    queued, scheduled, oldest = queued + more_queued, scheduled + more_scheduled, math.min(oldest, first_due)
  end
  queues[i] = { name, queued, scheduled, oldest < math.huge and oldest or -1 }
  append(fields, 'active ' .. name, 'completed ' .. name)
  append(fields, 'failed ' .. name, 'cancelled ' .. name)
end
local seen = cursor == '0' and call('ZRANGEBYSCORE', WORKERS, '(' .. format_ms(now - listed_ms), '+inf', 'WITHSCORES') or {}
for i = 1, #seen, 2 do
  local about = redis.pcall('HGET', root .. 'worker:' .. seen[i], 'about')
  workers[#workers + 1] = { seen[i], seen[i + 1], type(about) == 'string' and about or '' }
end

-- List the lanes with the most waiting records.
local function list_lanes()
  local entries, rows = call('ZRANGE', root .. 'lanes', 0, most_lanes - 1, 'WITHSCORES'), {}
  for i = 1, #entries, 2 do
    local queue, lane = string.match(entries[i], '^([^\n]*)\n(.*)$')
    if queue and string.find(lane, '\n', 1, true) then
      local turn = call('ZSCORE', root .. 'turn:' .. queue, lane) or call('ZSCORE', root .. 'turn_suspect:' .. queue, lane)
      turn = turn and format_ms(number_or(turn, 0)) or '-1'
      local limit, start, active = lanes().limit_of(lane), lanes().next_start(lane), call('SCARD', root .. 'places:' .. lane)
      local text = limit.text == '' and '1 - -' or limit.text
      rows[#rows + 1] = { entries[i], call('ZCARD', root .. 'lane:' .. entries[i]), active, text, start and turn or '-1', start and format_ms(start) or '0' }
    end
  end
  return rows
end

local is_first = cursor == '0'
return {
  now, scan[1], queues, read_counts(fields), workers, is_first and list_paused() or {},
  is_first and call('ZCARD', root .. 'lanes') or 0, is_first and list_lanes() or {},
}
