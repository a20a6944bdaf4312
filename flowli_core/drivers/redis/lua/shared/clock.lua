-- Follow the clock of the server if it was set back. Needs columns.lua.

-- How many tokens and revisions are then skipped: see SKIPPED_NUMBERS in _times.py.
local SKIPPED_NUMBERS = 60000000

-- Returns true if the clock was set back since a time. No clock is set back by more than ten years: such a time is damaged.
local function is_set_back(last_now)
  return now < last_now and last_now < now + 315576000000
end

-- If the clock was set back since `last_now`, the time of the last step, move leases and due times back too: no lease gets
-- longer, and what was due stays due. Call it before a new lease or a delay is written: it would be moved too. Returns true
-- if the clock was set back: the last token and the last revision are then greater than before.
local function follow_clock(last_now)
  if is_set_back(last_now) then
    call('ZREM', LEASE, '')
    local leases = call('ZRANGEBYSCORE', LEASE, '(' .. now_text, '+inf', 'WITHSCORES')
    for i = 1, #leases, 2 do
      call('ZADD', LEASE, math.max(tonumber(leases[i + 1]) - (last_now - now), now), leases[i])
    end
    for _, queue in ipairs(call('SMEMBERS', QUEUES)) do
      for _, index in ipairs({ DUE[queue], SUSPECT[queue], HELD[queue] }) do
        for _, id in ipairs(call('ZRANGEBYSCORE', index, '(' .. now_text, last_now)) do
          call('ZADD', index, now, id)
          local blob = index == HELD[queue] and call('HGET', RECORD, id) or ''
          local length, from = string.match(blob, '^%d+ [^\n]*\n%S+ %S+ (%d+)[%d -]*\n()', DIGEST + 1)
          if length then
            call('ZADD', root .. 'lane:' .. queue .. '\n' .. string.sub(blob, from, from + length - 1), 'XX', now, id)
          end
        end
      end
      -- A lane that waits for its rate has a turn now, which finds out when it may run. Of the records that were due, another may
      -- be the first now.
      local turns = { [0] = root .. 'turn:' .. queue, root .. 'turn_suspect:' .. queue }
      for is_suspect = 0, 1 do
        for _, lane in ipairs(call('ZRANGEBYSCORE', turns[is_suspect], '(' .. now_text, last_now + 86400000)) do
          local id = call('ZRANGE', root .. 'lane:' .. queue .. '\n' .. lane, 0, 0)[1]
          call('ZREM', turns[is_suspect], lane)
          call('ZADD', turns[id and call('SISMEMBER', root .. 'lane_suspects', id) or is_suspect], now, lane)
        end
      end
    end
    for _, name in ipairs({ 'token', 'revision' }) do
      call('HSET', SERIAL, name, format_ms(number_or(call('HGET', SERIAL, name), 0) + SKIPPED_NUMBERS))
    end
    call('HSET', SERIAL, 'now', now_text)
    return true
  end
end
