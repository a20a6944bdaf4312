-- The paused queues. Needs columns.lua.
-- They are stored in the field `paused` of `serial`, which each step reads: a line break, then a line for each, "queue since".
-- A line that cannot be read pauses nothing.

-- Returns the stored text, or false if no queue is paused. The step has read it already. A script that has written may read
-- it, and must not end half-way: so this does not fail if the key has another type.
local paused_text
local function read_paused()
  if paused_text == nil then
    local text = redis.pcall('HGET', SERIAL, 'paused')
    paused_text = type(text) == 'string' and text
  end
  return paused_text
end

-- Returns the text of a time, or false if it is none until the year 5138.
local function since_of(text)
  return number_or(text, 1e14) < 1e14 and text
end

-- Returns when a queue was paused, or nil or false if it is not paused.
local function paused_since(queue)
  -- Each punctuation mark of the name is escaped, because it may be magic in a pattern.
  return read_paused() and since_of(string.match(paused_text, '\n' .. string.gsub(queue, '%p', '%%%0') .. ' (%d+)\n'))
end
