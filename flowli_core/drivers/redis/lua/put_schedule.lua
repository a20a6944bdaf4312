-- Store a schedule and the records of its ticks, or remove it, if its revision is still the one that was read.
-- enqueue.lua stands in front of it, as the function `enqueue`.
-- KEYS[#KEYS - 1], KEYS[#KEYS]: each schedule by its key, the keys in order.
-- ARGV[first..]: key, revision (0 if it must not be stored yet). Nothing more removes it. Else: 1 if it is paused, next
--                tick in ms or -, last tick in ms or -, id of the last record or -, queue, spec, and if there are records
--                what enqueue.lua takes.
-- Answers 1, or 0 if it was changed since.
-- First write: that of enqueue.lua, or HINCRBY serial. A full store refuses both before anything has changed; a ZREM,
-- which a full store allows, if the schedule is removed.
local SCHEDULE, SCHEDULES = KEYS[#KEYS - 1], KEYS[#KEYS]
local key, next_tick, last_id, queue = ARGV[first], ARGV[first + 3], ARGV[first + 5], ARGV[first + 6]
local text = call('HGET', SCHEDULE, key)
if (text and string.match(text, '^%d+') or '0') ~= ARGV[first + 1] then
  return 0
end
if not ARGV[first + 2] then
  call('ZREM', TICK, key)
  call('ZREM', SCHEDULES, key)
  call('HDEL', SCHEDULE, key)
  return 1
end
local head = call('ZRANGE', TICK, 0, 0, 'WITHSCORES')
local from = first + 8
if ARGV[from] then
  local refused = {}
  for _, one in ipairs(enqueue(from)[2]) do
    refused[one[1]] = true
  end
  local ids_from = from + 1 + 2 * tonumber(ARGV[from])
  for i = ids_from, #ARGV, 6 do
    if not refused[(i - ids_from) / 6 + 1] then
      last_id = ARGV[i]
    end
  end
end
local revision = string.format('%.0f', call('HINCRBY', SERIAL, 'revision', 1))
local numbers = table.concat({ revision, ARGV[first + 2], next_tick, ARGV[first + 4], last_id, queue }, ' ')
call('HSET', SCHEDULE, key, numbers .. '\n' .. ARGV[first + 7])
call('ZADD', SCHEDULES, 0, key)
if next_tick == '-' then
  call('ZREM', TICK, key)
else
  call('ZADD', TICK, next_tick, key)
  if not head[2] or tonumber(next_tick) < tonumber(head[2]) then
    -- Somebody must learn of the time.
    call('ZADD', WAKE[queue], 0, '0')
  end
end
return 1
