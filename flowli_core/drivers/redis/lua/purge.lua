-- Remove finished records, the oldest first.
-- Needs: shared/columns shared/watchers shared/paused shared/lanes shared/moves shared/uses shared/remove
-- ARGV[first..]: state, older than ms, limit, 'all'; or 'ids' and the ids to which it is restricted.
-- Answers how many were removed.
-- First write: a ZREM.
local state, older_ms, limit, which = unpack(ARGV, first, first + 3)
local before, ids = now - older_ms, {}
if which == 'all' then
  ids = call('ZRANGEBYSCORE', FINISHED[state], '-inf', '(' .. format_ms(before), 'LIMIT', 0, limit)
else
  local is_known, entries = {}, {}
  for i = first + 4, #ARGV do
    local id = ARGV[i]
    local finished = not is_known[id] and tonumber(call('ZSCORE', FINISHED[state], id) or nil)
    is_known[id] = true
    if finished and finished < before then
      entries[#entries + 1] = { finished, id }
    end
  end
  table.sort(entries, function(one, other)
    return one[1] < other[1] or (one[1] == other[1] and one[2] < other[2])
  end)
  for i = 1, math.min(#entries, limit) do
    ids[i] = entries[i][2]
  end
end
remove(ids, state)
write_counts()
return #ids
