-- Remove finished records, the oldest first.
-- ARGV[first..]: state, older than ms, limit.
-- Answers how many were removed.
-- First write: a ZREM.
local state, older_ms, limit = ARGV[first], tonumber(ARGV[first + 1]), tonumber(ARGV[first + 2])
local ids = call('ZRANGEBYSCORE', FINISHED[state], '-inf', '(' .. string.format('%.0f', now - older_ms), 'LIMIT', 0, limit)
remove(ids)
write_counts()
return #ids
