-- Count the records, find the oldest due record of each queue, and list the workers that are alive.
-- ARGV[first]: a worker is alive if it was last seen less than this many ms ago.
-- Answers {now, {queue, how many are queued, how many are scheduled, when the oldest due is due or -1} for each queue,
--          {field, number, ...} of the counts, {worker, when it was last seen, ...}}.
-- Writes nothing.
local queues = {}
for i, name in ipairs(queue_names) do
  local queued, waiting, oldest = 0, 0, nil
  for _, index in ipairs({ DUE[name], SUSPECT[name] }) do
    local due = call('ZCOUNT', index, '-inf', now)
    queued, waiting = queued + due, waiting + call('ZCARD', index)
    if due > 0 then
      local at = tonumber(call('ZRANGE', index, 0, 0, 'WITHSCORES')[2])
      oldest = math.min(oldest or at, at)
    end
  end
  queues[i] = { name, queued, waiting - queued, oldest or -1 }
end
local since = '(' .. string.format('%.0f', now - tonumber(ARGV[first]))
return { now, queues, call('HGETALL', COUNTS), call('ZRANGEBYSCORE', WORKERS, since, '+inf', 'WITHSCORES') }
