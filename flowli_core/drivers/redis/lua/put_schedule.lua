-- Store a schedule and the records of its ticks, or remove the schedule, if its revision is still the one that was read.
-- Needs: shared/columns shared/tokens shared/clock shared/watchers shared/paused shared/lanes shared/add_history shared/moves shared/uses shared/identities shared/general shared/add_records shared/remove_waiting shared/replace shared/wake_up
-- KEYS[#KEYS - 1], KEYS[#KEYS]: the schedules by key, the index of their keys.
-- ARGV[first..]: key, revision (0 if it must not be stored yet), and to remove it nothing more. To store it: 1 if it is
--                paused, next tick in ms or -, last tick in ms or -, id of the last record or -, queue, spec, and if there
--                are records, what enqueue.lua takes.
-- Answers {{digest, text, ...} of stored shapes that differ, 1, or 0 if the schedule has another revision}.
-- First write: that of add_records.lua, or HSET serial, which a full server refuses before anything has changed. To
--              remove or pause a schedule: a ZREM, so that it can be stopped even when memory is full.
local SCHEDULE, SCHEDULES = KEYS[#KEYS - 1], KEYS[#KEYS]
local key, revision, is_paused, next_tick, last_tick, last_id, queue, spec = unpack(ARGV, first, first + 7)
local stored = call('HGET', SCHEDULE, key)
-- A revision that cannot be read counts as 0: see unpack_schedule in _packing.py.
if number_or(string.match(stored or '', '^%d+'), 0) ~= tonumber(revision) then
  return { {}, 0 }
end
local records_from = first + 8
if not is_paused or (is_paused == '1' and not ARGV[records_from]) then
  call('ZREM', TICK, key)
end
if not is_paused then
  call('ZREM', SCHEDULES, key)
  call('HDEL', SCHEDULE, key)
  return { {}, 1 }
end
local first_tick = tonumber(call('ZRANGE', TICK, 0, 0, 'WITHSCORES')[2])
if ARGV[records_from] then
  local is_refused, refused, given, differing, at = {}, {}, read_shapes(records_from)
  if #differing > 0 then
    return { differing, 0 }
  end
  add_or_replace(given, at, refused)
  write_counts()
  for _, one in ipairs(refused) do
    is_refused[one[1]] = true
  end
  for i = at, #ARGV, 6 do
    if not is_refused[(i - at) / 6 + 1] then
      last_id = ARGV[i]
    end
  end
end
-- A revision is issued only after the clock was followed.
follow_clock(number_or(call('HGET', SERIAL, 'now'), 0))
revision = next_number(call('HGET', SERIAL, 'revision'), revision)
call('HSET', SERIAL, 'revision', revision)
local head = table.concat({ revision, is_paused, next_tick, last_tick, last_id, queue }, ' ')
call('HSET', SCHEDULE, key, head .. '\n' .. spec)
call('ZADD', SCHEDULES, 0, key)
if next_tick == '-' then
  call('ZREM', TICK, key)
else
  call('ZADD', TICK, next_tick, key)
  if not first_tick or tonumber(next_tick) < first_tick then
    -- A waiter must learn of the earlier tick.
    wake_up(queue)
  end
end
return { {}, 1 }
