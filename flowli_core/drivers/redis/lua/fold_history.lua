-- Fold the numbers of some pairs of queue and job, those first that were counted first: see shared/add_history.lua.
-- Needs: shared/columns shared/fold_history
-- ARGV[first..]: how many pairs.
-- Answers {now, how many pairs there were}.
-- First write: a ZREM of nothing, so that the history can be read when memory is full.
call('ZREM', LEASE, '')
local count = redis.pcall('ZCARD', PAIRS)
if type(count) == 'table' then
  call('DEL', PAIRS)
  count = 0
end
for _, pair in ipairs(call('ZRANGE', PAIRS, 0, ARGV[first] - 1)) do
  fold(pair)
end
return { now, count }
