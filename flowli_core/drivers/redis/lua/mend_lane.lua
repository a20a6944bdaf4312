-- Correct what is stored of a lane in a queue, or of a record in its lane. See _audit.py.
-- Needs: shared/columns shared/watchers shared/paused shared/lanes shared/moves
-- ARGV[first..]: queue and lane, each '' if it is not known, and the id of a record or ''.
-- Answers nothing.
-- First write: SADD places, or a ZREM.
local queue, lane, id = unpack(ARGV, first, first + 2)
local PLACES, SUSPECTS = root .. 'places:', root .. 'lane_suspects'

local function mend_record()
  local kind, shape, _, _, its_lane = parse_record(call('HGET', RECORD, id) or '')
  local is_active = call('HGET', TOKEN, id)
  if kind and its_lane and is_active then
    call('SADD', PLACES .. its_lane, id)
    lanes().change_everywhere(its_lane)
  end
  if lane ~= '' and not (is_active and its_lane == lane) then
    lanes().free_place(id, lane)
  end
  local due = kind and its_lane and not call('HGET', BEHIND, id) and call('ZSCORE', HELD[shape.queue], id)
  call('SREM', SUSPECTS, id)
  if due then
    add_waiting(id, shape, due, its_lane)
  end
end

if id ~= '' then
  mend_record()
end
if queue ~= '' then
  for _, one in ipairs(call('ZRANGE', root .. 'lane:' .. queue .. '\n' .. lane, 0, 99)) do
    if not call('ZSCORE', HELD[queue], one) then
      call('ZREM', root .. 'lane:' .. queue .. '\n' .. lane, one)
    end
  end
  call('SADD', root .. 'waits:' .. lane, queue) -- removed again if nothing waits
  lanes().touch(lane, queue)
end
refresh_lanes()
