-- Look at a part of a column for what must never be: see _audit.py. Each record is judged as it is at this moment, so
-- that workers may go on meanwhile.
-- KEYS[#KEYS - 1], KEYS[#KEYS]: each schedule by its key, the keys in order.
-- ARGV[first..]: column, queue (of due and suspect) or '', cursor, about how many to look at.
-- Answers {the next cursor, {key, id, what is wrong} for each finding, {queue, members} for each queue seen}.
-- Of the column counts, which is looked at whole, the last is {field, number, ...}.
-- Writes nothing.
local column, of_queue, cursor, size = ARGV[first], ARGV[first + 1], ARGV[first + 2], ARGV[first + 3]
local findings, members = {}, {}
local function find(key, id, what)
  findings[#findings + 1] = { key, id, what }
end

-- Where a record is, by the names of the keys; a token without a lease, or the other way round, is told apart.
local function places_of(id, queue)
  local places = {}
  for name, key in pairs({
    ['due:' .. queue] = DUE[queue], ['suspect:' .. queue] = SUSPECT[queue], lease = LEASE,
    completed = COMPLETED, failed = FAILED, cancelled = CANCELLED,
  }) do
    local at = call('ZSCORE', key, id)
    if at then
      places[#places + 1] = { name = name, at = tonumber(at) }
    end
  end
  return places
end

local function judge_active(id, blob, text, last)
  if not text then
    find('token', id, 'is missing, though the record has a lease')
    return
  end
  local active = held(text)
  if not active.kind or not active.due then
    find('token', id, 'cannot be read')
    return
  end
  if active.kind ~= kind_of(blob) then
    find('token', id, 'names another kind than the record')
  end
  if tonumber(active.token) > tonumber(call('HGET', SERIAL, 'token') or 0) then
    find('token', id, 'is greater than any that was given')
  end
  if last and tonumber(last.settled) >= tonumber(active.token) then
    find('token', id, 'was settled before')
  end
end

local function judge_finished(id, state, at, last, numbers)
  local expiry = tonumber(call('ZSCORE', EXPIRY, id) or nil)
  local keep = tonumber(state == 'completed' and numbers.completed or numbers.failed)
  if not expiry then
    find('expiry', id, 'is missing, though the record has finished')
  elseif expiry ~= at + keep then
    find('expiry', id, 'is not when the record finished and for how long it is kept')
  end
  if not last or last.state ~= state then
    find('outcome', id, 'is not that of a record which is ' .. state)
  end
end

local function judge_unfinished(id, last)
  if call('ZSCORE', EXPIRY, id) then
    find('expiry', id, 'is set, though the record has not finished')
  end
  if last and last.state ~= '-' then
    find('outcome', id, 'tells of an end, though the record has not finished')
  end
end

local function judge_key(id, blob, is_finished)
  local key = key_of(blob)
  local holder = key and call('HGET', HOLDER, key)
  if key and not is_finished and holder ~= id then
    find('holder', id, 'does not hold its key, though it has not finished')
  elseif key and is_finished and holder == id then
    find('holder', id, 'holds its key, though it has finished')
  end
end

local function judge(id, blob)
  local text = string.match(blob, '^........%d+ [^\n]*\n[%-%d]+\n') and call('HGET', SHAPE, string.sub(blob, 1, 8))
  local numbers = {}
  if text then
    numbers.most, numbers.completed, numbers.failed, numbers.queue = string.match(text, '^(%d+) (%d+) (%d+) ([^\n]*)\n')
  end
  local queue, most = numbers.queue, tonumber(numbers.most or 0)
  if not queue then
    find('record', id, text and 'has a kind that cannot be read' or 'cannot be read, or its kind is missing')
    return
  elseif not DUE[queue] then
    find('queues', id, 'does not have the queue of the record')
    return
  end
  local outcome_text, token, places = call('HGET', OUTCOME, id), call('HGET', TOKEN, id), places_of(id, queue)
  local last = outcome_text and outcome_of(outcome_text)
  if last and not last.at then
    find('outcome', id, 'cannot be read')
    last = nil
  end
  if #places ~= 1 then
    local names = {}
    for i, place in ipairs(places) do
      names[i] = place.name
    end
    table.sort(names)
    find('record', id, #places == 0 and 'is in no index' or 'is in more than one index: ' .. table.concat(names, ', '))
    return
  end
  local place, recoveries = places[1], tonumber(call('HGET', RECOVERIES, id) or 0)
  local is_finished = FINISHED[place.name] ~= nil
  if place.name == 'lease' then
    judge_active(id, blob, token, last)
  elseif token then
    find('token', id, 'is there, though the record is not active')
  end
  if is_finished then
    judge_finished(id, place.name, place.at, last, numbers)
  else
    judge_unfinished(id, last)
  end
  judge_key(id, blob, is_finished)
  if call('SISMEMBER', CANCELLING, id) == 1 and place.name ~= 'lease' then
    find('cancelling', id, 'is set, though the record is not active')
  end
  if not recoveries then
    find('recoveries', id, 'is no number')
  elseif recoveries > most and not is_finished then
    find('recoveries', id, 'is over the limit, though the record has not failed')
  elseif place.name == 'suspect:' .. queue and recoveries < most then
    find(place.name, id, 'is no suspect')
  elseif place.name == 'due:' .. queue and recoveries >= most then
    find(place.name, id, 'is a suspect among those that are none')
  end
end

local function look_at(id, blob)
  if not blob then
    find(of_queue == '' and column or column .. ':' .. of_queue, id, 'belongs to no record')
    return
  end
  local shape = shape_of(blob)
  local queue = shape and shape.queue or ''
  members[queue] = (members[queue] or 0) + 1
  if of_queue ~= '' and of_queue ~= queue then
    find(column .. ':' .. of_queue, id, 'belongs to another queue')
  end
  if column == 'record' then
    judge(id, blob)
  end
end

-- Sums are compared within this one call; which queue a member belongs to takes looking at all of them.
local function look_at_counts()
  local fields, sums = call('HGETALL', COUNTS), { active = 0, completed = 0, failed = 0, cancelled = 0 }
  for i = 1, #fields, 2 do
    local state, queue = string.match(fields[i], '^(%S+) (.*)$')
    local number = tonumber(fields[i + 1])
    if not sums[state] or not DUE[queue] or not number or number < 0 then
      find('counts', fields[i], 'is no count: ' .. fields[i + 1])
    else
      sums[state] = sums[state] + number
    end
  end
  for state, sum in pairs(sums) do
    local there = call('ZCARD', FINISHED[state] or LEASE)
    if sum ~= there then
      find('counts', '', string.format('says that %.0f are %s, and there are %.0f', sum, state, there))
    end
  end
  if call('HLEN', TOKEN) ~= call('ZCARD', LEASE) then
    find('token', '', 'does not have as many entries as there are leases')
  end
  -- By this, and by the counts themselves, the caller sees whether anything has moved between two looks.
  fields[#fields + 1] = 'token '
  fields[#fields + 1] = call('HGET', SERIAL, 'token') or '0'
  return { '0', findings, fields }
end

local SCHEDULE, SCHEDULES = KEYS[#KEYS - 1], KEYS[#KEYS]

local function judge_schedule(key, text)
  local revision, next_tick = string.match(text, '^(%d+) [01] (%S+) %S+ %S+ [^\n]*\n')
  if not revision then
    find('schedule', key, 'cannot be read')
    return
  end
  if tonumber(revision) > tonumber(call('HGET', SERIAL, 'revision') or 0) then
    find('schedule', key, 'has a revision that is greater than any that was given')
  end
  if tonumber(call('ZSCORE', TICK, key) or nil) ~= tonumber(next_tick) then
    find('tick', key, 'is not the next of the schedule')
  end
  if not call('ZSCORE', SCHEDULES, key) then
    find('schedules', key, 'does not have the schedule')
  end
end

if column == 'schedule' then
  local found = call('HSCAN', SCHEDULE, cursor, 'COUNT', size)
  for i = 1, #found[2], 2 do
    judge_schedule(found[2][i], found[2][i + 1])
  end
  return { found[1], findings, {} }
elseif column == 'schedules' or column == 'tick' then
  local found = call('ZSCAN', column == 'tick' and TICK or SCHEDULES, cursor, 'COUNT', size)
  for i = 1, #found[2], 2 do
    if call('HEXISTS', SCHEDULE, found[2][i]) == 0 then
      find(column, found[2][i], 'belongs to no schedule')
    end
  end
  return { found[1], findings, {} }
end

if column == 'counts' then
  return look_at_counts()
end

local hashes = { record = RECORD, token = TOKEN, progress = PROGRESS, outcome = OUTCOME, recoveries = RECOVERIES, holder = HOLDER }
local indexes = {
  lease = LEASE, completed = COMPLETED, failed = FAILED, cancelled = CANCELLED, expiry = EXPIRY,
  due = DUE[of_queue], suspect = SUSPECT[of_queue],
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
local blobs = column == 'record' and values or read(RECORD, ids)
for i, id in ipairs(ids) do
  look_at(id, blobs[i])
  if column == 'holder' and blobs[i] and key_of(blobs[i]) ~= found[2][2 * i - 1] then
    find('holder', id, 'holds a key that is not its own')
  end
end
local tally = {}
for queue, number in pairs(members) do
  tally[#tally + 1] = { queue, number }
end
return { found[1], findings, tally }
