-- Count the records, find the oldest due record of each queue, and list the workers.
-- Needs: shared/columns
-- ARGV[first]: a worker is listed if it was last seen less than this many ms ago.
-- Answers {now, {queue, number of queued, number of scheduled, when the oldest due record is due or -1} for each queue,
--          {field, number, ...} of the counts, {worker, when it was last seen, its description} for each worker}.
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
local seen, workers = call('ZRANGEBYSCORE', WORKERS, since, '+inf', 'WITHSCORES'), {}
for i = 1, #seen, 2 do
  local about = redis.pcall('HGET', root .. 'worker:' .. seen[i], 'about')
  workers[#workers + 1] = { seen[i], seen[i + 1], type(about) == 'string' and about or '' }
end
return { now, queues, call('HGETALL', COUNTS), workers }
