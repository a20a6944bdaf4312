-- Find the keys that hold another type than they should.
-- KEYS: the keys. It does not need columns.lua, which fails if a key has another type.
-- ARGV: the type of each.
-- Answers {key, its type, the type that it should have} for each that differs.
-- Writes nothing.
local found = {}
for i, key in ipairs(KEYS) do
  local reply = redis.call('TYPE', key)
  local kind = type(reply) == 'table' and reply.ok or reply
  if kind ~= 'none' and kind ~= ARGV[i] then
    found[#found + 1] = { key, kind, ARGV[i] }
  end
end
return found
