-- Store records that are not there yet, all of them or none.
-- ARGV[first..]: how many shapes, each as digest, text; then for each record: id, digest, key, 'd' or 'a' (a delay or a
--                moment), ms, the rest of its blob.
-- Answers {now, {place, disposition, id, state, due, progress} for those that were not accepted}.
-- First write: HSET record, which a full store refuses before anything has changed.
local shape_count = tonumber(ARGV[first])
local given, at = {}, first + 1
for _ = 1, shape_count do
  local text = ARGV[at + 1]
  local most, queue = string.match(text, '^(%d+) %d+ %d+ ([^\n]*)\n')
  given[ARGV[at]] = { text = text, queue = queue, is_suspect = tonumber(most) == 0 }
  at = at + 2
end
local ids = {}
for i = at, #ARGV, 6 do
  ids[#ids + 1] = ARGV[i]
end
local there = read(RECORD, ids)
local new, keys, records, holders, places, refusals, wake = {}, {}, {}, {}, {}, {}, {}

local function described(place, disposition, id, blob)
  local state, due
  local active, waits = call('HGET', TOKEN, id), nil
  if active then
    state, due = 'active', held(active).due
  else
    local queue = shape_of(blob).queue
    waits = call('ZSCORE', DUE[queue], id) or call('ZSCORE', SUSPECT[queue], id)
    if waits then
      due = tonumber(waits)
      state = due > now and 'scheduled' or 'queued'
    else
      local last = outcome_of(call('HGET', OUTCOME, id))
      state, due = last.state, last.due
    end
  end
  return { place, disposition, id, state, string.format('%.0f', due), call('HGET', PROGRESS, id) }
end

-- One of this call's own.
local function told(place, disposition, id)
  return { place, disposition, id, new[id] > now and 'scheduled' or 'queued', string.format('%.0f', new[id]), false }
end

for k = 1, #ids do
  local from = at + 6 * (k - 1)
  local id, digest, key, ms = ids[k], ARGV[from + 1], ARGV[from + 2], tonumber(ARGV[from + 4])
  local holder = key ~= '' and (keys[key] or call('HGET', HOLDER, key))
  if holder and not new[holder] and call('HEXISTS', RECORD, holder) == 0 then
    holder = nil
  end
  if new[id] then
    refusals[#refusals + 1] = told(k, 'duplicate', id)
  elseif there[k] then
    refusals[#refusals + 1] = described(k, 'duplicate', id, there[k])
  elseif holder and new[holder] then
    refusals[#refusals + 1] = told(k, 'existing', holder)
  elseif holder then
    refusals[#refusals + 1] = described(k, 'existing', holder, call('HGET', RECORD, holder))
  else
    local due = ARGV[from + 3] == 'd' and now + ms or math.max(now, ms)
    local shape = given[digest]
    new[id] = due
    records[#records + 1] = id
    records[#records + 1] = digest .. now_text .. ' ' .. key .. '\n' .. ARGV[from + 5]
    if key ~= '' then
      keys[key] = id
      holders[#holders + 1] = key
      holders[#holders + 1] = id
    end
    local index = (shape.is_suspect and SUSPECT or DUE)[shape.queue]
    local some = places[index]
    if not some then
      some = {}
      places[index] = some
    end
    some[#some + 1] = due == now and now_text or string.format('%.0f', due)
    some[#some + 1] = id
    wake[shape.queue] = math.min(wake[shape.queue] or due, due)
  end
end

if #records > 0 then
  many('HSET', RECORD, records, 2)
  for digest, shape in pairs(given) do
    call('HSETNX', SHAPE, digest, shape.text)
  end
  many('HSET', HOLDER, holders, 2)
  for queue, soonest in pairs(wake) do
    if not known[queue] then
      call('SADD', QUEUES, queue)
    end
    if soonest > now then
      local head = call('ZRANGE', DUE[queue], 0, 0, 'WITHSCORES')
      if head[2] and soonest >= tonumber(head[2]) then
        soonest = nil
      end
    end
    if soonest then
      call('ZADD', WAKE[queue], 0, '0')
    end
  end
  for index, some in pairs(places) do
    many('ZADD', index, some, 2)
  end
end
return { now, refusals }
