-- Store records that are not stored yet, all of them or none. None is in a lane or may replace another: see enqueue_any.lua.
-- Needs: shared/general_alone shared/add_history shared/add_records
-- ARGV[first..]: what read_shapes takes, and then what add_records takes: see add_records.lua.
-- Answers {{digest, text, ...} of stored shapes that differ, now, {number, disposition, id, state, due, attempts} for each record
--          that was not accepted}. If shapes differ, it has stored nothing.
-- First write: HSET record, which a full server refuses before anything has changed.
local given, differing, at = read_shapes(first)
local refused = {}
if #differing == 0 then
  add_records(given, at, 1, (#ARGV - at + 1) / 6, refused)
end
return { differing, now, refused }
