-- The paused queues. Needs head.lua.
-- They are stored in the field `paused` of `serial`, which each step reads: a line break, then a line for each, "queue since".
-- A line that cannot be read pauses nothing, and neither does a time after the year 5138.

-- The stored text, false if no queue is paused, or nil if it has not been read. The step has read it already.
local paused_text

-- Returns when a queue was paused, or nil or false if it is not paused. A script that has written may call this, and must not end
-- half-way: so it does not fail if the key has another type.
local function paused_since(queue)
  if paused_text == nil then
    local text = redis.pcall('HGET', root .. 'serial', 'paused')
    paused_text = type(text) == 'string' and text
  end
  -- Each punctuation mark of the name is escaped, because it may be magic in a pattern.
  local since = paused_text and string.match(paused_text, '\n' .. string.gsub(queue, '%p', '%%%0') .. ' (%d+)\n')
  return number_or(since, 1e14) < 1e14 and since
end
