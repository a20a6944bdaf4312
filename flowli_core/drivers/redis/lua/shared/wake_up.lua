-- Wake a waiter of a queue that may have no records. Needs columns.lua.

-- Nothing removes the wake-up of a queue without records, so it expires. It is kept for longer than the moment between the
-- step of a worker and the wait that follows.
local function wake_up(queue)
  call('ZADD', WAKE[queue], 0, '0')
  if call('SISMEMBER', QUEUES, queue) == 0 then
    call('PEXPIRE', WAKE[queue], 60000)
  end
end
