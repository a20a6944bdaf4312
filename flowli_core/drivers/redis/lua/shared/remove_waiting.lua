-- Remove a waiting record from the indexes of its queue. Needs columns.lua, lanes.lua.
local function remove_waiting(id, queue, lane)
  call('ZREM', DUE[queue], id)
  call('ZREM', SUSPECT[queue], id)
  call('ZREM', HELD[queue], id)
  if lane then
    lanes().leave(id, queue, lane)
  end
end
