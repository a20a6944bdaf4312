-- Extend the leases whose token is current, also one that has ended where nobody has recovered it yet.
-- KEYS[#KEYS]: the worker's last step, which is remembered for as long as the worker is heard of.
-- ARGV[first..]: lease ms, how long a worker is remembered in ms, and for each lease: id, token.
-- Answers {lost ids, ids whose cancellation was asked for}.
-- First write: a ZREM that changes nothing, so that leases can be renewed when memory is full.
call('ZREM', LEASE, '')
local until_ms, remember_ms, ids = now + tonumber(ARGV[first]), tonumber(ARGV[first + 1]), {}
for i = first + 2, #ARGV, 2 do
  ids[#ids + 1] = ARGV[i]
end
local tokens, lost, cancelled, leases = read(TOKEN, ids), {}, {}, {}
local has_requests = call('SCARD', CANCELLING) > 0
for k, id in ipairs(ids) do
  if tokens[k] and string.match(tokens[k], '^%d+') == ARGV[first + 1 + 2 * k] then
    leases[#leases + 1] = until_ms
    leases[#leases + 1] = id
    if has_requests and call('SISMEMBER', CANCELLING, id) == 1 then
      cancelled[#cancelled + 1] = id
    end
  else
    lost[#lost + 1] = id
  end
end
many('ZADD', LEASE, leases, 2)
local WORKER = KEYS[#KEYS]
if call('EXISTS', WORKER) == 1 then
  call('HSET', WORKER, 'heard', now_text)
  call('PEXPIRE', WORKER, remember_ms)
end
return { lost, cancelled }
