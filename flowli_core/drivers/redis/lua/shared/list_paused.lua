-- List the paused queues. Needs columns.lua, text.lua. See paused.lua.

-- Returns {queue, since} for each paused queue.
local function list_paused()
  local list = {}
  for queue, since in string.gmatch(call('HGET', SERIAL, 'paused') or '', '\n([^\n ]+) (%d+)%f[\n]') do
    if number_or(since, 1e14) < 1e14 and is_text(queue) then
      list[#list + 1] = { queue, since }
    end
  end
  return list
end
