-- Settle: apply the outcomes that a worker reports, and move each record on. Needs
-- columns.lua, add_history.lua, moves.lua.
-- An ack is three arguments: id, "token kind delay-ms started-ms" without the start if it has none, data. The kinds:
-- c completed, f failed, r retried, x cancelled, g released, p released with attempts.

-- The acks that finish a record. After another the record waits again, unless its cancellation was requested.
local STATE_AFTER = { c = 'completed', f = 'failed', x = 'cancelled' }

-- Count the records of a call of `settle`: see its `runs`.
local function count_runs(runs)
  local BUCKETS, counted = '0123456789abcdefghijklmnopqr', {}
  for i = 1, #runs do
    local shape, state, letter, buckets, number = unpack(runs[i], 1, 5)
    count('active', shape.queue, -number)
    if state ~= '-' then
      count(state, shape.queue, number)
    end
    if letter then
      local numbers = counted[shape] or {}
      counted[shape], numbers[letter] = numbers, numbers[letter] or {}
      numbers[letter][buckets] = (numbers[letter][buckets] or 0) + number
    end
  end
  for shape, by_letter in pairs(counted) do
    for letter, numbers in pairs(by_letter) do
      for buckets, number in pairs(numbers) do
        local run, wait = math.min(math.floor(buckets / 100), 27) + 1, math.min(buckets % 100, 27) + 1
        local metric = letter == 'X' and 'X' or letter .. string.sub(BUCKETS, run, run) .. string.sub(BUCKETS, wait, wait)
        add_history(metric, shape.queue, shape.name, number)
      end
    end
  end
end

-- Settle `ack_count` acks of a worker from ARGV[from] on. Returns a letter for each: o done, d settled before by this token,
-- l lost.
local function settle(from, ack_count, stepping)
  if ack_count == 0 then
    return ''
  end
  local ids, answers, settled_now = {}, {}, {}
  for k = 1, ack_count do
    ids[k] = ARGV[from + 3 * (k - 1)]
  end
  local tokens, outcomes = read_fields(TOKEN, ids), read_fields(OUTCOME, ids)
  local frexp, any_cancelling = math.frexp, call('SCARD', CANCELLING) > 0
  local settled, new_outcomes, attempts, expiries, waiting, in_lanes = {}, {}, {}, {}, {}, {}
  local finished = { completed = {}, failed = {}, cancelled = {} }
  -- Many records of a batch have the same token, times and result. So what was last read and written is kept, and records that
  -- count alike one after another are one of `runs`: {shape, state, letter, buckets, number}. The letter decides the state.
  local runs, run, run_text, run_letter, run_buckets = {}, nil, nil, nil, nil
  local text, active_token, reserved, due, kind, worker, shape, has_key, lane
  local last_words, token, ack, delay, given_start
  local last_started, last_due, last_buckets
  local head, head_text, head_state, head_started, head_failed, head_due
  for k = 1, ack_count do
    local id, words, data = ids[k], ARGV[from + 3 * k - 2], ARGV[from + 3 * k - 1]
    if words ~= last_words then
      last_words = words
      token, ack, delay, given_start = string.match(words, '^(%d+) (%a) (%d+) (%d*)$')
    end
    if tokens[k] ~= text then
      text, shape, lane = tokens[k], nil, nil
      active_token, reserved, due, kind, worker = parse_token(text or '')
      if kind then
        local flag = string.byte(kind, DIGEST + 1)
        shape, has_key = shape_of(kind), flag == 43 or flag == 35 -- + or #
        if flag == 42 or flag == 35 then -- * or #
          lane = string.match(text, '\n(.*)$')
        end
      end
    end
    local settled_before, failed = '0', '0'
    if outcomes[k] then
      local _
      _, settled_before, _, failed = parse_outcome(outcomes[k])
    end
    if active_token == token and worker == stepping and shape and not settled_now[id] then
      settled_now[id] = token
      local n = #settled
      settled[n + 1] = id
      if lane then
        in_lanes[#in_lanes + 1] = { id, lane }
      end
      if ack == 'f' or ack == 'r' then
        failed = now_text
      end
      if ack == 'f' or ack == 'r' or ack == 'p' then
        append(attempts, id, data)
      end
      local is_cancelled = any_cancelling and call('SISMEMBER', CANCELLING, id) == 1
      local state = STATE_AFTER[ack] or (is_cancelled and 'cancelled') or '-'
      local started = given_start ~= '' and given_start or reserved
      -- For the history. Both buckets are one number, because a batch makes no text for each record.
      local letter, buckets = is_cancelled and ack == 'r' and 'x' or ack, 0
      if ack == 'g' or ack == 'p' then
        letter = is_cancelled and 'X' or nil
      else
        if started ~= last_started or due ~= last_due then
          local run_ms = now - started
          local wait_ms = now - due - run_ms
          local _, run_bucket = frexp(run_ms > 0 and run_ms or 0)
          local _, wait_bucket = frexp(wait_ms > 0 and wait_ms or 0)
          last_started, last_due, last_buckets = started, due, 100 * run_bucket + wait_bucket
        end
        buckets = last_buckets
      end
      if text == run_text and letter == run_letter and buckets == run_buckets then
        run[5] = run[5] + 1
      else
        run_text, run_letter, run_buckets = text, letter, buckets
        run = { shape, state, letter, buckets, 1 }
        runs[#runs + 1] = run
      end
      local new_due = due
      if state == '-' then
        -- A record that is released without a delay keeps its position in the queue.
        local delay_ms, due_ms = tonumber(delay), math.min(number_or(due, now), now)
        if ack == 'r' or delay_ms > 0 then
          due_ms = now + delay_ms
        end
        new_due = format_ms(due_ms)
        waiting[#waiting + 1] = { id, shape, due_ms, lane }
      else
        local members = finished[state]
        local m = #members
        members[m + 1], members[m + 2] = now_text, id
        m = #expiries
        expiries[m + 1], expiries[m + 2] = shape.expiry[state], id
        if has_key then
          release_key(id, kind, state)
        end
      end
      if text ~= head_text or state ~= head_state or started ~= head_started or failed ~= head_failed or new_due ~= head_due then
        head_text, head_state, head_started, head_failed, head_due = text, state, started, failed, new_due
        head = format_outcome(state, token, started, failed, new_due, kind, worker, '')
      end
      new_outcomes[2 * n + 1] = id
      new_outcomes[2 * n + 2] = ack == 'c' and head .. data or head
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
  count_runs(runs)
  notify(settled)
  return table.concat(answers)
end
