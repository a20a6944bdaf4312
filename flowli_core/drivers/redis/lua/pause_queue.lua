-- Pause a queue, or resume it. Drops what cannot be read of the paused queues.
-- Needs: shared/columns shared/text shared/paused shared/list_paused
-- ARGV[first..]: queue, 1 to pause it or 0 to resume it, how many queues are paused at most.
-- Answers 1, 0 if it was paused, or not paused, already, or -1 if it would be one paused queue too many.
-- First write: a ZREM of nothing, so that a queue is paused or resumed even if memory is full.
local queue, is_to_pause, most = ARGV[first], ARGV[first + 1] == '1', tonumber(ARGV[first + 2])
local since = paused_since(queue)
if is_to_pause == (since and true or false) then
  return 0
end
local lines = {}
for _, pause in ipairs(list_paused()) do
  if pause[1] ~= queue then
    lines[#lines + 1] = pause[1] .. ' ' .. pause[2] .. '\n'
  end
end
if is_to_pause and #lines >= most then
  return -1
end
if is_to_pause then
  lines[#lines + 1] = queue .. ' ' .. now_text .. '\n'
end
call('ZREM', LEASE, '')
if #lines > 0 then
  call('HSET', SERIAL, 'paused', '\n' .. table.concat(lines))
else
  call('HDEL', SERIAL, 'paused')
end
-- Wake a waiter for what is due, or to wait for less long.
if not is_to_pause and call('EXISTS', DUE[queue], SUSPECT[queue], root .. 'turn:' .. queue, root .. 'turn_suspect:' .. queue) > 0 then
  call('ZADD', WAKE[queue], 0, '0')
end
return 1
