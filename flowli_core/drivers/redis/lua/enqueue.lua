-- Store records that are not stored yet, all of them or none.
-- Needs: shared/columns shared/clock shared/paused shared/add_history shared/add_records
-- ARGV[first..]: see add_records.lua.
-- Answers {{digest, text, ...} of stored shapes that differ, now, {position, disposition, id, state, due, attempts} for each record
--          that was not accepted}.
-- First write: HSET record, which a full server refuses before anything has changed.
local refused, differing = add_records(first)
return { differing, now, refused }
