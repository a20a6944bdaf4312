-- Tell watchers which of their records have changed. Needs columns.lua.
--
-- watched: a hash, id -> names of its watchers. watchers: a sorted set, watcher -> when it last called. changed:WATCHER: a sorted
-- set of the ids that have changed, and of '' in front of them, which ends the wait of the watcher.
local WATCHED, WATCHERS = root .. 'watched', root .. 'watchers'
local CHANGED = setmetatable({ [0] = root .. 'changed:' }, OF_QUEUE)

-- A watcher is forgotten this many ms after its last call: WATCHER_MEMORY of the contract.
local WATCHER_MEMORY = 30000

local alive = {}
local function is_alive(watcher)
  if alive[watcher] == nil then
    alive[watcher] = number_or(call('ZSCORE', WATCHERS, watcher), 0) > now - WATCHER_MEMORY
  end
  return alive[watcher]
end

-- Store the names of the watchers of a record, or remove the entry if there are none.
local function write_watchers(id, names)
  if #names > 0 then
    call('HSET', WATCHED, id, table.concat(names, ' '))
  else
    call('HDEL', WATCHED, id)
  end
end

-- Note that records have changed, for those who watch them. It reads one key if nobody watches any record.
local is_watching
local function notify(ids)
  if is_watching == nil then
    is_watching = call('EXISTS', WATCHED) == 1
  end
  if not is_watching or #ids == 0 then
    return
  end
  local changed = {}
  for i, text in ipairs(read_fields(WATCHED, ids)) do
    local names, has_dead = {}, false
    for name in string.gmatch(text or '', '%S+') do
      if is_alive(name) then
        names[#names + 1] = name
        changed[name] = changed[name] or { '0', '' }
        append(changed[name], now_text, ids[i])
      else
        has_dead = true
      end
    end
    if has_dead then
      write_watchers(ids[i], names)
    end
  end
  for name, members in pairs(changed) do
    call_with_all('ZADD', CHANGED[name], members, 2)
    call('PEXPIRE', CHANGED[name], WATCHER_MEMORY)
  end
end

-- Forget who watched records that are removed.
local function remove_watchers(ids)
  notify(ids)
  if is_watching then
    call_with_all('HDEL', WATCHED, ids, 1)
  end
end
