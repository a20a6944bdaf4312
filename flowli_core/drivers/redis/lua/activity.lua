-- Tell which workers were heard of lately, and since when the first record of each queue waits.
-- ARGV[first]: after how many ms a worker that was not heard of is taken for gone.
-- Answers {now, {queue, due, ...} for those that have any due, {worker, when it was heard of, ...}}.
-- Writes nothing.
local oldest = {}
for _, name in ipairs(queue_names) do
  local soonest = nil
  for _, index in ipairs({ DUE[name], SUSPECT[name] }) do
    local head = call('ZRANGEBYSCORE', index, '-inf', now, 'WITHSCORES', 'LIMIT', 0, 1)
    if head[2] and (not soonest or tonumber(head[2]) < soonest) then
      soonest = tonumber(head[2])
    end
  end
  if soonest then
    oldest[#oldest + 1] = name
    oldest[#oldest + 1] = soonest
  end
end
return { now, oldest, call('ZRANGEBYSCORE', WORKERS, '(' .. string.format('%.0f', now - tonumber(ARGV[first])), '+inf', 'WITHSCORES') }
