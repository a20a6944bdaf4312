-- Read one record, or a page of the records in a state, newest first.
-- ARGV[first..]: an id; or state, the ms and the id of the position to begin behind (-1: at the top), and limit.
-- Answers {id, blob, state, due, progress, recoveries, token, outcome, finished} for each.
-- Writes nothing.
if #ARGV == first then
  return { stored(ARGV[first]) }
end

-- The first `limit` places of an index from `highest` down, behind (ms, id).
local function descend(key, highest, lowest, after_ms, after_id, limit, into)
  local offset = 0
  while true do
    local found = call('ZREVRANGEBYSCORE', key, highest, lowest, 'WITHSCORES', 'LIMIT', offset, limit)
    local added = 0
    for i = 1, #found, 2 do
      local at = tonumber(found[i + 1])
      if after_ms < 0 or at < after_ms or (at == after_ms and found[i] < after_id) then
        into[#into + 1] = { at, found[i] }
        added = added + 1
        if added == limit then
          return
        end
      end
    end
    if #found < 2 * limit then
      return
    end
    offset = offset + limit
  end
end

local state, after_ms, after_id, limit = ARGV[first], tonumber(ARGV[first + 1]), ARGV[first + 2], tonumber(ARGV[first + 3])
local places, from = {}, after_ms < 0 and '+inf' or string.format('%.0f', after_ms)
if state == 'queued' or state == 'scheduled' then
  local highest, lowest = from, '-inf'
  if state == 'queued' then
    highest = string.format('%.0f', after_ms < 0 and now or math.min(now, after_ms))
  else
    lowest = '(' .. string.format('%.0f', now)
  end
  for _, name in ipairs(queue_names) do
    descend(DUE[name], highest, lowest, after_ms, after_id, limit, places)
    descend(SUSPECT[name], highest, lowest, after_ms, after_id, limit, places)
  end
elseif state == 'active' then
  -- The one unbounded range: ids are in no index of their own, and as many are active as the workers have slots.
  for _, id in ipairs(call('ZRANGE', LEASE, 0, -1)) do
    if after_ms < 0 or id < after_id then
      places[#places + 1] = { 0, id }
    end
  end
else
  descend(FINISHED[state], from, '-inf', after_ms, after_id, limit, places)
end
table.sort(places, function(one, other)
  if one[1] ~= other[1] then
    return one[1] > other[1]
  end
  return one[2] > other[2]
end)
local answers = {}
for i = 1, math.min(limit, #places) do
  answers[#answers + 1] = stored(places[i][2])
end
return answers
