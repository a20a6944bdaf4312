-- Take back recoveries: their workers have named leases that they no longer hold, so they are alive. The driver calls this only
-- after a step or a heartbeat with such a lease, so it costs nothing otherwise.
-- Needs: shared/columns shared/clock shared/watchers shared/paused shared/lanes shared/moves
-- ARGV[first..]: how many recoveries of a record are taken back at most, and for each lost lease: id, token.
-- Answers how many were taken back.
-- First write: a ZREM of nothing, so that the records run even if memory is full.
call('ZREM', LEASE, '')
follow_clock(number_or(call('HGET', SERIAL, 'now'), 0))

-- Take back the last recovery of an unfinished record, if it was under this token. Returns true if it was.
local function take_back(id, token, most)
  local number, taken_back, last = string.match(call('HGET', RECOVERIES, id) or '', '^(%d+) (%d+) (%S+)$')
  number, taken_back = number_or(number, 0), number_or(taken_back, 0)
  if last ~= token or number == 0 or taken_back >= most then
    return false
  end
  local kind, shape, _, _, lane = parse_record(call('HGET', RECORD, id) or '')
  local state, due, _, _, queue = locate(id, kind and shape)
  if not kind or not state or FINISHED[state] then
    return false
  end
  call('HSET', RECOVERIES, id, format_ms(number - 1) .. ' ' .. format_ms(taken_back + 1) .. ' -')
  if queue and number == shape.max_recoveries then
    -- It is no longer a suspect.
    add_waiting(id, shape, due, lane)
    call('ZREM', SUSPECT[queue], id)
    call('SREM', root .. 'lane_suspects', id)
  end
  return true
end

local count_taken_back = 0
for i = first + 1, #ARGV, 2 do
  if take_back(ARGV[i], ARGV[i + 1], tonumber(ARGV[first])) then
    count_taken_back = count_taken_back + 1
  end
end
refresh_lanes()
return count_taken_back
