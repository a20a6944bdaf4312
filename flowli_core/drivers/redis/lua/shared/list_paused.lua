-- List the paused queues. Needs columns.lua, text.lua, paused.lua.

-- Returns {queue, since} for each paused queue.
local function list_paused()
  local list = {}
  for queue, since in string.gmatch(read_paused() or '', '\n([^\n ]+) (%d+)%f[\n]') do
    if since_of(since) and is_text(queue) then
      list[#list + 1] = { queue, since }
    end
  end
  return list
end
