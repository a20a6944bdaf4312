-- Correct what is stored of a lane in a queue, or of a record in its lane. See _audit.py.
-- Needs: shared/columns shared/watchers shared/paused shared/lanes shared/moves
-- ARGV[first..]: the key in which a fault was found, without what is common to all keys: its kind, and what follows behind :, or ''.
--                Then the member of the key that is wrong.
-- Answers nothing.
-- First write: SADD places, or a ZREM.
local kind, of, member = unpack(ARGV, first, first + 2)
local LANE, PLACES, SUSPECTS = root .. 'lane:', root .. 'places:', root .. 'lane_suspects'

local function mend_record(id, place_of)
  local is_read, shape, _, _, its_lane = parse_record(call('HGET', RECORD, id) or '')
  local is_active = call('HGET', TOKEN, id)
  if is_read and its_lane and is_active then
    call('SADD', PLACES .. its_lane, id)
    lanes().change_everywhere(its_lane)
  end
  if place_of and not (is_active and its_lane == place_of) then
    lanes().free_place(id, place_of)
  end
  local due = is_read and its_lane and not call('HGET', BEHIND, id) and call('ZSCORE', HELD[shape.queue], id)
  call('SREM', SUSPECTS, id)
  if due then
    local last_due = number_or(call('ZSCORE', LANE .. shape.queue .. '\n' .. its_lane, id), now)
    add_waiting(id, shape, format_ms(number_or(due, last_due)), its_lane)
  end
end

local function mend_lane(queue, lane)
  local key = LANE .. queue .. '\n' .. lane
  for _, id in ipairs(call('ZRANGE', key, 0, 99)) do
    if not call('ZSCORE', HELD[queue], id) then
      call('ZREM', key, id)
    end
  end
  call('SADD', root .. 'waits:' .. lane, queue) -- removed again if nothing waits
  lanes().touch(lane, queue)
end

local queue, lane = string.match(kind == 'lanes' and member or of, '^([^\n]*)\n([^\n]+\n.*)$')
if kind == 'lanes' and not queue then
  call('ZREM', root .. 'lanes', member)
elseif kind == 'lanes' then
  mend_lane(queue, lane)
elseif kind == 'turn' or kind == 'turn_suspect' then
  mend_lane(of, member)
elseif kind == 'held' then
  local shape = shape_of(call('HGET', RECORD, member) or '')
  if not call('HGET', RECORD, member) or (shape and shape.queue ~= of) then
    call('ZREM', HELD[of], member)
  end
else
  mend_record(member, kind == 'places' and of)
  if queue then
    mend_lane(queue, lane)
  end
end
refresh_lanes()
