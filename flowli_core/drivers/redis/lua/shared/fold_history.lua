-- Fold the numbers of the history of jobs: see add_history.lua. Needs head.lua.

local OF_JOB, PAIRS, OTHERS, MOST_PAIRS = root .. 'history:job:', root .. 'history:jobs', '\n', 250

-- Add the numbers of a pair to those of a period. Nothing is left of the period after `kept` ms.
local function add_to(key, pair, numbers, kept)
  local length = redis.pcall('HLEN', key)
  if type(length) == 'table' then
    call('DEL', key)
    length = 0
  end
  local text = call('HGET', key, pair)
  if not text and length >= MOST_PAIRS then
    local others = call('HGET', key, OTHERS)
    if length - (others and 1 or 0) >= MOST_PAIRS then
      pair, text = OTHERS, others
    end
  end
  local words, sums = {}, {}
  for metric, number in string.gmatch(string.sub(text or '', 1, 9999), '([evFXcfrxw][0-9a-r]?) (%d+)') do
    sums[metric] = number_or(number, 0) + (numbers[metric] or 0)
    words[#words + 1] = metric .. ' ' .. format_ms(sums[metric])
  end
  for metric, number in pairs(numbers) do
    if not sums[metric] then
      words[#words + 1] = metric .. ' ' .. format_ms(number)
    end
  end
  table.sort(words)
  call('HSET', key, pair, table.concat(words, ' '))
  if kept and length == 0 then
    call('PEXPIRE', key, format_ms(kept))
  end
end

-- Add to a minute or an hour, unless it ended longer ago than it is kept. It may be one to come, if the clock was set back.
local function add_to_period(name, number, length, most, pair, numbers)
  local kept = (number + 1) * length + most + 60000 - now
  if kept > 0 then
    add_to(root .. 'history:' .. name .. ':' .. format_ms(number), pair, numbers, math.min(kept, 2 * most))
  end
end

-- Fold the numbers of a pair, except those of the minute `except`.
local function fold(pair, except)
  local fields, by_minute = {}, {}
  local found = redis.pcall('HSCAN', OF_JOB .. pair, '0', 'COUNT', 10000)
  if found.err then
    call('DEL', OF_JOB .. pair)
  end
  local values = found[2] or {}
  for i = 1, #values, 2 do
    local minute, metric, wait = string.match(values[i], '^(%d+)(%a%w?)(%w?)$')
    local number = number_or(values[i + 1], 0)
    if not minute or minute ~= except then
      fields[#fields + 1] = values[i]
      if number_or(minute) and number > 0 then
        local numbers = by_minute[minute] or {}
        by_minute[minute], numbers[metric] = numbers, (numbers[metric] or 0) + number
        if wait ~= '' then
          numbers['w' .. wait] = (numbers['w' .. wait] or 0) + number
        end
      end
    end
  end
  for text, numbers in pairs(by_minute) do
    local minute = tonumber(text)
    add_to_period('minute', minute, 60000, 10800000, pair, numbers)
    add_to_period('hour', math.floor(minute / 60), 3600000, 604800000, pair, numbers)
    add_to(root .. 'history:total', pair, numbers)
  end
  call_with_all('HDEL', OF_JOB .. pair, fields, 1)
  if not except then
    call('ZREM', PAIRS, pair)
  end
end

-- Go on after the first count of a metric in this minute. `counted` is the reply of HINCRBY, an error if the number or the key
-- is damaged. Returns false if there are too many pairs in this minute.
local function begin(pair, minute, field, number, counted)
  if type(counted) == 'table' then
    if type(redis.pcall('HDEL', OF_JOB .. pair, field)) == 'table' then
      call('DEL', OF_JOB .. pair)
    end
    call('HINCRBY', OF_JOB .. pair, field, number)
  end
  local since = redis.pcall('ZSCORE', PAIRS, pair)
  if type(since) == 'table' then
    call('DEL', PAIRS)
    since = false
  end
  local function is_now(score)
    return string.format('%d', number_or(score, 0) / 60000) == minute
  end
  if since and is_now(since) then
    return true
  elseif not since and pair ~= OTHERS
    and call('ZCARD', PAIRS) - (call('ZSCORE', PAIRS, OTHERS) and 1 or 0) >= MOST_PAIRS then
    local oldest, oldest_since = unpack(call('ZRANGE', PAIRS, 0, 0, 'WITHSCORES'))
    if is_now(oldest_since) then
      call('HDEL', OF_JOB .. pair, field)
      return false
    end
    fold(oldest)
  end
  fold(pair, minute)
  call('ZADD', PAIRS, now_text, pair)
  return true
end
