-- Read a schedule, those whose tick has come, or a page of all in the order of their keys.
-- KEYS[#KEYS - 1], KEYS[#KEYS]: each schedule by its key, the keys in order.
-- ARGV[first..]: 'one' and its key; or 'due' and a limit; or 'page', a limit and, but for the first page, the key to begin
--                behind.
-- Answers {now, {key, "revision paused next last record queue\\nspec"} for each}.
-- First write: a ZREM of a tick that belongs to no schedule.
local SCHEDULE, SCHEDULES = KEYS[#KEYS - 1], KEYS[#KEYS]
local mode, limit, keys = ARGV[first], ARGV[first + 1], nil
if mode == 'one' then
  keys = { ARGV[first + 1] }
elseif mode == 'due' then
  keys = call('ZRANGEBYSCORE', TICK, '-inf', now, 'LIMIT', 0, limit)
else
  keys = call('ZRANGEBYLEX', SCHEDULES, ARGV[first + 2] and '(' .. ARGV[first + 2] or '-', '+', 'LIMIT', 0, limit)
end
local texts, found = read(SCHEDULE, keys), {}
for i, key in ipairs(keys) do
  if texts[i] then
    found[#found + 1] = { key, texts[i] }
  elseif mode == 'due' then
    call('ZREM', TICK, key)
  end
end
return { now, found }
