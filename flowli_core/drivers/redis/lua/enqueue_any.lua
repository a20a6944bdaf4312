-- Store records of all kinds: they may be in lanes, and may replace those that hold their keys.
-- Needs: shared/columns shared/clock shared/watchers shared/paused shared/lanes shared/add_history shared/moves shared/uses shared/identities shared/general shared/add_records shared/remove_waiting shared/replace
-- ARGV[first..]: what read_shapes takes, and then what add_records takes: see add_records.lua.
-- Answers {{digest, text, ...} of stored shapes that differ, now, {number, disposition, id, state, due, attempts} for each record
--          that was not accepted}. If shapes differ, it has stored nothing.
-- First write: HSET record, which a full server refuses before anything has changed; or ZREM lease, if the clock was set back.
local given, differing, at = read_shapes(first)
local refused = {}
if #differing == 0 then
  add_or_replace(given, at, refused)
end
write_counts()
return { differing, now, refused }
