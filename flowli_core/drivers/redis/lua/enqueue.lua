-- Store records that are not there yet, all of them or none.
-- ARGV[first..]: how many shapes, each as digest, text; then for each record: id, digest, key, 'd' or 'a' (a delay or a
--                moment), ms, the rest of its blob.
-- Answers {now, {disposition, id, state, due, progress} for each}.
-- First write: HSET record, which a full store refuses before anything has changed.
local shape_count = tonumber(ARGV[first])
local given, at = {}, first + 1
for _ = 1, shape_count do
  given[ARGV[at]] = ARGV[at + 1]
  at = at + 2
end
local ids = {}
for i = at, #ARGV, 6 do
  ids[#ids + 1] = ARGV[i]
end
local there = read(RECORD, ids)
local new, keys, records, holders, dues, answers, wake, queues = {}, {}, {}, {}, {}, {}, {}, {}

local function described(disposition, id, blob)
  local active, waits = call('HGET', TOKEN, id), nil
  if active then
    return { disposition, id, 'active', held(active).due, call('HGET', PROGRESS, id) }
  end
  local queue = shape_of(blob).queue
  waits = call('ZSCORE', DUE[queue], id) or call('ZSCORE', SUSPECT[queue], id)
  if waits then
    waits = tonumber(waits)
    return { disposition, id, waits > now and 'scheduled' or 'queued', waits, call('HGET', PROGRESS, id) }
  end
  local last = outcome_of(call('HGET', OUTCOME, id))
  return { disposition, id, last.state, last.due, call('HGET', PROGRESS, id) }
end

for k = 1, #ids do
  local from = at + 6 * (k - 1)
  local id, digest, key, kind, ms, rest = ids[k], ARGV[from + 1], ARGV[from + 2], ARGV[from + 3], ARGV[from + 4], ARGV[from + 5]
  local holder = key ~= '' and (keys[key] or call('HGET', HOLDER, key))
  if holder and not new[holder] and call('HEXISTS', RECORD, holder) == 0 then
    holder = nil
  end
  if there[k] or new[id] then
    answers[k] = new[id] and { 'duplicate', id, new[id].state, new[id].due, false } or described('duplicate', id, there[k])
  elseif holder then
    answers[k] = new[holder] and { 'existing', holder, new[holder].state, new[holder].due, false }
      or described('existing', holder, call('HGET', RECORD, holder))
  else
    local due = kind == 'd' and now + tonumber(ms) or math.max(now, tonumber(ms))
    local queue = string.match(given[digest], '^%d+ %d+ %d+ ([^\n]*)\n')
    local state = due > now and 'scheduled' or 'queued'
    new[id] = { due = due, state = state }
    records[#records + 1] = id
    records[#records + 1] = digest .. string.format('%.0f', now) .. ' ' .. key .. '\n' .. rest
    if key ~= '' then
      keys[key] = id
      holders[#holders + 1] = key
      holders[#holders + 1] = id
    end
    if tonumber(string.match(given[digest], '^%d+')) == 0 then
      queues[queue] = queues[queue] or {}
      table.insert(queues[queue], { id, due })
    else
      dues[queue] = dues[queue] or {}
      table.insert(dues[queue], due)
      table.insert(dues[queue], id)
    end
    if due <= now then
      wake[queue] = true
    else
      local head = call('ZRANGE', DUE[queue], 0, 0, 'WITHSCORES')
      wake[queue] = wake[queue] or not head[2] or due < tonumber(head[2])
    end
    answers[k] = { 'accepted', id, state, due, false }
  end
end

if #records > 0 then
  many('HSET', RECORD, records, 2)
  for digest, text in pairs(given) do
    call('HSETNX', SHAPE, digest, text)
  end
  many('HSET', HOLDER, holders, 2)
  for queue, places in pairs(dues) do
    call('SADD', QUEUES, queue)
    many('ZADD', DUE[queue], places, 2)
  end
  for queue, places in pairs(queues) do
    call('SADD', QUEUES, queue)
    for _, place in ipairs(places) do
      call('ZADD', SUSPECT[queue], place[2], place[1])
    end
  end
  for queue, is_sooner in pairs(wake) do
    if is_sooner then
      call('ZADD', WAKE[queue], 0, '0')
    end
  end
end
return { now, answers }
