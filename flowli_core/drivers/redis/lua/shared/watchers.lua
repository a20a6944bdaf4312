-- Tell watchers which of their records have changed. Needs columns.lua. A function in a script costs each of its calls, used or
-- not, so there is only one here.
--
-- watched: a hash, id -> names of its watchers. watchers: a sorted set, watcher -> when it last called. changed:WATCHER: a sorted
-- set of the ids that have changed, and of '' in front of them, which ends the wait of the watcher.
local WATCHED, WATCHERS, CHANGED = root .. 'watched', root .. 'watchers', root .. 'changed:'

-- A watcher is forgotten this many ms after its last call: WATCHER_MEMORY of the contract.
local WATCHER_MEMORY = 30000

-- Note that records have changed, or were removed, for those who watch them. It reads one key if nobody watches any record.
local is_watching
local function notify(ids, are_removed)
  if is_watching == nil then
    is_watching = call('EXISTS', WATCHED) == 1
  end
  if not is_watching or #ids == 0 then
    return
  end
  local changed, is_alive = {}, {}
  for i, text in ipairs(read_fields(WATCHED, ids)) do
    local names, has_dead = {}, false
    for name in string.gmatch(text or '', '%S+') do
      if is_alive[name] == nil then
        is_alive[name] = number_or(call('ZSCORE', WATCHERS, name), 0) > now - WATCHER_MEMORY
      end
      if is_alive[name] then
        names[#names + 1] = name
        changed[name] = changed[name] or { '0', '' }
        append(changed[name], now_text, ids[i])
      else
        has_dead = true
      end
    end
    if are_removed or (has_dead and #names == 0) then
      call('HDEL', WATCHED, ids[i])
    elseif has_dead then
      call('HSET', WATCHED, ids[i], table.concat(names, ' '))
    end
  end
  for name, members in pairs(changed) do
    call_with_all('ZADD', CHANGED .. name, members, 2)
    call('PEXPIRE', CHANGED .. name, WATCHER_MEMORY)
  end
end
