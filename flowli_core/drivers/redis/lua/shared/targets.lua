-- Read the records that a caller names, to change them. Needs columns.lua, moves.lua.

-- A call reads records until it has read this many bytes, because their payloads and results are read with them.
local MOST_BYTES = 1048576

-- ARGV[first..] has `width` arguments for each target: an id, the state in which the record must be or -, and others. Returns for
-- each target its record, this state, and the position of its other arguments. A record that is named twice is read once.
--
-- All is read before the script writes: so a key of another type fails the script before it has changed anything. It returns only
-- the first targets if they are large, or if the queues would be searched for a second damaged record: see locate.
local function read_targets(width)
  local targets, records, bytes = {}, {}, 0
  for i = first, #ARGV, width do
    local id = ARGV[i]
    if not records[id] then
      local blob, record = call('HGET', RECORD, id), { id = id }
      if blob then
        local kind, shape, _, _, lane = parse_record(blob)
        if not kind and has_searched then
          break
        end
        local state, due, _, outcome, queue = locate(id, kind and shape)
        record = {
          id = id, is_stored = true, kind = kind, shape = shape, key = parse_head(blob), lane = lane,
          state = state, due = due, outcome = outcome, queue = queue,
        }
        bytes = bytes + #blob + #(outcome or '')
      end
      records[id] = record
    end
    targets[#targets + 1] = { records[id], ARGV[i + 1], i + 2 }
    if bytes > MOST_BYTES then
      break
    end
  end
  return targets
end
