-- Make a held record wait in its queue, if it is in no lane and no unfinished record is before it. Remove an entry of `behind` that
-- belongs to no held record. See _audit.py.
-- Needs: shared/columns shared/watchers shared/paused shared/lanes shared/moves
-- ARGV[first..]: the id of the record.
-- Answers 1 if it has changed something, or 0.
-- First write: HSET behind.
local id = ARGV[first]
local blob = call('HGET', RECORD, id)
local kind, shape, _, _, lane = parse_record(blob or '')
local is_held = kind and call('ZSCORE', HELD[shape.queue], id)
local waits_for = call('HGET', BEHIND, id)
local other = waits_for and call('HGET', RECORD, waits_for)
local state = other and locate(waits_for, (shape_of(other)))
local is_behind = state and not FINISHED[state] and not call('HGET', BEHIND, waits_for) and (is_held or (blob and not kind))
if is_behind or (not waits_for and (lane or not is_held)) then
  return 0
end
call('HSET', BEHIND, id, '')
admit_behind('', id)
refresh_lanes()
return 1
