-- Do the step of a worker: settle, recover, reserve, trim, next. A step that is sent again gets its first answer again.
-- Needs: shared/columns shared/tokens shared/watchers shared/paused shared/lanes shared/add_history shared/moves step/reserve
-- KEYS[#KEYS]: the worker: its last step of each sequence (sequence, acks, token, batch), when it was seen, when listed.
-- ARGV[first..]: worker, sequence, lease ms, want, 1 to reserve a suspect, most bytes, most to recover, most to trim, how many
--                completed, failed and cancelled records and how many taken ids to keep, for how many ms to remember a
--                worker, the interval in ms at which to list it as alive, 1 if it is a waiting step, 1 if it is the
--                worker's last step, the greatest token that the worker knows, its description or '', how many queues, how
--                many reports, the names of the queues in order, the reports (see reports.lua), and the acks (see settle.lua).
-- Answers {now, a letter for each ack, ids reserved, their blobs, {position, attempts, recoveries} of those with a history,
--          token or 0, {id, name, queue, meta, recoveries, state} of those recovered, {id, queue, damage} of those set aside, ms to the
--          next work or -1, ms to the next tick of a schedule or -1, 1 if a suspect is the next due record,
--          1 if the step before this one is unknown, {id, name, queue} of those expired if there are any}.
-- First write: a ZREM of nothing. After it Redis lets a script write when memory is full, so that workers can settle even then.
-- Each stage adds a record to its next index before it removes it from the last one. So a key of another type, at which a
-- script ends half-way, loses none: the step does the same when it is sent again.
local WORKER = KEYS[#KEYS]
local worker, sequence_text, lease_ms, want, with_suspect, most_bytes, most_recovered, most_trimmed, keep_completed,
  keep_failed, keep_cancelled, keep_taken, remember_ms, list_ms, is_waiting, is_leaving, known_token, about,
  served_count, report_count = unpack(ARGV, first, first + 19)
local sequence = tonumber(sequence_text)
lease_ms, remember_ms, list_ms = tonumber(lease_ms), tonumber(remember_ms), tonumber(list_ms)
with_suspect, is_waiting = with_suspect == '1', is_waiting == '1'
local reports_from = first + 20 + served_count
local served = { unpack(ARGV, first + 20, reports_from - 1) }
local acks_from = reports_from + 5 * report_count
local ack_count = (#ARGV - acks_from + 1) / 3
local lease_end = format_ms(now + lease_ms)
-- A stored sequence number that is greater than that of the step by more than this is damaged.
local MOST_BEHIND = 1000

local serial = call('HMGET', SERIAL, 'now', 'token', 'paused')
local last_now = number_or(serial[1], 0)
if last_now > now then
  -- Insert: shared/clock
  if follow_clock(last_now) then
    serial[2] = call('HGET', SERIAL, 'token')
  end
end
call('ZREM', LEASE, '')

-- Reserve nothing from paused queues, and do not count their records as something to do.
paused_text = serial[3]
local open = served
if paused_text then
  open = {}
  for _, queue in ipairs(served) do
    if not paused_since(queue) then
      open[#open + 1] = queue
    end
  end
end

-- Waiting steps have a sequence of their own.
local field = is_waiting and 'wait_' or ''
local SEQUENCE, ACKS, BATCH_TOKEN, BATCH = field .. 'sequence', field .. 'acks', field .. 'token', field .. 'batch'
local last = call('HMGET', WORKER, SEQUENCE, ACKS, BATCH_TOKEN, BATCH, 'seen', 'listed')
local last_sequence = number_or(last[5], 0) > now - remember_ms and number_or(last[1]) or nil
if last_sequence and last_sequence > sequence + MOST_BEHIND then
  last_sequence = nil
end

local function first_lease_end()
  return tonumber(call('ZRANGE', LEASE, 0, 0, 'WITHSCORES')[2])
end

-- Store the time of the step, for follow_clock.
local function write_time()
  call('HSET', SERIAL, 'now', now_text)
end

local acks, token, recovered, first_end, left_own = '', false, {}, nil, false
if not last_sequence or sequence > last_sequence then
  if report_count ~= '0' then
    -- Insert: shared/reports
    store_reports(reports_from, acks_from - 1, worker)
  end
  if ack_count > 0 then
    -- Insert: step/settle
    acks = settle(acks_from, ack_count, worker)
  end
  first_end = first_lease_end()
  if first_end and first_end <= now then
    -- Insert: step/recover
    recovered, first_end, left_own = recover(most_recovered, worker, is_waiting, served[1])
  end
  token = next_number(serial[2], known_token)
  reserve(open, left_own and 0 or tonumber(want), {
    worker = worker, token = token, lease_end = lease_end, with_suspect = with_suspect and not is_waiting,
    most_bytes = tonumber(most_bytes),
  })
  token = #batch.ids > 0 and token
  if not token then
    write_time()
  end
  if ack_count > 0 or not token then
    -- Insert: step/trim
    trim(tonumber(most_trimmed), { completed = keep_completed, failed = keep_failed, cancelled = keep_cancelled }, keep_taken)
  end
  call('HSET', WORKER, SEQUENCE, sequence_text, ACKS, acks, BATCH_TOKEN, token or 0, BATCH, table.concat(batch.ids, ' '),
    'seen', now_text)
  -- List the worker as alive, once per interval, so that it costs a busy worker nothing. The last step is kept for an interval
  -- longer than the worker is remembered.
  if math.floor(number_or(last[6], -1) / list_ms) ~= math.floor(now / list_ms) then
    call('HSET', WORKER, 'listed', now_text)
    call('PEXPIRE', WORKER, remember_ms + list_ms)
    call('ZADD', WORKERS, now, worker)
    call_with_all('ZREM', WORKERS, call('ZRANGEBYSCORE', WORKERS, '-inf', now - remember_ms, 'LIMIT', 0, 100), 1)
    -- The last end of a retention is damaged if it is later than that of a record that finishes now: it would never come. If
    -- the clock was set back since a record finished, its end is counted from the time at which it finished.
    local id, score = unpack(call('ZREVRANGEBYSCORE', EXPIRY, '+inf', '-inf', 'WITHSCORES', 'LIMIT', 0, 1))
    local state, _, _, _, _, _, kind, finished = parse_outcome(id and call('HGET', OUTCOME, id))
    local shape = FINISHED[state] and shape_of(kind)
    local latest = shape and tonumber(shape.expiry[state]) or now + KEEP_SET_ASIDE
    -- Insert: shared/clock
    if is_set_back(number_or(finished, now)) then
      latest = latest + finished - now
    end
    if id and tonumber(score) > latest then
      call('ZADD', EXPIRY, format_ms(latest), id)
    end
  end
  if about ~= '' then
    call('HSET', WORKER, 'about', about)
  end
else
  write_time()
  if sequence == last_sequence then
    acks, token = last[2], number_or(last[3])
    if not acks or #acks ~= ack_count or string.find(acks, '[^odl]') then
      -- Insert: step/settle
      acks = settle(acks_from, ack_count, worker)
    end
    -- Insert: step/reserve_again
    reserve_again(last[3], last[4] or '', lease_end, worker)
    call('HSET', WORKER, 'seen', now_text)
    call('PEXPIRE', WORKER, remember_ms + list_ms)
  else
    acks = string.rep('l', ack_count)
  end
  first_end = first_lease_end()
end
if is_leaving == '1' then
  call('DEL', WORKER)
  call('ZREM', WORKERS, worker)
end
write_counts()
local is_unknown = not is_waiting and sequence > 1 and (not last_sequence or last_sequence < sequence - 1)
-- Insert: step/next
return {
  now, acks, batch.ids, batch.blobs, batch.histories, token or 0, recovered, set_asides, next_ms, tick_ms,
  is_suspect_first and 1 or 0, is_unknown and 1 or 0, expired,
}
