-- Find the keys that hold another type than they should. Delete wake-ups that do: nothing is lost with one.
-- KEYS: the keys. It does not need columns.lua, which fails if a key has another type.
-- ARGV: the type of each, or 'wake' for a wake-up.
-- Answers {key, its type, the type that it should have} for each that differs.
-- First write: DEL of a wake-up.
local found = {}
for i, key in ipairs(KEYS) do
  local reply = redis.call('TYPE', key)
  local kind = type(reply) == 'table' and reply.ok or reply
  if ARGV[i] == 'wake' and kind ~= 'zset' then
    redis.call('DEL', key)
  elseif ARGV[i] ~= 'wake' and kind ~= 'none' and kind ~= ARGV[i] then
    found[#found + 1] = { key, kind, ARGV[i] }
  end
end
return found
