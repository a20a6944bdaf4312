-- The filters of a listing. Needs columns.lua.

-- Whether there are any, and what a record must have or '' for each: a name, a queue, a part of its attempts, and the number of ms
-- that it must be older than.
local is_filtered, wanted_name, wanted_queue, wanted_part, older_ms = unpack(ARGV, first + 8, first + 12)
is_filtered = is_filtered == '1'

-- A call with filters ends once it has read this many bytes.
local MOST_BYTES, bytes_read = 1048576, 0

local function read_field(key, id)
  local text = call('HGET', key, id)
  bytes_read = bytes_read + #(text or '')
  return text
end

-- Returns a text that begins with the digest of the shape of a record; and when it was reserved, if it is active. It reads neither an
-- input nor a result if something smaller is stored.
local function read_digest(id, state)
  if state == 'active' then
    local _, reserved, _, kind = parse_token(read_field(TOKEN, id) or '')
    if kind then
      return kind, tonumber(reserved)
    end
  elseif state ~= 'completed' or call('HSTRLEN', OUTCOME, id) < call('HSTRLEN', RECORD, id) then
    local _, _, _, _, _, _, kind = parse_outcome(read_field(OUTCOME, id))
    if kind then
      return kind
    end
  end
  return read_field(RECORD, id)
end

-- Returns true if no filter leaves out the record of a position, {ms, id, queue}. One that cannot be read has no name.
local function matches(position, state)
  local id = position[2]
  local text, reserved = read_digest(id, state)
  local shape = text and shape_of(text)
  local queue = shape and shape.queue or position[3]
  if (wanted_name ~= '' and (not shape or shape.name ~= wanted_name)) or (wanted_queue ~= '' and queue ~= wanted_queue) then
    return false
  end
  if older_ms ~= '' and state == 'active' and not (reserved and reserved < now - older_ms) then
    return false
  end
  return wanted_part == '' or string.find(read_field(ATTEMPTS, id) or '', wanted_part, 1, true) ~= nil
end

-- Returns true if the filters do not leave out a record that was read: they need what cannot be read of a damaged one.
local function is_sound_enough(record)
  return #record > 6 or (wanted_name == '' and wanted_part == '')
end
