-- The filters of a listing. Needs columns.lua.

-- 1 if there are any; then the name of a record, its queue, a part of its attempts, and the ms that it must be older than. Each is
-- '' if it leaves out nothing.
local is_filtered, wanted_name, wanted_queue, wanted_part, older_ms = unpack(ARGV, first + 8, first + 12)
is_filtered = is_filtered == '1'

-- A call with filters ends once it has read this many bytes.
local MOST_BYTES, bytes_read = 1048576, 0

local function read_field(key, id)
  local text = call('HGET', key, id)
  bytes_read = bytes_read + #(text or '')
  return text
end

-- Returns the shape of a record, or nil. It reads neither an input nor a result if something smaller is stored.
local function read_shape(id, state)
  local kind, _
  if state == 'active' then
    _, _, _, kind = parse_token(read_field(TOKEN, id) or '')
  elseif state ~= 'completed' or call('HSTRLEN', OUTCOME, id) < call('HSTRLEN', RECORD, id) then
    _, _, _, _, _, _, kind = parse_outcome(read_field(OUTCOME, id))
  end
  local text = kind or read_field(RECORD, id)
  return text and shape_of(text)
end

local function is_old_enough(id)
  local _, reserved = parse_token(read_field(TOKEN, id) or '')
  return number_or(reserved, now) < now - older_ms
end

-- Returns true if no filter leaves out the record of a position, {ms, id, queue if it waits}. A damaged record has no name.
local function matches(position, state)
  local id, queue = position[2], position[3]
  if wanted_name ~= '' or (wanted_queue ~= '' and not queue) then
    local shape = read_shape(id, state)
    if not shape or (wanted_name ~= '' and shape.name ~= wanted_name) then
      return false
    end
    queue = shape.queue
  end
  return (wanted_queue == '' or queue == wanted_queue)
    and (older_ms == '' or state ~= 'active' or is_old_enough(id))
    and (wanted_part == '' or string.find(read_field(ATTEMPTS, id) or '', wanted_part, 1, true) ~= nil)
end

-- Returns true if no filter leaves out a record that was read: a damaged one has no name and no attempts.
local function is_sound_enough(record)
  return #record > 6 or (wanted_name == '' and wanted_part == '')
end
