-- Read one schedule, those whose tick is due, or a page of all in the order of their keys.
-- Needs: shared/columns shared/schedules shared/text
-- KEYS[#KEYS - 1], KEYS[#KEYS]: the schedules by key, the index of their keys.
-- ARGV[first..]: 'one' and a key; or 'due' and a limit; or 'page', a limit and, except for the first page, the key after
--                which it begins.
-- Answers {now, {key, "revision paused next last record queue\\nspec"} for each}.
-- First write: a ZREM of a tick whose schedule is missing, or cannot be read.
local SCHEDULE, SCHEDULES = KEYS[#KEYS - 1], KEYS[#KEYS]
local mode, limit, after = unpack(ARGV, first, first + 2)
local schedules = {}

-- Add those of the schedules that can be returned. Remove the tick of one that cannot fire.
local function add(keys)
  local texts = read_fields(SCHEDULE, keys)
  for i, key in ipairs(keys) do
    if texts[i] and is_text(key) and (mode ~= 'due' or parse_schedule(texts[i])) then
      schedules[#schedules + 1] = { key, texts[i] }
    elseif mode == 'due' then
      call('ZREM', TICK, key)
    end
  end
end

if mode == 'one' then
  add({ ARGV[first + 1] })
elseif mode == 'due' then
  add(call('ZRANGEBYSCORE', TICK, '-inf', now, 'LIMIT', 0, limit))
else
  local from = after and '(' .. after or '-'
  repeat
    local most = limit - #schedules
    local keys = call('ZRANGEBYLEX', SCHEDULES, from, '+', 'LIMIT', 0, most)
    add(keys)
    from = '(' .. (keys[#keys] or '')
  until #schedules == tonumber(limit) or #keys < most
end
return { now, schedules }
