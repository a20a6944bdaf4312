-- Count the records, find the oldest due record of each queue, and list the workers that are alive.
-- Needs: shared/columns
-- ARGV[first]: a worker is alive if it was last seen less than this many ms ago.
-- Answers {now, {queue, number of queued, number of scheduled, when the oldest due record is due or -1} for each queue,
--          {field, number, ...} of the counts, {worker, when it was last seen, ...}}.
-- Writes nothing.
local queues = {}
for i, name in ipairs(call('SMEMBERS', QUEUES)) do
  local queued, waiting, oldest = 0, 0, math.huge
  for _, index in ipairs({ DUE[name], SUSPECT[name] }) do
    local due = call('ZCOUNT', index, '-inf', now)
    queued, waiting = queued + due, waiting + call('ZCARD', index)
    if due > 0 then
      oldest = math.min(oldest, tonumber(call('ZRANGE', index, 0, 0, 'WITHSCORES')[2]))
    end
  end
  queues[i] = { name, queued, waiting - queued, oldest < math.huge and oldest or -1 }
end
local since = '(' .. format_ms(now - ARGV[first])
return { now, queues, call('HGETALL', COUNTS), call('ZRANGEBYSCORE', WORKERS, since, '+inf', 'WITHSCORES') }
