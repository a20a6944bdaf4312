-- Remove finished records, the oldest first.
-- Needs: shared/columns shared/watchers shared/moves shared/uses shared/remove
-- ARGV[first..]: state, older than ms, limit.
-- Answers how many were removed.
-- First write: a ZREM.
local state, older_ms, limit = unpack(ARGV, first, first + 2)
local ids = call('ZRANGEBYSCORE', FINISHED[state], '-inf', '(' .. format_ms(now - older_ms), 'LIMIT', 0, limit)
remove(ids, state)
write_counts()
return #ids
