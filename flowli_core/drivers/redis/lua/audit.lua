-- Check a part of a column for damage: see _audit.py. Each call checks its records as they are now, so workers can go on.
-- Needs: shared/columns shared/watchers shared/paused shared/lanes shared/moves shared/schedules shared/text shared/uses audit/lanes
-- KEYS[#KEYS - 1], KEYS[#KEYS]: the schedules by key, the index of their keys.
-- ARGV[first..]: column, queue (of due, suspect and held) or '', cursor, about how many entries to check.
-- Answers {next cursor, {key, id, problem} for each finding, {queue, number of records} for each queue found}.
--          For the column queues the last is {column, queue} for each index that is too long to be checked with its queue.
--          The column counts is checked whole; for it the last is {field, number, ...}. For the column record it is
--          {digest, number of records} for each shape found, for the column shape {digest, number as it is stored or '',
--          the number of records that it means or -1} for each.
-- Writes nothing.
local column, of_queue, cursor, size = ARGV[first], ARGV[first + 1], ARGV[first + 2], ARGV[first + 3]
local findings, members = {}, {}
local function report(key, id, problem)
  findings[#findings + 1] = { key, id, problem }
end

-- The kind of a record that was set aside, which names the queue that counts it; nil if it was not.
local function kind_of_set_aside(outcome_text)
  local state, _, _, _, _, _, kind = parse_outcome(outcome_text)
  return state == 'failed' and string.byte(kind) == 33 and kind or nil
end

-- The indexes that hold a record, each with its score.
local function indexes_of(id, queue)
  local indexes_found = {}
  for name, key in pairs({
    ['due:' .. queue] = DUE[queue], ['suspect:' .. queue] = SUSPECT[queue], ['held:' .. queue] = HELD[queue], lease = LEASE,
    completed = COMPLETED, failed = FAILED, cancelled = CANCELLED,
  }) do
    local score = call('ZSCORE', key, id)
    if score then
      indexes_found[#indexes_found + 1] = { name = name, score = tonumber(score) }
    end
  end
  return indexes_found
end

local function check_active(id, blob, text, settled)
  if not text then
    report('token', id, 'is missing, although the record has a lease')
    return
  end
  local token, _, _, kind = parse_token(text)
  if not kind then
    report('token', id, 'cannot be read')
    return
  end
  local its_kind, shape, _, _, lane = parse_record(blob)
  if kind ~= its_kind or string.match(text, '\n(.*)$') ~= lane then
    report('token', id, 'has another kind or lane than the record')
  end
  if lane and shape then
    check_in_lane(report, id, shape.queue, lane)
  end
  if tonumber(token) > number_or(call('HGET', SERIAL, 'token'), 0) then
    report('token', id, 'is greater than the last one that was issued')
  end
  if tonumber(settled) >= tonumber(token) then
    report('token', id, 'has been settled already')
  end
end

local function check_finished(id, state, finished_at, last_state, numbers)
  local expiry = tonumber(call('ZSCORE', EXPIRY, id) or nil)
  local keep = tonumber(state == 'completed' and numbers.completed or numbers.failed)
  if not expiry then
    report('expiry', id, 'is missing, although the record has finished')
  elseif expiry ~= finished_at + keep then
    report('expiry', id, 'is not the time of finishing plus the retention time')
  end
  if last_state ~= state then
    report('outcome', id, 'does not say ' .. state .. ', as the index does')
  end
end

local function check_unfinished(id, last_state)
  if call('ZSCORE', EXPIRY, id) then
    report('expiry', id, 'is set, although the record has not finished')
  end
  if last_state ~= '-' then
    report('outcome', id, 'says that the record has finished, and it has not')
  end
end

local function check_key(id, blob, is_finished)
  local key = parse_head(blob)
  local holder = key ~= '' and call('HGET', HOLDER, key)
  if key ~= '' and not is_finished and holder ~= id and not (holder and call('HGET', BEHIND, holder) == id) then
    report('holder', id, 'does not hold its key, although it has not finished')
  elseif key ~= '' and is_finished and holder == id and not call('ZSCORE', UNIQUE, key) then
    report('holder', id, 'holds its key, although it has finished')
  end
end

local function check_behind(id, waits_for)
  local blob, other = call('HGET', RECORD, id), call('HGET', RECORD, waits_for)
  local shape = shape_of(blob or '')
  local state = other and locate(waits_for, (shape_of(other)))
  if not blob then
    report('behind', id, 'belongs to no record')
  elseif shape and not call('ZSCORE', HELD[shape.queue], id) then
    report('behind', id, 'is set, although the record is not held')
  elseif not state or FINISHED[state] then
    report('behind', id, 'is a record that has finished or is missing')
  elseif call('HGET', BEHIND, waits_for) then
    report('behind', id, 'is a record that is behind another itself')
  end
end

local function check_record(id, blob)
  local outcome_text = call('HGET', OUTCOME, id)
  if kind_of_set_aside(outcome_text) then
    report('record', id, 'was set aside: ' .. string.match(outcome_text, '\n(.*)'))
    return
  end
  local text = parse_head(blob) and call('HGET', SHAPE, string.sub(blob, 1, DIGEST))
  local numbers = {}
  if text then
    numbers.most, numbers.completed, numbers.failed, numbers.keep_id, numbers.queue = parse_shape(text)
  end
  local queue, most = numbers.queue, tonumber(numbers.most or 0)
  if not queue then
    report('record', id, text and 'has a shape that cannot be read' or parse_head(blob) and 'has no shape' or 'cannot be read')
    return
  elseif call('SISMEMBER', QUEUES, queue) == 0 then
    report('queues', id, 'lacks the queue of the record')
    return
  end
  local token, indexed = call('HGET', TOKEN, id), indexes_of(id, queue)
  local last_state, settled = parse_outcome(outcome_text)
  if not is_text(id) then
    report('record', id, 'has an invalid id')
  end
  if not last_state then
    report('outcome', id, 'cannot be read')
    last_state, settled = parse_outcome(nil)
  end
  if #indexed ~= 1 then
    local names = {}
    for i, index in ipairs(indexed) do
      names[i] = index.name
    end
    table.sort(names)
    report('record', id, #indexed == 0 and 'is in no index' or 'is in more than one index: ' .. table.concat(names, ', '))
    return
  end
  local index, recoveries_text = indexed[1], call('HGET', RECOVERIES, id)
  local recoveries = number_or(string.match(recoveries_text or '', '^%d+'), 0)
  local is_finished = FINISHED[index.name] ~= nil
  if index.name == 'lease' then
    check_active(id, blob, token, settled)
  elseif token then
    report('token', id, 'exists, although the record is not active')
  end
  if is_finished then
    check_finished(id, index.name, index.score, last_state, numbers)
  else
    check_unfinished(id, last_state)
  end
  local lane = select(4, parse_head(blob))
  if index.name == 'held:' .. queue and not call('HGET', BEHIND, id) then
    if lane then
      check_in_lane(report, id, queue, lane, recoveries >= most)
    else
      report('behind', id, 'is missing, although the record is held and in no lane')
    end
  end
  check_key(id, blob, is_finished)
  if call('SISMEMBER', CANCELLING, id) == 1 and index.name ~= 'lease' then
    report('cancelling', id, 'is set, although the record is not active')
  end
  if recoveries_text and not string.find(recoveries_text, '^%d+ %d+ %S+$') then
    report('recoveries', id, 'cannot be read')
  elseif recoveries > most and not is_finished then
    report('recoveries', id, 'is over the limit, although the record has not failed')
  elseif index.name == 'suspect:' .. queue and recoveries < most then
    report(index.name, id, 'is not a suspect')
  elseif index.name == 'due:' .. queue and recoveries >= most then
    report(index.name, id, 'is a suspect, and belongs to the index of suspects')
  end
end

local function check_member(id, blob, key)
  if not blob then
    if column == 'holder' and call('ZSCORE', UNIQUE, key) then
      return
    end
    report(of_queue == '' and column or column .. ':' .. of_queue, id, 'belongs to no record')
    return
  end
  local shape = shape_of(kind_of_set_aside(call('HGET', OUTCOME, id)) or blob)
  local queue = shape and shape.queue or ''
  local group = column == 'record' and string.sub(blob, 1, DIGEST) or queue
  members[group] = (members[group] or 0) + 1
  if of_queue ~= '' and of_queue ~= queue then
    report(column .. ':' .. of_queue, id, 'belongs to another queue')
  end
  if column == 'record' then
    check_record(id, blob)
  end
end

-- Compare the sums within this call. The counts of each queue are compared by the caller, who adds up all parts.
local function check_counts()
  local fields, sums, stored = call('HGETALL', COUNTS), { active = 0, completed = 0, failed = 0, cancelled = 0 }, {}
  for _, queue in ipairs(call('SMEMBERS', QUEUES)) do
    stored[queue] = true
  end
  for i = 1, #fields, 2 do
    local state, queue = string.match(fields[i], '^(%S+) (.*)$')
    local number = number_or(fields[i + 1])
    if not sums[state] or not stored[queue] or not number then
      report('counts', fields[i], 'is not a count: ' .. fields[i + 1])
    else
      sums[state] = sums[state] + number
    end
  end
  for state, sum in pairs(sums) do
    local there = call('ZCARD', FINISHED[state] or LEASE)
    if sum ~= there then
      report('counts', '', string.format('adds up to %.0f that are %s, but the index has %.0f', sum, state, there))
    end
  end
  if call('HLEN', TOKEN) ~= call('ZCARD', LEASE) then
    report('token', '', 'has another number of entries than the index of leases')
  end
  -- The caller compares this and the counts between two calls, to detect that records moved in between.
  fields[#fields + 1] = 'token '
  fields[#fields + 1] = call('HGET', SERIAL, 'token') or '0'
  for _, name in ipairs({ 'now', 'token', 'revision' }) do
    if not number_or(call('HGET', SERIAL, name) or 0) then
      report('serial', name, 'is not a number')
    end
  end
  return { '0', findings, fields }
end

-- Check queues, and those of their indexes that are short. Returns the column and the queue of each of the others.
local function check_queues()
  local found, left, others = call('SSCAN', QUEUES, cursor, 'COUNT', size), tonumber(size), {}
  for _, queue in ipairs(found[2]) do
    if is_empty(queue) then
      report('queues', queue, 'has no records')
    end
    for _, name in ipairs({ 'turn', 'turn_suspect' }) do
      if call('EXISTS', root .. name .. ':' .. queue) == 1 then
        others[#others + 1] = { name, queue }
      end
    end
    of_queue = queue
    for name, index in pairs({ due = DUE[queue], suspect = SUSPECT[queue], held = HELD[queue] }) do
      local length = redis.pcall('ZCARD', index)
      if type(length) == 'table' or length > left then -- it has another type, or is too long
        others[#others + 1] = { name, queue }
      else
        column, left = name, left - length
        local ids = call('ZRANGE', index, 0, length)
        for i, blob in ipairs(read_fields(RECORD, ids)) do
          check_member(ids[i], blob)
        end
      end
    end
  end
  return { found[1], findings, others }
end

local SCHEDULE, SCHEDULES = KEYS[#KEYS - 1], KEYS[#KEYS]

local function check_schedule(key, text)
  local revision, next_tick = parse_schedule(text)
  if not revision then
    report('schedule', key, 'cannot be read')
    return
  end
  if tonumber(revision) > number_or(call('HGET', SERIAL, 'revision'), 0) then
    report('schedule', key, 'has a revision greater than the last one that was issued')
  end
  if tonumber(call('ZSCORE', TICK, key) or nil) ~= tonumber(next_tick) then
    report('tick', key, 'is not the next tick of the schedule')
  end
  if not call('ZSCORE', SCHEDULES, key) then
    report('schedules', key, 'lacks the schedule')
  end
end

if column == 'schedule' then
  local found = call('HSCAN', SCHEDULE, cursor, 'COUNT', size)
  for i = 1, #found[2], 2 do
    check_schedule(found[2][i], found[2][i + 1])
  end
  return { found[1], findings, {} }
elseif column == 'schedules' or column == 'tick' then
  local found = call('ZSCAN', column == 'tick' and TICK or SCHEDULES, cursor, 'COUNT', size)
  for i = 1, #found[2], 2 do
    if not call('HGET', SCHEDULE, found[2][i]) then
      report(column, found[2][i], 'belongs to no schedule')
    end
  end
  return { found[1], findings, {} }
end

if column == 'lanes' then
  local found = call('ZSCAN', root .. 'lanes', cursor, 'COUNT', size)
  for i = 1, #found[2], 2 do
    check_lane(report, found[2][i], tonumber(found[2][i + 1]))
  end
  return { found[1], findings, {} }
elseif column == 'turn' or column == 'turn_suspect' then
  local found = call('ZSCAN', root .. column .. ':' .. of_queue, cursor, 'COUNT', size)
  for i = 1, #found[2], 2 do
    if not call('ZSCORE', root .. 'lanes', of_queue .. '\n' .. found[2][i]) then
      report(column .. ':' .. of_queue, found[2][i], 'is a lane without waiting records')
    end
  end
  return { found[1], findings, {} }
elseif column == 'lane_suspects' then
  local found = call('SSCAN', root .. column, cursor, 'COUNT', size)
  for _, id in ipairs(found[2]) do
    local blob = call('HGET', RECORD, id)
    local shape = blob and shape_of(blob)
    if not blob or (shape and not call('ZSCORE', HELD[shape.queue], id)) then
      report(column, id, 'is not a held record')
    end
  end
  return { found[1], findings, {} }
elseif column == 'behind' then
  local found = call('HSCAN', BEHIND, cursor, 'COUNT', size)
  for i = 1, #found[2], 2 do
    check_behind(found[2][i], found[2][i + 1])
  end
  return { found[1], findings, {} }
elseif column == 'unique' then
  local found = call('ZSCAN', UNIQUE, cursor, 'COUNT', size)
  for i = 1, #found[2], 2 do
    if not call('HGET', HOLDER, found[2][i]) then
      report(column, found[2][i], 'is a key that no record holds')
    end
  end
  return { found[1], findings, {} }
elseif column == 'counts' then
  return check_counts()
elseif column == 'shape' then
  local found, uses = call('HSCAN', SHAPE, cursor, 'COUNT', size), {}
  for i = 1, #found[2], 2 do
    local digest = found[2][i]
    local stored = call('HGET', USES, digest) or ''
    uses[#uses + 1] = { digest, stored, parse_uses(stored) or -1 }
  end
  return { found[1], findings, uses }
elseif column == 'uses' then
  local found = call('HSCAN', USES, cursor, 'COUNT', size)
  for i = 1, #found[2], 2 do
    if not call('HGET', SHAPE, found[2][i]) then
      report(column, found[2][i], 'counts the records of a missing shape')
    end
  end
  return { found[1], findings, {} }
elseif column == 'queues' then
  return check_queues()
end

local hashes = {
  record = RECORD, token = TOKEN, attempts = ATTEMPTS, outcome = OUTCOME, recoveries = RECOVERIES, holder = HOLDER,
  progress = PROGRESS, log = LOG,
}
local indexes = {
  lease = LEASE, completed = COMPLETED, failed = FAILED, cancelled = CANCELLED, expiry = EXPIRY,
  due = DUE[of_queue], suspect = SUSPECT[of_queue], held = HELD[of_queue],
}
local found, width
if hashes[column] then
  found, width = call('HSCAN', hashes[column], cursor, 'COUNT', size), 2
elseif indexes[column] then
  found, width = call('ZSCAN', indexes[column], cursor, 'COUNT', size), 2
else
  found, width = call('SSCAN', CANCELLING, cursor, 'COUNT', size), 1
end
local ids, values = {}, {}
for i = 1, #found[2], width do
  ids[#ids + 1] = found[2][column == 'holder' and i + 1 or i]
  values[#values + 1] = found[2][i + width - 1]
end
local blobs = column == 'record' and values or read_fields(RECORD, ids)
for i, id in ipairs(ids) do
  check_member(id, blobs[i], found[2][2 * i - 1])
  local key = column == 'holder' and found[2][2 * i - 1]
  if key and blobs[i] and parse_head(blobs[i]) ~= key and not call('ZSCORE', UNIQUE, key) then
    report('holder', id, 'holds a key of another record')
  end
end
local tally = {}
for queue, number in pairs(members) do
  tally[#tally + 1] = { queue, number }
end
return { found[1], findings, tally }
