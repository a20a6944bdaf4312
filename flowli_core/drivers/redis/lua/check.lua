-- Try each command that the other scripts call, and find the first that the user may not call or that the server lacks.
-- KEYS[1]: a key that only this script uses. It does not need columns.lua, which calls some of the commands itself.
-- Answers the name of a command that is refused, or 'unknown ' and the name of one that the server lacks, or ''.
-- First write: DEL of the key, so that a driver opens when memory is full. If no command is refused, the key then has a
--              member for a minute, for the wait that the caller tries next.
local SCRATCH = KEYS[1]
local tries = {
  { 'DEL', SCRATCH }, { 'TIME' }, { 'EXISTS', SCRATCH }, { 'TYPE', SCRATCH }, { 'HGET', SCRATCH, 'f' },
  { 'HLEN', SCRATCH }, { 'HSTRLEN', SCRATCH, 'f' }, { 'HMGET', SCRATCH, 'f' },
  { 'HSCAN', SCRATCH, '0' }, { 'HDEL', SCRATCH, 'f' }, { 'SCARD', SCRATCH },
  { 'SMEMBERS', SCRATCH }, { 'SSCAN', SCRATCH, '0' }, { 'SISMEMBER', SCRATCH, 'm' }, { 'SREM', SCRATCH, 'm' },
  { 'ZCARD', SCRATCH }, { 'ZCOUNT', SCRATCH, 0, 0 },
  { 'ZRANGE', SCRATCH, 0, 0 }, { 'ZRANGEBYSCORE', SCRATCH, 0, 0 }, { 'ZREVRANGEBYSCORE', SCRATCH, 0, 0 },
  { 'ZRANGEBYLEX', SCRATCH, '-', '+' },
  { 'ZSCORE', SCRATCH, 'm' }, { 'ZREM', SCRATCH, 'm' }, { 'ZADD', SCRATCH, 'XX', 0, 'm' },
  { 'HSET', SCRATCH, 'f', 'v' }, { 'HINCRBY', SCRATCH, 'n', 1 }, { 'PEXPIRE', SCRATCH, 1 },
  { 'DEL', SCRATCH }, { 'SADD', SCRATCH, 'm' }, { 'DEL', SCRATCH },
  { 'RPUSH', SCRATCH, 'm' }, { 'LLEN', SCRATCH }, { 'LINDEX', SCRATCH, 0 }, { 'LPOP', SCRATCH }, { 'DEL', SCRATCH },
  { 'ZADD', SCRATCH, 0, '0' }, { 'PEXPIRE', SCRATCH, 60000 },
}
local function contains(text, part)
  return string.find(text, part, 1, true) ~= nil
end
for _, words in ipairs(tries) do
  local reply = redis.pcall(unpack(words))
  local refusal = type(reply) == 'table' and reply.err or ''
  local is_forbidden = contains(refusal, 'NOPERM') or contains(refusal, "can't run this command")
    or contains(refusal, 'ACL failure') or contains(refusal, 'no permissions')
  local is_unknown = contains(string.lower(refusal), 'unknown')
  if is_forbidden or is_unknown then
    redis.pcall('DEL', SCRATCH)
    return (is_forbidden and '' or 'unknown ') .. string.lower(words[1])
  end
end
return ''
