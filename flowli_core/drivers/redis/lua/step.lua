-- Settle, recover, trim and reserve for one worker; or answer again what its step was answered before.
-- KEYS[#KEYS]: the worker's last step (sequence, acks, token, batch).
-- ARGV[first..]: worker, sequence, lease ms, want, 1 where a suspect may be had, most bytes, most to recover, most to
--                trim, how many completed, failed and cancelled are kept, how long a worker is remembered in ms, how many
--                queues to serve, their names in order, and for each ack: id, token, kind, started ms or '', delay ms, data.
--                The kinds: c completed, f failed, r retried, x cancelled, g released, p released with progress.
-- Answers {now, acks, reserved as {id, blob, progress, recoveries, suspect}, token, recovered, ms to what is next or -1}.
-- A clock that was set back neither lengthens a lease nor hides what was due.
-- First write: a ZREM that changes nothing. Redis lets a script that began so go on when memory is full, so that what
-- runs can still be settled.
local WORKER = KEYS[#KEYS]
local worker, sequence, lease_ms = ARGV[first], tonumber(ARGV[first + 1]), tonumber(ARGV[first + 2])
local want, may_suspect, most_bytes = tonumber(ARGV[first + 3]), ARGV[first + 4] == '1', tonumber(ARGV[first + 5])
local most_recovered, most_trimmed = tonumber(ARGV[first + 6]), tonumber(ARGV[first + 7])
local keep = { completed = ARGV[first + 8], failed = ARGV[first + 9], cancelled = ARGV[first + 10] }
local remember_ms, served_count = tonumber(ARGV[first + 11]), tonumber(ARGV[first + 12])
local served = {}
for i = 1, served_count do
  served[i] = ARGV[first + 12 + i]
end
local acks_from = first + 13 + served_count
local ack_count = (#ARGV - acks_from + 1) / 6

call('ZREM', LEASE, '')

local function mind_the_clock()
  local seen = tonumber(call('HGET', SERIAL, 'now') or 0)
  if now < seen then
    local leases = call('ZRANGEBYSCORE', LEASE, '(' .. string.format('%.0f', now), '+inf', 'WITHSCORES')
    for i = 1, #leases, 2 do
      call('ZADD', LEASE, math.max(tonumber(leases[i + 1]) - (seen - now), now), leases[i])
    end
    for _, queue in ipairs(queue_names) do
      for _, index in ipairs({ DUE[queue], SUSPECT[queue] }) do
        for _, id in ipairs(call('ZRANGEBYSCORE', index, '(' .. string.format('%.0f', now), seen)) do
          call('ZADD', index, now, id)
        end
      end
    end
  end
  call('HSET', SERIAL, 'now', string.format('%.0f', now))
end
mind_the_clock()

local last = call('HMGET', WORKER, 'sequence', 'acks', 'token', 'batch', 'heard')
local last_sequence = last[1] and tonumber(last[5]) > now - remember_ms and tonumber(last[1]) or nil

local reserved, recovered, took_suspect = {}, {}, false

local function settle()
  local ids, answers, settled_here = {}, {}, {}
  for k = 1, ack_count do
    ids[k] = ARGV[acks_from + 6 * (k - 1)]
  end
  if ack_count == 0 then
    return ''
  end
  local tokens, outcomes, blobs = read(TOKEN, ids), read(OUTCOME, ids), read(RECORD, ids)
  local gone, written, progress, finished, later = {}, {}, {}, { completed = {}, failed = {}, cancelled = {} }, {}
  local expiries = {}
  for k = 1, ack_count do
    local from = acks_from + 6 * (k - 1)
    local id, token, kind, started = ids[k], ARGV[from + 1], ARGV[from + 2], ARGV[from + 3]
    local delay, data = tonumber(ARGV[from + 4]), ARGV[from + 5]
    local active = tokens[k] and not settled_here[id] and held(tokens[k])
    local before = outcomes[k] and outcome_of(outcomes[k])
    if blobs[k] and active and active.token == token then
      local shape = shape_of(blobs[k])
      local failed = before and before.failed or '0'
      local state, due = '-', active.due
      settled_here[id] = token
      gone[#gone + 1] = id
      count('active', shape.queue, -1)
      if kind == 'f' or kind == 'r' then
        failed = string.format('%.0f', now)
      end
      if kind == 'f' or kind == 'r' or kind == 'p' then
        progress[#progress + 1] = id
        progress[#progress + 1] = data
      end
      if kind == 'c' then
        state = 'completed'
      elseif kind == 'f' then
        state = 'failed'
      elseif kind == 'x' or call('SISMEMBER', CANCELLING, id) == 1 then
        state = 'cancelled'
      elseif kind == 'r' or delay > 0 then
        due = now + delay
      else
        due = math.min(due, now)
      end
      if state == '-' then
        later[#later + 1] = { id, shape, due }
      else
        table.insert(finished[state], now)
        table.insert(finished[state], id)
        expiries[#expiries + 1] = now + (state == 'completed' and shape.completed or shape.failed)
        expiries[#expiries + 1] = id
        count(state, shape.queue, 1)
        free_key(id, blobs[k])
      end
      written[#written + 1] = id
      written[#written + 1] = outcome(
        state, token, started ~= '' and started or active.reserved, failed, due, active.worker, kind == 'c' and data or '')
      answers[k] = 'o'
    elseif blobs[k] and (settled_here[id] == token or (not settled_here[id] and before and before.settled == token)) then
      answers[k] = 'd'
    else
      answers[k] = 'l'
    end
  end
  many('ZREM', LEASE, gone, 1)
  many('HDEL', TOKEN, gone, 1)
  many('HSET', OUTCOME, written, 2)
  many('HSET', PROGRESS, progress, 2)
  for state, places in pairs(finished) do
    many('ZADD', FINISHED[state], places, 2)
  end
  many('ZADD', EXPIRY, expiries, 2)
  if call('SCARD', CANCELLING) > 0 then
    many('SREM', CANCELLING, gone, 1)
  end
  for _, one in ipairs(later) do
    make_wait(one[1], one[2], one[3])
  end
  return table.concat(answers)
end

local function recover()
  local ids = call('ZRANGEBYSCORE', LEASE, '-inf', now, 'LIMIT', 0, most_recovered)
  if #ids == 0 then
    return
  end
  local tokens, outcomes, blobs = read(TOKEN, ids), read(OUTCOME, ids), read(RECORD, ids)
  many('ZREM', LEASE, ids, 1)
  many('HDEL', TOKEN, ids, 1)
  for k, id in ipairs(ids) do
    local shape = blobs[k] and shape_of(blobs[k])
    if shape and tokens[k] then
      local active, before = held(tokens[k]), outcomes[k] and outcome_of(outcomes[k])
      local recoveries = call('HINCRBY', RECOVERIES, id, 1)
      local state, told, due = '-', 'queued', math.min(active.due, now)
      if call('SREM', CANCELLING, id) == 1 then
        state, told = 'cancelled', 'cancelled'
      elseif recoveries > shape.most then
        state, told = 'failed', 'failed'
      end
      count('active', shape.queue, -1)
      call('HSET', OUTCOME, id, outcome(
        state, before and before.settled or '0', active.reserved, before and before.failed or '0',
        state == '-' and due or active.due, active.worker, ''))
      if state == '-' then
        make_wait(id, shape, due)
      else
        make_finished(id, blobs[k], shape, state)
      end
      recovered[#recovered + 1] = { id, string.sub(blobs[k], 1, 8), recoveries, told }
    end
  end
end

local function trim()
  local expired = call('ZRANGEBYSCORE', EXPIRY, '-inf', now, 'LIMIT', 0, most_trimmed)
  remove(expired)
  local budget = most_trimmed - #expired
  for _, state in ipairs({ 'completed', 'failed', 'cancelled' }) do
    local excess = math.min(call('ZCARD', FINISHED[state]) - tonumber(keep[state]), budget)
    if excess > 0 then
      remove(call('ZRANGE', FINISHED[state], 0, excess - 1))
      budget = budget - excess
    end
  end
end

-- The first ids of a queue that are due, with a suspect among them in its place where one may be had.
local function due_in(queue, most)
  local found = call('ZRANGEBYSCORE', DUE[queue], '-inf', now, 'WITHSCORES', 'LIMIT', 0, most)
  local places = {}
  for i = 1, #found, 2 do
    places[#places + 1] = { found[i], tonumber(found[i + 1]), false }
  end
  if may_suspect and not took_suspect then
    local first_suspect = call('ZRANGEBYSCORE', SUSPECT[queue], '-inf', now, 'WITHSCORES', 'LIMIT', 0, 1)
    if first_suspect[1] then
      local id, due, at = first_suspect[1], tonumber(first_suspect[2]), 1
      while places[at] and (places[at][2] < due or (places[at][2] == due and places[at][1] < id)) do
        at = at + 1
      end
      table.insert(places, at, { id, due, true })
      places[most + 1] = nil
    end
  end
  return places
end

local function reserve()
  local token, bytes, full = nil, 0, false
  for _, queue in ipairs(served) do
    local left = want - #reserved
    local places = left > 0 and not full and DUE[queue] and due_in(queue, left) or {}
    local ids = {}
    for i, place in ipairs(places) do
      ids[i] = place[1]
    end
    local blobs, progress = read(RECORD, ids), read(PROGRESS, ids)
    local recoveries = read(RECOVERIES, ids)
    local taken, leases, tokens = {}, {}, {}
    for i, place in ipairs(places) do
      if not blobs[i] or not shape_of(blobs[i]) then
        -- An orphan: its record is gone, and there is nothing to run.
        call('ZREM', place[3] and SUSPECT[queue] or DUE[queue], ids[i])
      else
        bytes = bytes + input_size(blobs[i])
        if #reserved > 0 and bytes > most_bytes then
          full = true
          break
        end
        token = token or call('HINCRBY', SERIAL, 'token', 1)
        if place[3] then
          took_suspect = true
          call('ZREM', SUSPECT[queue], ids[i])
        else
          taken[#taken + 1] = ids[i]
        end
        leases[#leases + 1] = now + lease_ms
        leases[#leases + 1] = ids[i]
        tokens[#tokens + 1] = ids[i]
        tokens[#tokens + 1] = string.format('%.0f %.0f %.0f %s', token, now, place[2], worker)
        reserved[#reserved + 1] = { ids[i], blobs[i], progress[i], tonumber(recoveries[i] or 0), place[3] and 1 or 0 }
      end
    end
    many('ZREM', DUE[queue], taken, 1)
    many('ZADD', LEASE, leases, 2)
    many('HSET', TOKEN, tokens, 2)
    count('active', queue, #leases / 2)
  end
  return token
end

local function reserve_again(token, batch)
  local ids = {}
  for id in string.gmatch(batch, '%S+') do
    ids[#ids + 1] = id
  end
  local tokens, blobs, progress, recoveries = read(TOKEN, ids), read(RECORD, ids), read(PROGRESS, ids), read(RECOVERIES, ids)
  for i, id in ipairs(ids) do
    local shape = blobs[i] and shape_of(blobs[i])
    if shape and tokens[i] and held(tokens[i]).token == token then
      local times = tonumber(recoveries[i] or 0)
      call('ZADD', LEASE, now + lease_ms, id)
      reserved[#reserved + 1] = { id, blobs[i], progress[i], times, times >= shape.most and 1 or 0 }
      took_suspect = took_suspect or times >= shape.most
    end
  end
end

-- When there will be something to do. Wakes another runner for what is left; but not for what this step would not take.
local function look_around()
  local head = call('ZRANGE', LEASE, 0, 0, 'WITHSCORES')
  local soonest = head[2] and tonumber(head[2]) or nil
  for _, queue in ipairs(served) do
    if DUE[queue] then
      local due = call('ZRANGE', DUE[queue], 0, 0, 'WITHSCORES')
      local at = due[2] and tonumber(due[2])
      local suspect = may_suspect and call('ZRANGEBYSCORE', SUSPECT[queue], took_suspect and '(' .. string.format('%.0f', now) or '-inf',
        '+inf', 'WITHSCORES', 'LIMIT', 0, 1) or {}
      local suspect_at = suspect[2] and tonumber(suspect[2])
      if at and (not soonest or at < soonest) then
        soonest = at
      end
      if suspect_at and (not soonest or suspect_at < soonest) then
        soonest = suspect_at
      end
      local any_suspect = call('ZCOUNT', SUSPECT[queue], '-inf', now) > 0
      if (at and at <= now) or (any_suspect and may_suspect) then
        call('ZADD', WAKE[queue], 0, '0')
      elseif not any_suspect and not announced[queue] then
        call('DEL', WAKE[queue])
      end
    end
  end
  return soonest and math.max(soonest - now, 0) or -1
end

local acks, token = '', false
if not last_sequence or sequence > last_sequence then
  acks = settle()
  recover()
  trim()
  token = reserve()
  local batch = {}
  for i, one in ipairs(reserved) do
    batch[i] = one[1]
  end
  call('HSET', WORKER, 'sequence', ARGV[first + 1], 'acks', acks, 'token', token or 0, 'batch', table.concat(batch, ' '),
    'heard', string.format('%.0f', now))
  call('PEXPIRE', WORKER, remember_ms)
elseif sequence == last_sequence then
  acks, token = last[2], tonumber(last[3])
  reserve_again(last[3], last[4])
  call('HSET', WORKER, 'heard', string.format('%.0f', now))
  call('PEXPIRE', WORKER, remember_ms)
else
  acks = string.rep('l', ack_count)
end
write_counts()
return { now, acks, reserved, token or 0, recovered, look_around() }
