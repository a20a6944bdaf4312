-- Settle: apply the outcomes that a worker reports, and move each record on. Needs
-- columns.lua, add_history.lua, moves.lua.
-- An ack is six arguments: id, token, kind, started ms or '', delay ms, data.

-- The acks that finish a record. After another the record waits again, unless its cancellation was requested.
local STATE_AFTER = { c = 'completed', f = 'failed', x = 'cancelled' }

-- When a record is due again. One that is released without a delay keeps its position in the queue.
local function due_after(ack, delay, due)
  if ack == 'r' or delay > 0 then
    return now + delay
  end
  return math.min(due, now)
end

-- Settle `ack_count` acks of a worker from ARGV[from] on. Returns a letter for each: o done, d settled before by this token,
-- l lost.
local function settle(from, ack_count, stepping)
  if ack_count == 0 then
    return ''
  end
  local BUCKETS, last_started, last_due, last_buckets = '0123456789abcdefghijklmnopqr', nil, nil, nil
  local ids, answers, settled_now = {}, {}, {}
  for k = 1, ack_count do
    ids[k] = ARGV[from + 6 * (k - 1)]
  end
  local tokens, outcomes = read_fields(TOKEN, ids), read_fields(OUTCOME, ids)
  local frexp, any_cancelling = math.frexp, call('SCARD', CANCELLING) > 0
  local settled, new_outcomes, attempts, expiries, waiting, counted, in_lanes = {}, {}, {}, {}, {}, {}, {}
  local finished = { completed = {}, failed = {}, cancelled = {} }
  for k = 1, ack_count do
    local at = from + 6 * (k - 1)
    local id, token, ack, started, delay, data = unpack(ARGV, at, at + 5)
    local _, settled_before, _, failed = parse_outcome(outcomes[k])
    local active_token, reserved, due, kind, worker
    if tokens[k] and not settled_now[id] then
      active_token, reserved, due, kind, worker = parse_token(tokens[k])
    end
    local shape = active_token == token and worker == stepping and shape_of(kind)
    if shape then
      local flag, lane = string.byte(kind, DIGEST + 1), nil
      if flag == 42 or flag == 35 then -- * or #
        lane = string.match(tokens[k], '\n(.*)$')
        in_lanes[#in_lanes + 1] = lane and { id, lane }
      end
      settled_now[id] = token
      local n = #settled
      settled[n + 1] = id
      count('active', shape.queue, -1)
      if ack == 'f' or ack == 'r' then
        failed = now_text
      end
      if ack == 'f' or ack == 'r' or ack == 'p' then
        append(attempts, id, data)
      end
      local is_cancelled = any_cancelling and call('SISMEMBER', CANCELLING, id) == 1
      local state = STATE_AFTER[ack] or (is_cancelled and 'cancelled') or '-'
      started = started ~= '' and started or reserved
      -- For the history. Both buckets are one number, because a batch makes no text for each record.
      local letter, buckets = is_cancelled and ack == 'r' and 'x' or ack, 0
      if ack == 'g' or ack == 'p' then
        letter = is_cancelled and 'X' or nil
      else
        -- Many records of a batch have the same times.
        if started ~= last_started or due ~= last_due then
          local run = now - started
          local wait = now - due - run
          local _, run_bucket = frexp(run > 0 and run or 0)
          local _, wait_bucket = frexp(wait > 0 and wait or 0)
          last_started, last_due, last_buckets = started, due, 100 * run_bucket + wait_bucket
        end
        buckets = last_buckets
      end
      if letter then
        local numbers = shape.numbers
        if not numbers then
          numbers = { [letter] = {} }
          shape.numbers, counted[#counted + 1] = numbers, shape
        end
        local of_letter = numbers[letter] or {}
        of_letter[buckets] = (of_letter[buckets] or 0) + 1
        numbers[letter] = of_letter
      end
      if state == '-' then
        local due_ms = due_after(ack, tonumber(delay), number_or(due, now))
        due = format_ms(due_ms)
        waiting[#waiting + 1] = { id, shape, due_ms, lane }
      else
        append(finished[state], now_text, id)
        append(expiries, shape.expiry[state], id)
        count(state, shape.queue, 1)
        release_key(id, kind, state)
      end
      local result = ack == 'c' and data or ''
      new_outcomes[2 * n + 1] = id
      new_outcomes[2 * n + 2] = format_outcome(state, token, started, failed, due, kind, worker, result)
      answers[k] = 'o'
    elseif settled_now[id] == token or (not settled_now[id] and settled_before == token and token ~= '0') then
      answers[k] = 'd'
    else
      answers[k] = 'l'
    end
  end
  call_with_all('HSET', ATTEMPTS, attempts, 2)
  for state, members in pairs(finished) do
    call_with_all('ZADD', FINISHED[state], members, 2)
  end
  call_with_all('ZADD', EXPIRY, expiries, 2)
  for _, record in ipairs(waiting) do
    add_waiting(unpack(record))
  end
  call_with_all('HSET', OUTCOME, new_outcomes, 2)
  if any_cancelling then
    call_with_all('SREM', CANCELLING, settled, 1)
  end
  for _, record in ipairs(in_lanes) do
    lanes().free_place(unpack(record))
  end
  refresh_lanes()
  call_with_all('ZREM', LEASE, settled, 1)
  call_with_all('HDEL', TOKEN, settled, 1)
  for _, shape in ipairs(counted) do
    for letter, numbers in pairs(shape.numbers) do
      for buckets, number in pairs(numbers) do
        local run, wait = math.min(math.floor(buckets / 100), 27) + 1, math.min(buckets % 100, 27) + 1
        local metric = letter == 'X' and 'X' or letter .. string.sub(BUCKETS, run, run) .. string.sub(BUCKETS, wait, wait)
        add_history(metric, shape.queue, shape.name, number)
      end
    end
  end
  notify(settled)
  return table.concat(answers)
end
