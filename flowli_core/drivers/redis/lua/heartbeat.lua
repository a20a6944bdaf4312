-- Extend the leases that the worker holds, expired ones too if they have not been recovered yet; and store its reports.
-- Needs: shared/columns shared/tokens shared/clock shared/watchers shared/reports
-- KEYS[#KEYS]: the worker's last step, which is kept while the worker is alive.
-- ARGV[first..]: worker, lease ms, for how many ms to remember a worker, how many reports, the reports (see reports.lua), and for
--                each lease: id, token.
-- Answers {ids of lost leases, ids of the other records that are to be cancelled}.
-- First write: a ZREM of nothing, so that leases can be renewed when memory is full.
local WORKER = KEYS[#KEYS]
call('ZREM', LEASE, '')
follow_clock(number_or(call('HGET', SERIAL, 'now'), 0))
local worker, lease_ms, remember_ms, report_count = unpack(ARGV, first, first + 3)
local leases_from = first + 4 + 5 * report_count
store_reports(first + 4, leases_from - 1, worker)
local lease_end, ids = format_ms(now + lease_ms), {}
for i = leases_from, #ARGV, 2 do
  ids[#ids + 1] = ARGV[i]
end
local tokens, lost, cancelled, leases = read_fields(TOKEN, ids), {}, {}, {}
local any_cancelling = call('SCARD', CANCELLING) > 0
for k, id in ipairs(ids) do
  if is_held(tokens[k], ARGV[leases_from + 2 * k - 1], worker) then
    append(leases, lease_end, id)
    if any_cancelling and call('SISMEMBER', CANCELLING, id) == 1 then
      cancelled[#cancelled + 1] = id
    end
  else
    lost[#lost + 1] = id
  end
end
call_with_all('ZADD', LEASE, leases, 2)
if call('EXISTS', WORKER) == 1 then
  call('HSET', WORKER, 'seen', now_text)
  call('PEXPIRE', WORKER, remember_ms)
end
return { lost, cancelled }
