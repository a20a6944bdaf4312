-- Count the records in each state and queue.
-- Answers {for each queue: name, queued, scheduled}, {the counts, as field, number, ...}.
-- Writes nothing.
local waiting = {}
for i, name in ipairs(queue_names) do
  local due = call('ZCOUNT', DUE[name], '-inf', now) + call('ZCOUNT', SUSPECT[name], '-inf', now)
  waiting[i] = { name, due, call('ZCARD', DUE[name]) + call('ZCARD', SUSPECT[name]) - due }
end
return { waiting, call('HGETALL', COUNTS) }
