-- Settle, recover, reserve and trim for one worker; or answer again what its step was answered before.
-- KEYS[#KEYS]: the worker: its last step of each sequence (sequence, acks, token, batch), and when it was last seen.
-- ARGV[first..]: worker, sequence, lease ms, want, 1 where a suspect may be had, most bytes, most to recover, most to
--                trim, how many completed, failed and cancelled are kept, how long a worker is remembered in ms, how often
--                it is noted that it lives in ms, 1 if it is a waiting step, how many queues to serve, their names in
--                order, and for each ack: id, token, kind, started ms or '', delay ms, data.
--                The kinds: c completed, f failed, r retried, x cancelled, g released, p released with progress.
-- Answers {now, acks, ids reserved, their blobs, {place among them, progress, recoveries} for those that something
--          happened to before, token, recovered, ms to what is next or -1, ms to the next tick of a schedule or -1,
--          1 if the step before this one is not known}.
-- A clock that was set back neither lengthens a lease nor hides what was due.
-- First write: a ZREM, if need be of nothing. Redis lets a script that began so go on when memory is full, so that what
-- runs can still be settled.
local WORKER = KEYS[#KEYS]
local worker, sequence, lease_ms = ARGV[first], tonumber(ARGV[first + 1]), tonumber(ARGV[first + 2])
local want, may_suspect, most_bytes = tonumber(ARGV[first + 3]), ARGV[first + 4] == '1', tonumber(ARGV[first + 5])
local most_recovered, most_trimmed = tonumber(ARGV[first + 6]), tonumber(ARGV[first + 7])
local keep = { completed = ARGV[first + 8], failed = ARGV[first + 9], cancelled = ARGV[first + 10] }
local remember_ms, heard_ms = tonumber(ARGV[first + 11]), tonumber(ARGV[first + 12])
local sequence_of = ARGV[first + 13] == '1' and 'wait_' or ''
local served_count = tonumber(ARGV[first + 14])
local served = {}
for i = 1, served_count do
  served[i] = ARGV[first + 14 + i]
end
local acks_from = first + 15 + served_count
local ack_count = (#ARGV - acks_from + 1) / 6

local lease_until = string.format('%.0f', now + lease_ms)

local serial = call('HMGET', SERIAL, 'now', 'token')

local function mind_the_clock()
  local seen = tonumber(serial[1] or 0)
  if now < seen then
    call('ZREM', LEASE, '')
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
end
mind_the_clock()

local SEQUENCE, ACKS = sequence_of .. 'sequence', sequence_of .. 'acks'
local BATCH_TOKEN, BATCH = sequence_of .. 'token', sequence_of .. 'batch'
local last = call('HMGET', WORKER, SEQUENCE, ACKS, BATCH_TOKEN, BATCH, 'heard', 'noted')
local last_sequence = last[1] and tonumber(last[5]) > now - remember_ms and tonumber(last[1]) or nil

local ids_reserved, blobs_reserved, histories, recovered, took_suspect = {}, {}, {}, {}, false

-- What ends next: the first of the leases, once they were looked at.
local head

-- Whether a queue has suspects at all: asked once, and only after all that adds one.
local suspects = {}
local function has_suspects(queue)
  if suspects[queue] == nil then
    suspects[queue] = call('EXISTS', SUSPECT[queue]) == 1
  end
  return suspects[queue]
end

local function settle()
  if ack_count == 0 then
    return ''
  end
  local ids, answers, settled_here = {}, {}, {}
  for k = 1, ack_count do
    ids[k] = ARGV[acks_from + 6 * (k - 1)]
  end
  local tokens, outcomes = read(TOKEN, ids), read(OUTCOME, ids)
  local gone, written, progress, finished, later = {}, {}, {}, { completed = {}, failed = {}, cancelled = {} }, {}
  local expiries, any_cancelling = {}, call('SCARD', CANCELLING) > 0
  for k = 1, ack_count do
    local from = acks_from + 6 * (k - 1)
    local id, token, ack, started, data = ids[k], ARGV[from + 1], ARGV[from + 2], ARGV[from + 3], ARGV[from + 5]
    local active = not settled_here[id] and tokens[k] or nil
    local before = outcomes[k] and outcome_of(outcomes[k])
    local active_token, reserved, due, kind, worker
    if active then
      active_token, reserved, due, kind, worker = string.match(active, '^(%d+) (%d+) (%d+) (%S+) (.*)$')
    end
    local shape = kind and active_token == token and shape_of(kind)
    if shape then
      local failed, state = before and before.failed or '0', '-'
      settled_here[id] = token
      gone[#gone + 1] = id
      count('active', shape.queue, -1)
      if ack == 'f' or ack == 'r' then
        failed = now_text
      end
      if ack == 'f' or ack == 'r' or ack == 'p' then
        progress[#progress + 1] = id
        progress[#progress + 1] = data
      end
      if ack == 'c' then
        state = 'completed'
      elseif ack == 'f' then
        state = 'failed'
      elseif ack == 'x' or (any_cancelling and call('SISMEMBER', CANCELLING, id) == 1) then
        state = 'cancelled'
      else
        local delay = tonumber(ARGV[from + 4])
        local at = (ack == 'r' or delay > 0) and now + delay or math.min(tonumber(due), now)
        due = string.format('%.0f', at)
        later[#later + 1] = { id, shape, at }
      end
      if state ~= '-' then
        local places = finished[state]
        places[#places + 1] = now_text
        places[#places + 1] = id
        expiries[#expiries + 1] = state == 'completed' and shape.until_completed or shape.until_failed
        expiries[#expiries + 1] = id
        count(state, shape.queue, 1)
        free_key(id, kind)
      end
      written[#written + 1] = id
      written[#written + 1] = state .. ' ' .. token .. ' ' .. (started ~= '' and started or reserved) .. ' ' .. failed .. ' '
        .. now_text .. ' ' .. due .. ' ' .. kind .. ' ' .. worker .. '\n' .. (ack == 'c' and data or '')
      answers[k] = 'o'
    elseif settled_here[id] == token or (not settled_here[id] and before and before.settled == token and token ~= '0') then
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
  if any_cancelling then
    many('SREM', CANCELLING, gone, 1)
  end
  for _, one in ipairs(later) do
    make_wait(one[1], one[2], one[3])
  end
  return table.concat(answers)
end

local function recover()
  head = call('ZRANGE', LEASE, 0, 0, 'WITHSCORES')
  if not head[2] or tonumber(head[2]) > now then
    return
  end
  head = nil
  local ids = call('ZRANGEBYSCORE', LEASE, '-inf', now, 'LIMIT', 0, most_recovered)
  local tokens, outcomes = read(TOKEN, ids), read(OUTCOME, ids)
  many('ZREM', LEASE, ids, 1)
  many('HDEL', TOKEN, ids, 1)
  for k, id in ipairs(ids) do
    local active = tokens[k] and held(tokens[k])
    if active and not active.kind then
      -- Somebody has damaged it. The record itself says what is needed to go on.
      local blob = call('HGET', RECORD, id)
      active = blob and { reserved = now_text, due = now, kind = kind_of(blob), worker = '' }
    end
    local shape = active and shape_of(active.kind)
    if shape then
      local before, kind = outcomes[k] and outcome_of(outcomes[k]), active.kind
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
        state == '-' and due or active.due, kind, active.worker, ''))
      if state == '-' then
        make_wait(id, shape, due)
      else
        make_finished(id, kind, shape, state)
      end
      recovered[#recovered + 1] = { id, string.sub(kind, 1, 8), recoveries, told }
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

-- The first ids of a queue that are due, their due times, the place of a suspect among them where one may be had; and
-- what was found in the index, which is one more, due or not.
local function due_in(queue, most)
  local found = call('ZRANGE', DUE[queue], 0, most, 'WITHSCORES')
  local ids, dues, suspect_at = {}, {}, nil
  for i = 1, math.min(#found, 2 * most), 2 do
    if tonumber(found[i + 1]) > now then
      break
    end
    ids[#ids + 1] = found[i]
    dues[#dues + 1] = found[i + 1]
  end
  if may_suspect and not took_suspect and has_suspects(queue) then
    local suspect = call('ZRANGEBYSCORE', SUSPECT[queue], '-inf', now, 'WITHSCORES', 'LIMIT', 0, 1)
    if suspect[1] then
      local due = tonumber(suspect[2])
      local at = 1
      while ids[at] and (tonumber(dues[at]) < due or (tonumber(dues[at]) == due and ids[at] < suspect[1])) do
        at = at + 1
      end
      table.insert(ids, at, suspect[1])
      table.insert(dues, at, suspect[2])
      suspect_at = at
      if #ids > most then
        suspect_at = at <= most and at or nil
        ids[#ids], dues[#dues] = nil, nil
      end
    end
  end
  return ids, dues, suspect_at, found
end

-- What a record has been through before. One that was never moved on has been through nothing.
local function add_histories(ids, first_place)
  local outcomes, moved, places = read(OUTCOME, ids), {}, {}
  for i = 1, #ids do
    if outcomes[i] then
      moved[#moved + 1] = ids[i]
      places[#places + 1] = first_place + i - 1
    end
  end
  local progress, recoveries = read(PROGRESS, moved), read(RECOVERIES, moved)
  for i, place in ipairs(places) do
    histories[#histories + 1] = { place, progress[i], tonumber(recoveries[i] or 0) }
  end
end

-- When the first of what stays in a queue is due, or false where nothing does: for each queue that was reserved from.
local first_due = {}

local function reserve()
  local token, told, bytes, full = nil, nil, 0, false
  local tail = ' ' .. worker
  for _, queue in ipairs(served) do
    local left = want - #ids_reserved
    local ids, dues, suspect_at, found = {}, {}, nil, nil
    if left > 0 and not full and DUE[queue] then
      ids, dues, suspect_at, found = due_in(queue, left)
    end
    local gone = 0
    local blobs, first_place = read(RECORD, ids), #ids_reserved + 1
    local taken, leases, tokens, held_now = {}, {}, {}, {}
    for i, id in ipairs(ids) do
      local blob = blobs[i]
      if not blob or not shape_of(blob) then
        -- An orphan: its record is gone, and there is nothing to run.
        call('ZREM', i == suspect_at and SUSPECT[queue] or DUE[queue], id)
        gone = gone + (i == suspect_at and 0 or 1)
      else
        bytes = bytes + input_size(blob)
        if #ids_reserved > 0 and bytes > most_bytes then
          full = true
          break
        end
        if not token then
          token = string.format('%.0f', tonumber(serial[2] or 0) + 1)
          told = token .. ' ' .. now_text .. ' '
        end
        if i == suspect_at then
          took_suspect = true
          call('ZREM', SUSPECT[queue], id)
        else
          taken[#taken + 1] = id
        end
        leases[#leases + 1] = lease_until
        leases[#leases + 1] = id
        tokens[#tokens + 1] = id
        tokens[#tokens + 1] = told .. (string.find(dues[i], '^%d+$') and dues[i] or now_text) .. ' ' .. kind_of(blob) .. tail
        held_now[#held_now + 1] = id
        ids_reserved[#ids_reserved + 1] = id
        blobs_reserved[#blobs_reserved + 1] = blob
      end
    end
    many('ZREM', DUE[queue], taken, 1)
    if #held_now > 0 then
      call('HSET', SERIAL, 'now', now_text, 'token', token)
    end
    if found then
      first_due[queue] = tonumber(found[2 * (gone + #taken) + 2] or nil) or false
    end
    many('ZADD', LEASE, leases, 2)
    many('HSET', TOKEN, tokens, 2)
    count('active', queue, #held_now)
    add_histories(held_now, first_place)
  end
  return token
end

local function reserve_again(token, batch)
  local ids, still = {}, {}
  for id in string.gmatch(batch, '%S+') do
    ids[#ids + 1] = id
  end
  local tokens, blobs = read(TOKEN, ids), read(RECORD, ids)
  for i, id in ipairs(ids) do
    local shape = blobs[i] and shape_of(blobs[i])
    if shape and tokens[i] and held(tokens[i]).token == token then
      call('ZADD', LEASE, lease_until, id)
      still[#still + 1] = id
      ids_reserved[#ids_reserved + 1] = id
      blobs_reserved[#blobs_reserved + 1] = blobs[i]
    end
  end
  add_histories(still, 1)
  local recoveries = read(RECOVERIES, still)
  for i = 1, #still do
    took_suspect = took_suspect or tonumber(recoveries[i] or 0) >= shape_of(blobs_reserved[i]).most
  end
end

-- When there will be something to do. Wakes another runner for what is left; but not for what this step would not take.
local function look_around()
  head = head or call('ZRANGE', LEASE, 0, 0, 'WITHSCORES')
  local soonest = head[2] and tonumber(head[2]) or nil
  if #ids_reserved > 0 and (not soonest or now + lease_ms < soonest) then
    soonest = now + lease_ms
  end
  local tick = tonumber(call('ZRANGE', TICK, 0, 0, 'WITHSCORES')[2])
  if tick and tick > now and (not soonest or tick < soonest) then
    soonest = tick
  end
  for _, queue in ipairs(served) do
    if DUE[queue] then
      local at = first_due[queue]
      if at == nil then
        at = tonumber(call('ZRANGE', DUE[queue], 0, 0, 'WITHSCORES')[2])
      end
      local any_suspect = has_suspects(queue)
      local suspect = any_suspect and may_suspect and call('ZRANGEBYSCORE', SUSPECT[queue], took_suspect and '(' .. string.format('%.0f', now) or '-inf',
        '+inf', 'WITHSCORES', 'LIMIT', 0, 1) or {}
      local suspect_at = suspect[2] and tonumber(suspect[2])
      if at and (not soonest or at < soonest) then
        soonest = at
      end
      if suspect_at and (not soonest or suspect_at < soonest) then
        soonest = suspect_at
      end
      any_suspect = any_suspect and call('ZCOUNT', SUSPECT[queue], '-inf', now) > 0
      if (at and at <= now) or (any_suspect and may_suspect) then
        call('ZADD', WAKE[queue], 0, '0')
      elseif not any_suspect and not announced[queue] then
        call('DEL', WAKE[queue])
      end
    end
  end
  return soonest and math.max(soonest - now, 0) or -1, tick and math.max(tick - now, 0) or -1
end

-- Lets others see that the worker lives. Now and again is enough, so that it costs a busy one nothing: until then its
-- last step is kept for as much longer.
local function sign_of_life()
  local noted = tonumber(last[6] or -1)
  if math.floor(noted / heard_ms) ~= math.floor(now / heard_ms) then
    call('HSET', WORKER, 'noted', now_text)
    call('PEXPIRE', WORKER, remember_ms + heard_ms)
    call('ZADD', WORKERS, now, worker)
    many('ZREM', WORKERS, call('ZRANGEBYSCORE', WORKERS, '-inf', now - remember_ms, 'LIMIT', 0, 100), 1)
  end
end

-- Where nothing is reserved: with a token it is noted anyway.
local function note_time()
  call('ZREM', LEASE, '')
  call('HSET', SERIAL, 'now', now_text)
end

local acks, token = '', false
if not last_sequence or sequence > last_sequence then
  acks = settle()
  recover()
  token = reserve()
  if not token then
    note_time()
  end
  if ack_count > 0 or not token then
    trim()
  end
  call('HSET', WORKER, SEQUENCE, ARGV[first + 1], ACKS, acks, BATCH_TOKEN, token or 0, BATCH, table.concat(ids_reserved, ' '),
    'heard', now_text)
  sign_of_life()
elseif sequence == last_sequence then
  acks, token = last[2], tonumber(last[3])
  note_time()
  reserve_again(last[3], last[4])
  call('HSET', WORKER, 'heard', now_text)
  call('PEXPIRE', WORKER, remember_ms + heard_ms)
else
  note_time()
  acks = string.rep('l', ack_count)
end
write_counts()
local forgot = sequence_of == '' and sequence > 1 and (not last_sequence or last_sequence < sequence - 1) and 1 or 0
local next_ms, tick_ms = look_around()
return { now, acks, ids_reserved, blobs_reserved, histories, token or 0, recovered, next_ms, tick_ms, forgot }
