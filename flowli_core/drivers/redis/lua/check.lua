-- Try every command that the other scripts use, on a key that nobody else uses, and tell which the user may not call.
-- KEYS[1]: that key. The columns are not in front of this one, because they call some of the commands themselves.
-- Answers the name of the first that is refused, or 'unknown' and the name of one that the server does not have, or ''.
-- First write: DEL of that key. It is there only while this runs.
local SCRATCH = KEYS[1]
local tries = {
  { 'DEL', SCRATCH }, { 'TIME' }, { 'EXISTS', SCRATCH }, { 'HGET', SCRATCH, 'f' }, { 'HMGET', SCRATCH, 'f' },
  { 'HGETALL', SCRATCH }, { 'HDEL', SCRATCH, 'f' }, { 'SCARD', SCRATCH }, { 'SMEMBERS', SCRATCH },
  { 'SISMEMBER', SCRATCH, 'm' }, { 'SREM', SCRATCH, 'm' }, { 'ZCARD', SCRATCH }, { 'ZCOUNT', SCRATCH, 0, 0 },
  { 'ZRANGE', SCRATCH, 0, 0 }, { 'ZRANGEBYSCORE', SCRATCH, 0, 0 }, { 'ZREVRANGEBYSCORE', SCRATCH, 0, 0 }, { 'ZRANGEBYLEX', SCRATCH, '-', '+' },
  { 'ZSCORE', SCRATCH, 'm' }, { 'ZREM', SCRATCH, 'm' }, { 'ZADD', SCRATCH, 'XX', 0, 'm' },
  { 'HSET', SCRATCH, 'f', 'v' }, { 'HSETNX', SCRATCH, 'f', 'v' }, { 'HINCRBY', SCRATCH, 'n', 1 }, { 'PEXPIRE', SCRATCH, 1 },
  { 'DEL', SCRATCH }, { 'SADD', SCRATCH, 'm' }, { 'DEL', SCRATCH },
}
local function refused(what)
  redis.pcall('DEL', SCRATCH)
  return what
end
for _, one in ipairs(tries) do
  local reply = redis.pcall(unpack(one))
  local refusal = type(reply) == 'table' and reply.err or ''
  if string.find(refusal, 'NOPERM', 1, true) or string.find(refusal, "can't run this command", 1, true)
    or string.find(refusal, 'ACL failure', 1, true) or string.find(refusal, 'no permissions', 1, true) then
    return refused(string.lower(one[1]))
  end
  if string.find(string.lower(refusal), 'unknown', 1, true) then
    return refused('unknown ' .. string.lower(one[1]))
  end
end
return ''
