-- Lanes: the records that share a limit, see flowli_core/lanes.py. Needs columns.lua, paused.lua.
--
-- A lane is "limit\nvalue". Its waiting records in a queue are in held:QUEUE, and in lane:QUEUE\nLANE in the order in which they
-- run; those of them that are suspects are in lane_suspects. turn:QUEUE holds the lanes -> when each has its next turn, but
-- turn_suspect:QUEUE those whose first record is a suspect. A lane without a place is in neither. places:LANE are the ids of the
-- active records, starts:LANE the times at which the last ones were reserved, waits:LANE the queues with waiting records. lanes
-- has minus the number of waiting records of each "queue\nlane", limits "concurrency count period" of each limit, - for none.

-- The queues in which a change has made a waiter learn of an earlier time.
local announced = {}

-- Returns the functions of lanes. They are made when they are needed: see head.lua.
local functions_of_lanes
local function lanes()
  if functions_of_lanes then
    return functions_of_lanes
  end
  local TURN, TURN_SUSPECT = root .. 'turn:', root .. 'turn_suspect:'
  local LANES, LIMITS, SUSPECTS = root .. 'lanes', root .. 'limits', root .. 'lane_suspects'
  local LANE, PLACES, STARTS, WAITS = root .. 'lane:', root .. 'places:', root .. 'starts:', root .. 'waits:'
  -- How long the starts are kept after their period, because a clock may be set.
  local SPARE_MS = 60000
  local limits, given_limits, functions = {}, {}, {}
  -- The lanes that have changed: in the queues touched[lane], true for those in which a step has served it; and in all queues, if a
  -- place or a start has changed.
  local touched, changed_everywhere = {}, {}

  -- The numbers of the limit of a lane. One that cannot be read has one place, until a record is enqueued with it.
  local function limit_of(lane)
    local name = string.match(lane, '^[^\n]*')
    if not limits[name] then
      local text = call('HGET', LIMITS, name) or ''
      local concurrency, count, period = string.match(text, '^([%d-]+) ([%d-]+) ([%d-]+)$')
      local limit = { text = text, concurrency = number_or(concurrency), count = number_or(count), period = number_or(period) }
      local has_rate = limit.count and limit.count > 0 and limit.period
      local is_sound = (concurrency == '-' or (limit.concurrency or 0) > 0) and (has_rate or (count == '-' and period == '-'))
      limits[name] = is_sound and limit or { text = '', concurrency = 1 }
    end
    return limits[name]
  end
  functions.limit_of = limit_of

  -- Note the numbers of a limit, which are stored with the next new record of one of its lanes.
  function functions.give_limit(name, text)
    given_limits[name] = text
  end

  -- Returns when the lane may start a record by its rate, 0 if it has none or at once; or nil if all places are taken. A start that
  -- is later than now, because the clock was set back, counts as now.
  local function next_start(lane)
    local limit = limit_of(lane)
    if limit.concurrency and call('SCARD', PLACES .. lane) >= limit.concurrency then
      return nil
    end
    local start = limit.count and number_or(call('LINDEX', STARTS .. lane, -limit.count))
    return start and math.min(start, now) + limit.period or 0, start
  end
  functions.next_start = next_start

  function functions.touch(lane, queue, is_served)
    touched[lane] = touched[lane] or {}
    touched[lane][queue] = is_served or touched[lane][queue] or false
  end

  -- Make a record wait in a lane. Call refresh_lanes after it, and after each of the next ones.
  function functions.join(id, queue, lane, due, is_suspect)
    call('ZADD', HELD[queue], due, id)
    call('ZADD', LANE .. queue .. '\n' .. lane, due, id)
    call('SADD', WAITS .. lane, queue)
    if is_suspect then
      call('SADD', SUSPECTS, id)
    end
    functions.touch(lane, queue)
  end

  function functions.write_limit_of(lane)
    local name = string.match(lane, '^[^\n]*')
    local text = given_limits[name]
    if text and call('HGET', LIMITS, name) ~= text then
      call('HSET', LIMITS, name, text)
    end
    given_limits[name], limits[name] = nil, nil
  end

  function functions.join_new(id, shape, lane, due)
    functions.write_limit_of(lane)
    functions.join(id, shape.queue, lane, due, shape.index ~= DUE[shape.queue])
  end

  function functions.leave(id, queue, lane, is_served)
    call('ZREM', LANE .. queue .. '\n' .. lane, id)
    call('ZREM', HELD[queue], id)
    call('SREM', SUSPECTS, id)
    functions.touch(lane, queue, is_served)
  end

  -- Take a place of a lane for a record, and note its start.
  function functions.take_place(id, lane)
    local limit = limit_of(lane)
    call('SADD', PLACES .. lane, id)
    if limit.count then
      for _ = limit.count + 1, call('RPUSH', STARTS .. lane, now_text) do
        call('LPOP', STARTS .. lane)
      end
      call('PEXPIRE', STARTS .. lane, format_ms(limit.period + SPARE_MS))
    end
    changed_everywhere[lane] = true
  end

  function functions.free_place(id, lane)
    call('SREM', PLACES .. lane, id)
    changed_everywhere[lane] = true
  end

  -- Returns the first record of a lane that has its turn, and when it was due; nil if it may not run: then the turn is moved. An
  -- entry of the lane that is not held is damaged, and removed.
  function functions.first_record(queue, lane)
    local id = call('ZRANGE', LANE .. queue .. '\n' .. lane, 0, 0)[1]
    local due = id and call('ZSCORE', HELD[queue], id)
    if id and not due then
      call('ZREM', LANE .. queue .. '\n' .. lane, id)
    end
    local start = next_start(lane)
    if due and number_or(due, 0) <= now and start and start <= now then
      return id, due
    end
    functions.touch(lane, queue)
  end

  -- Compute the next turn of a lane in a queue from what is stored. Wake a waiter if it is due, or the first of its index. A lane
  -- that was due keeps its time, unless it was served.
  local function refresh(lane, queue, is_served)
    local key, member = LANE .. queue .. '\n' .. lane, queue .. '\n' .. lane
    local waiting = call('ZCARD', key)
    local old = tonumber(call('ZSCORE', TURN .. queue, lane) or call('ZSCORE', TURN_SUSPECT .. queue, lane) or nil)
    local index, time
    if waiting == 0 then
      call('ZREM', LANES, member)
      call('SREM', WAITS .. lane, queue)
    else
      call('ZADD', LANES, -waiting, member)
      local allowed, start = next_start(lane)
      if start and start > now then
        for _ = 1, call('LLEN', STARTS .. lane) do
          call('RPUSH', STARTS .. lane, format_ms(math.min(number_or(call('LPOP', STARTS .. lane), now), now)))
        end
      end
      if allowed then
        local id = call('ZRANGE', key, 0, 0)[1]
        local due = number_or(call('ZSCORE', HELD[queue], id), 0)
        index = (call('SISMEMBER', SUSPECTS, id) == 1 and TURN_SUSPECT or TURN) .. queue
        time = math.max(due, allowed > now and allowed or not is_served and old and old <= now and old or now)
      end
    end
    if old and index ~= TURN .. queue then
      call('ZREM', TURN .. queue, lane)
    end
    if old and index ~= TURN_SUSPECT .. queue then
      call('ZREM', TURN_SUSPECT .. queue, lane)
    end
    if not time then
      return
    end
    call('ZADD', index, format_ms(time), lane)
    local is_next = time > now and time ~= old and call('ZRANGE', index, 0, 0)[1] == lane
    if (time <= now or is_next) and not paused_since(queue) then
      announced[queue] = announced[queue] or is_next
      call('ZADD', WAKE[queue], 0, '0')
    end
  end

  function functions.refresh_all()
    for lane in pairs(changed_everywhere) do
      for _, queue in ipairs(call('SMEMBERS', WAITS .. lane)) do
        functions.touch(lane, queue)
      end
    end
    for lane, queues in pairs(touched) do
      for queue, is_served in pairs(queues) do
        refresh(lane, queue, is_served)
      end
    end
    touched, changed_everywhere = {}, {}
  end

  -- Compute the turns in all queues again, with the next refresh.
  function functions.change_everywhere(lane)
    changed_everywhere[lane] = true
  end

  functions_of_lanes = functions
  return functions
end

-- Compute the turns of the lanes that have changed. Call it after the changes of each stage, and before the next one reads turns.
local function refresh_lanes()
  if functions_of_lanes then
    functions_of_lanes.refresh_all()
  end
end
