-- The start of every script: the keys, the time, and how records are read.
--
-- KEYS: the columns in the order below, then a key that never exists. The keys of queues are not named: see _keys.py.
-- ARGV: the time in ms or -1 for the server's, and from ARGV[first] on the arguments of the operation.
local RECORD, SHAPE, TOKEN, PROGRESS, OUTCOME, RECOVERIES, LEASE, COMPLETED, FAILED, CANCELLED, EXPIRY, HOLDER, CANCELLING,
  COUNTS, QUEUES, SERIAL, WORKERS, TICK = unpack(KEYS, 1, 18)
local FINISHED = { completed = COMPLETED, failed = FAILED, cancelled = CANCELLED }

local call = redis.call

-- Times are formatted here: Redis would format a number again for each command, and slowly.
local function format_ms(ms)
  return string.format('%.0f', ms)
end

local now, micros = tonumber(ARGV[1]), 0
if now < 0 then
  local time = call('TIME')
  now, micros = time[1] * 1000 + math.floor(time[2] / 1000), time[2] % 1000
end
local now_text = format_ms(now)

-- Returns the token or revision after `last`: at least the time in microseconds. So none is used again if the server loses
-- its last writes, as in a failover or in a restart from a snapshot.
local function next_number(last)
  return format_ms(math.max(tonumber(last or 0) + 1, now * 1000 + micros))
end

local first = 2

-- A table of the keys of one kind, by queue. A key is made when it is first used.
local root = string.sub(RECORD, 1, -7)
local function keys_of(kind)
  return setmetatable({}, {
    __index = function(keys, queue)
      local key = root .. kind .. ':' .. queue
      keys[queue] = key
      return key
    end,
  })
end
local DUE, SUSPECT, WAKE = keys_of('due'), keys_of('suspect'), keys_of('wake')
local TAKEN = root .. 'taken'

-- Run a command with many arguments, in slices that fit on Lua's stack. `width` arguments belong together.
local function call_with_all(command, key, arguments, width)
  local slice = 6000 - 6000 % width
  for from = 1, #arguments, slice do
    call(command, key, unpack(arguments, from, math.min(from + slice - 1, #arguments)))
  end
end

-- Read the fields of a hash: HMGET, in slices.
local function read_fields(key, ids)
  local values = {}
  for from = 1, #ids, 6000 do
    local slice = call('HMGET', key, unpack(ids, from, math.min(from + 5999, #ids)))
    for i = 1, #slice do
      values[from + i - 1] = slice[i]
    end
  end
  return values
end

local function append(list, one, other)
  local length = #list
  list[length + 1], list[length + 2] = one, other
end

-- The numbers and the queue of a shape, which many records share: see pack_shape in _packing.py.
local function parse_shape(text)
  return string.match(text, '^(%d+) (%d+) (%d+) (%d+) ([^\n]*)\n')
end

-- The shape of a record, from its blob or kind, which begin with the digest. Returns nil if the shape is missing.
local shapes = {}
local function shape_of(text)
  local digest = string.sub(text, 1, 8)
  local shape = shapes[digest]
  if not shape then
    local stored = call('HGET', SHAPE, digest)
    if not stored then
      return nil
    end
    local max_recoveries, keep_completed, keep_failed, keep_id, queue = parse_shape(stored)
    local until_failed = format_ms(now + tonumber(keep_failed))
    shape = {
      max_recoveries = tonumber(max_recoveries),
      keep_id = tonumber(keep_id),
      queue = queue,
      expiry = { completed = format_ms(now + tonumber(keep_completed)), failed = until_failed, cancelled = until_failed },
    }
    shapes[digest] = shape
  end
  return shape
end

-- A record's blob is "digest created key\nlength of meta or -\nmeta input": see pack_record in _packing.py.
local function key_of(blob)
  local key = string.match(blob, '^........%d+ ([^\n]*)\n')
  return key ~= '' and key or nil
end

-- token: "token reserved due kind worker", stored exactly while the record is active.
local function format_token(token, due, kind, worker)
  return token .. ' ' .. now_text .. ' ' .. due .. ' ' .. kind .. ' ' .. worker
end

-- Returns token, reserved, due, kind, worker: all text.
local function parse_token(text)
  return string.match(text, '^(%d+) (%d+) (%d+) (%S+) (.*)$')
end

-- outcome: "state settled started failed updated due kind worker\nresult", stored when a record is settled, recovered,
-- cancelled or requeued for the first time. The state is - if the record waits again; `settled` is the last settled token.
local function format_outcome(state, settled, started, failed, due, kind, worker, result)
  return state .. ' ' .. settled .. ' ' .. started .. ' ' .. failed .. ' ' .. now_text .. ' ' .. due .. ' ' .. kind .. ' '
    .. worker .. '\n' .. result
end

-- Returns state, settled, started, failed, worker, due, kind, updated: all text. The last three are nil if there is no
-- outcome yet.
local function parse_outcome(text)
  if not text then
    return '-', '0', '0', '0', ''
  end
  local state, settled, started, failed, updated, due, kind, worker =
    string.match(text, '^(%S+) (%d+) (%d+) (%d+) (%d+) (%d+) (%S+) ([^\n]*)\n')
  return state, settled, started, failed, worker, due, kind, updated
end

-- Find a record: its state, when it is due, its token and its outcome. The state is nil if it is unknown, as after damage.
local function locate(id, shape)
  local token, outcome = call('HGET', TOKEN, id), call('HGET', OUTCOME, id)
  if token then
    local _, _, due = parse_token(token)
    return 'active', tonumber(due), token, outcome
  end
  local due = tonumber(call('ZSCORE', DUE[shape.queue], id) or call('ZSCORE', SUSPECT[shape.queue], id))
  if due then
    return due > now and 'scheduled' or 'queued', due, token, outcome
  end
  local state, _, _, _, _, last_due = parse_outcome(outcome)
  if FINISHED[state] then
    return state, tonumber(last_due), token, outcome
  end
  return nil, nil, token, outcome
end
