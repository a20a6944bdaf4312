-- Check what is stored of lanes. Needs columns.lua, lanes.lua, moves.lua. `report` is that of audit.lua.

-- Returns when a lane may have its turn at the latest, if that is to come: when its first record is due, and its rate allows it.
local function latest_turn(queue, lane)
  local id = call('ZRANGE', root .. 'lane:' .. queue .. '\n' .. lane, 0, 0)[1]
  return math.max(number_or(id and call('ZSCORE', HELD[queue], id), 0), lanes().next_start(lane) or 0)
end

-- Check the places and the next turn of a lane with waiting records, and the first of them.
local function check_lane(report, member, score)
  local queue, lane = string.match(member, '^([^\n]*)\n(.*)$')
  if not queue or not string.find(lane, '\n', 1, true) then
    report('lanes', member, 'is not the name of a lane')
    return
  end
  local key = root .. 'lane:' .. member
  if call('ZCARD', key) ~= -score then
    report('lanes', member, 'is not the number of waiting records')
  end
  for _, id in ipairs(call('ZRANGE', key, 0, 99)) do
    if not call('ZSCORE', HELD[queue], id) then
      report('lane:' .. member, id, 'is not a held record')
    end
  end
  local is_active = false
  for _, id in ipairs(call('SMEMBERS', root .. 'places:' .. lane)) do
    if string.match(call('HGET', TOKEN, id) or '', '\n(.*)$') == lane then
      is_active = true
    else
      report('places:' .. lane, id, 'is not an active record of the lane')
    end
  end
  -- If its limit has changed, a lane learns of that when one of its records finishes.
  local turn = call('ZSCORE', root .. 'turn:' .. queue, lane) or call('ZSCORE', root .. 'turn_suspect:' .. queue, lane)
  if not is_active and not turn then
    report('lanes', member, 'has no turn, although all places are free')
  elseif turn and tonumber(turn) > now and tonumber(turn) > latest_turn(queue, lane) then
    report('lanes', member, 'has its turn later than it may run')
  end
  if call('SISMEMBER', root .. 'waits:' .. lane, queue) == 0 then
    report('lanes', member, 'is not among those that are waiting')
  end
end

-- Check that a waiting or active record is in its lane. `is_suspect` is nil for an active one.
local function check_in_lane(report, id, queue, lane, is_suspect)
  if is_suspect == nil then
    if call('SISMEMBER', root .. 'places:' .. lane, id) == 0 then
      report('places:' .. lane, id, 'is missing, although the record is active')
    end
    return
  end
  local member = queue .. '\n' .. lane
  local due = call('ZSCORE', root .. 'lane:' .. member, id)
  if not due or not call('ZSCORE', root .. 'lanes', member) then
    report('lane:' .. member, id, 'is missing, although the record is held')
  elseif due ~= call('ZSCORE', HELD[queue], id) then
    report('lane:' .. member, id, 'has another due time than the held record')
  elseif (call('SISMEMBER', root .. 'lane_suspects', id) == 1) ~= is_suspect then
    report('lane_suspects', id, is_suspect and 'is missing, although the record is a suspect' or 'is not a suspect')
  end
end
