-- Remove a schedule. The records of its ticks stay.
-- KEYS[#KEYS - 1], KEYS[#KEYS]: each schedule by its key, the keys in order.
-- ARGV[first]: key.
-- Answers 1 where there was one, else 0.
-- First write: a ZREM.
local key = ARGV[first]
call('ZREM', TICK, key)
call('ZREM', KEYS[#KEYS], key)
return call('HDEL', KEYS[#KEYS - 1], key)
