-- The start of every script: the time, and what most scripts use. Needs nothing.
--
-- KEYS: the column of records, a key that never exists, and those of one script. Other keys are not named: see _keys.py.
-- ARGV: the time in ms or -1 for the server's, and from ARGV[first] on the arguments of the operation.
--
-- A script defines its functions and tables again in each call, which costs more than most commands. So this file has only what
-- every script uses, and columns.lua the rest.
local RECORD = KEYS[1]
-- The text with which all keys begin.
local root = string.sub(RECORD, 1, -7)

local call = redis.call

-- Times are formatted here: Redis would format a number again for each command, and slowly.
local function format_ms(ms)
  -- %d is quicker, for whole numbers that it can hold.
  return string.format(ms % 1 == 0 and ms < 1e15 and ms > -1e15 and '%d' or '%.0f', ms)
end

-- Read a number that another program may have damaged. Returns `default` if it is none from 0 to 2^53.
local function number_or(text, default)
  local number = tonumber(text or nil)
  return number and number >= 0 and number <= 9007199254740992 and number or default
end

local now, micros = tonumber(ARGV[1]), 0
if now < 0 then
  local time = call('TIME')
  now, micros = time[1] * 1000 + math.floor(time[2] / 1000), time[2] % 1000
end
local now_text = format_ms(now)

local first = 2

-- What is stored beside a record may be damaged, and is read up to this length. The record itself: see parse_head.
local LONGEST = 8388608

-- Run a command with many arguments, in slices that fit on Lua's stack. `width` arguments belong together.
local function call_with_all(command, key, arguments, width)
  if #arguments <= 6000 then
    return #arguments > 0 and call(command, key, unpack(arguments))
  end
  local slice = 6000 - 6000 % width
  for from = 1, #arguments, slice do
    call(command, key, unpack(arguments, from, math.min(from + slice - 1, #arguments)))
  end
end

-- Read the fields of a hash: HMGET, in slices.
local function read_fields(key, ids)
  if #ids > 0 and #ids <= 6000 then
    return call('HMGET', key, unpack(ids))
  end
  local values = {}
  for from = 1, #ids, 6000 do
    local slice = call('HMGET', key, unpack(ids, from, math.min(from + 5999, #ids)))
    for i = 1, #slice do
      values[from + i - 1] = slice[i]
    end
  end
  return values
end

-- The length of the digest of a shape, with which each record and each kind begin: see _packing.py.
local DIGEST = 22

-- uses: how many records have a shape, stored as USE for each record and one FIRST_USE. So a number that was changed, or that
-- was lost and began again at 0, is no such sum and stays none, whatever is added or removed: see parse_uses in uses.lua.
local USE, FIRST_USE = 1000003, 271828
