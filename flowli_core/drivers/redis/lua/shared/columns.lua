-- The keys that most scripts use, and how records are read. Needs head.lua.
local SHAPE, TOKEN, ATTEMPTS, OUTCOME, RECOVERIES = root .. 'shape', root .. 'token', root .. 'attempts',
  root .. 'outcome', root .. 'recoveries'
local LEASE, COMPLETED, FAILED, CANCELLED, EXPIRY = root .. 'lease', root .. 'completed', root .. 'failed',
  root .. 'cancelled', root .. 'expiry'
local HOLDER, CANCELLING, COUNTS, QUEUES, SERIAL, WORKERS, TICK = root .. 'holder', root .. 'cancelling', root .. 'counts',
  root .. 'queues', root .. 'serial', root .. 'workers', root .. 'tick'
local FINISHED = { completed = COMPLETED, failed = FAILED, cancelled = CANCELLED }

-- The keys of queues, by queue. A key is made when it is first used. The text with which they begin is at 0.
local OF_QUEUE = {
  __index = function(keys, queue)
    local key = keys[0] .. queue
    keys[queue] = key
    return key
  end,
}
local DUE, SUSPECT = setmetatable({ [0] = root .. 'due:' }, OF_QUEUE), setmetatable({ [0] = root .. 'suspect:' }, OF_QUEUE)
local WAKE, HELD = setmetatable({ [0] = root .. 'wake:' }, OF_QUEUE), setmetatable({ [0] = root .. 'held:' }, OF_QUEUE)
local TAKEN, USES, PROGRESS, LOG = root .. 'taken', root .. 'uses', root .. 'progress', root .. 'log'

local function append(list, one, other)
  local length = #list
  list[length + 1], list[length + 2] = one, other
end

-- The numbers, the queue and the name of a shape, which many records share: see pack_shape in _packing.py. Returns nil if it
-- cannot be read.
local function parse_shape(text)
  local max_recoveries, keep_completed, keep_failed, keep_id, from, queue, name =
    string.match(text, '^(%d+) (%d+) (%d+) (%d+) ()([^\n]*)\n([^\n]*)\n')
  if from and from < 66 then
    return max_recoveries, keep_completed, keep_failed, keep_id, queue, name
  end
end

-- The shape of a record, from its blob or kind, which begin with the digest. Returns nil if it cannot be read, and why. The
-- kind of a record that was set aside is ! and its queue in hexadecimal digits; it is kept for 14 days.
local shapes, KEEP_SET_ASIDE = {}, 1209600000
local function shape_of(text)
  local digest = string.sub(text, 1, DIGEST)
  if shapes[digest] then
    return shapes[digest]
  end
  local is_set_aside, stored = string.byte(text) == 33, nil
  if is_set_aside then
    local times = string.rep(KEEP_SET_ASIDE .. ' ', 2)
    stored = '0 ' .. times .. '0 ' .. string.gsub(string.sub(text, 2), '%x%x', function(digits)
      return string.char(tonumber(digits, 16))
    end) .. '\n\n'
  else
    stored = call('HGET', SHAPE, digest)
  end
  local max_recoveries, keep_completed, keep_failed, keep_id, queue, name = parse_shape(stored or '')
  if not queue then
    return nil, 'its name, queue and limits ' .. (stored and 'cannot be read' or 'are missing')
      .. '; enqueue a job with the same ones, then requeue this one'
  end
  local until_failed = format_ms(now + keep_failed)
  local shape = {
    max_recoveries = tonumber(max_recoveries),
    keep_id = tonumber(keep_id),
    queue = queue,
    name = name,
    expiry = { completed = format_ms(now + keep_completed), failed = until_failed, cancelled = until_failed },
  }
  if not is_set_aside then
    shapes[digest] = shape
  end
  return shape
end

-- token: "token reserved due kind worker", stored exactly while the record is active. If it has a lane, "\nlane" follows.
local function format_token(token, due, kind, worker, lane)
  return token .. ' ' .. now_text .. ' ' .. due .. ' ' .. kind .. ' ' .. worker .. (lane and '\n' .. lane or '')
end

-- Returns token, reserved, due, kind, worker: all text; or nil if it cannot be read.
local function parse_token(text)
  return string.match(text, '^(%d+) (%d+) (%d+) (%S+) ([^\n]*)')
end

-- recoveries: "number taken_back token": how many recoveries of a record count, how many were taken back, and the token of the
-- last one, - once it was taken back. Read the number where it is needed with
-- number_or(string.match(text or '', '^%d+'), 0): a function would cost every script more.

-- outcome: "state settled started failed updated due kind worker\nresult", stored when a record is settled, recovered,
-- cancelled, requeued or replaced for the first time. The state is - if the record waits again; `settled` is the last settled
-- token. The result of a record that has not begun since it was replaced is "replaced".
local function format_outcome(state, settled, started, failed, due, kind, worker, result)
  return state .. ' ' .. settled .. ' ' .. started .. ' ' .. failed .. ' ' .. now_text .. ' ' .. due .. ' ' .. kind .. ' '
    .. worker .. '\n' .. result
end

-- Returns state, settled, started, failed, worker, due, kind, updated: all text. The last three are nil if there is no outcome
-- yet, and the state too if it cannot be read.
local function parse_outcome(text)
  if not text then
    return '-', '0', '0', '0', ''
  end
  local state, settled, started, failed, updated, due, kind, worker =
    string.match(text, '^(%S+) (%d+) (%d+) (%d+) (%d+) (%d+) (%S+) ([^\n]*)\n')
  return state, settled or '0', started or '0', failed or '0', worker or '', due, kind, updated
end

-- The due time of a record in the indexes of a queue; nil if it does not wait there. Those in `held` wait in a lane, or for
-- another record to finish.
local function due_in(queue, id)
  local due = call('ZSCORE', DUE[queue], id) or call('ZSCORE', SUSPECT[queue], id) or call('ZSCORE', HELD[queue], id)
  due = tonumber(due or nil)
  return due and math.floor(math.min(math.max(due, 0), 253402300799999)) -- until the year 9999
end

-- True once a script has searched all queues for a record. It does so once, because that takes time.
local has_searched = false
local function search_queues(id)
  has_searched = true
  for _, queue in ipairs(call('SMEMBERS', QUEUES)) do
    local due = due_in(queue, id)
    if due then
      return due, queue
    end
  end
end

-- Find a record: its state, when it is due, its token, its outcome, and its queue if it waits. The state is nil if it is in no
-- index. `shape` is nil if it cannot be read; then `queue` may name the queue whose index held the record. If the queues were
-- searched for another record already, one that could be in any of them counts as queued.
local function locate(id, shape, queue)
  local token, outcome = call('HGET', TOKEN, id), call('HGET', OUTCOME, id)
  if token then
    local _, _, due = parse_token(token)
    return 'active', number_or(due, now), token, outcome
  end
  local state, _, _, _, _, last_due = parse_outcome(outcome)
  queue = shape and shape.queue or queue
  local due = queue and due_in(queue, id)
  if not due and not (shape and FINISHED[state]) then
    for finished_state, index in pairs(FINISHED) do
      if call('ZSCORE', index, id) then
        return finished_state, finished_state == state and number_or(last_due, 0) or 0, token, outcome
      end
    end
    if not shape and has_searched then
      return 'queued', now, token, outcome, queue
    elseif not shape then
      due, queue = search_queues(id)
    end
  end
  if due then
    return due > now and 'scheduled' or 'queued', due, token, outcome, queue
  elseif FINISHED[state] then
    return state, number_or(last_due, 0), token, outcome
  end
  return nil, nil, token, outcome
end
