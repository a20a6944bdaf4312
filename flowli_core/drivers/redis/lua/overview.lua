-- Count the records, find the oldest due record of each queue, and list the workers.
-- Needs: shared/columns shared/clock
-- ARGV[first]: a worker is listed if it was last seen less than this many ms ago.
-- Answers {now, {queue, number of queued, number of scheduled, when the oldest due record is due or -1} for each queue,
--          {field, number, ...} of the counts, {worker, when it was last seen, its description} for each worker}.
-- Writes nothing.
read_as_of_last_step()
local queues = {}
for i, name in ipairs(call('SMEMBERS', QUEUES)) do
  local queued, scheduled, oldest = 0, 0, math.huge
  for _, index in ipairs({ DUE[name], SUSPECT[name] }) do
    local waiting = call('ZCARD', index)
    local first_due = waiting > 0 and tonumber(call('ZRANGE', index, 0, 0, 'WITHSCORES')[2]) or math.huge
    local due = 0
    if first_due <= now then
      due, oldest = call('ZCOUNT', index, '-inf', now), math.min(oldest, first_due)
    end
    queued, scheduled = queued + due, scheduled + waiting - due
  end
  queues[i] = { name, queued, scheduled, oldest < math.huge and oldest or -1 }
end
local since = '(' .. format_ms(now - ARGV[first])
local seen, workers = call('ZRANGEBYSCORE', WORKERS, since, '+inf', 'WITHSCORES'), {}
for i = 1, #seen, 2 do
  local about = redis.pcall('HGET', root .. 'worker:' .. seen[i], 'about')
  workers[#workers + 1] = { seen[i], seen[i + 1], type(about) == 'string' and about or '' }
end
return { now, queues, call('HGETALL', COUNTS), workers }
