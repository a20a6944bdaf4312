-- Change which records a watcher watches, and answer those that have changed since it last asked, at most a thousand.
-- Needs: shared/columns shared/watchers
-- KEYS[#KEYS]: changed:WATCHER.
-- ARGV[first..]: watcher, how many ids to watch, these ids, and the ids that it no longer watches.
-- Answers ids.
-- First write: a ZREM of nothing, so that records can be watched when memory is full.
local CHANGED_IDS = KEYS[#KEYS]
-- A record has at most this many watchers; the first ones are dropped. They read the record from time to time all the same.
local MOST_WATCHERS = 100
local watcher, added = ARGV[first], tonumber(ARGV[first + 1])

-- Store the names of the watchers of a record, or remove the entry if there are none.
local function write_watchers(id, names)
  if #names > 0 then
    call('HSET', WATCHED, id, table.concat(names, ' '))
  else
    call('HDEL', WATCHED, id)
  end
end

-- Returns the watchers of a record that are alive, without this one, and true if this one was among them.
local function read_watchers(text)
  local names, is_watched = {}, false
  for name in string.gmatch(text or '', '%S+') do
    if name == watcher then
      is_watched = true
    elseif number_or(call('ZSCORE', WATCHERS, name), 0) > now - WATCHER_MEMORY then
      names[#names + 1] = name
    end
  end
  return names, is_watched
end

local function slice(from, to)
  local ids = {}
  for i = from, to do
    ids[#ids + 1] = ARGV[i]
  end
  return ids, read_fields(WATCHED, ids)
end

call('ZREM', LEASE, '')
call_with_all('ZREM', WATCHERS, call('ZRANGEBYSCORE', WATCHERS, '-inf', now - WATCHER_MEMORY, 'LIMIT', 0, 100), 1)
call('ZADD', WATCHERS, now, watcher)
local ids, texts = slice(first + 2, first + 1 + added)
for i, id in ipairs(ids) do
  local names, is_watched = read_watchers(texts[i])
  if not is_watched and call('HSTRLEN', RECORD, id) > 0 then
    if #names >= MOST_WATCHERS then
      table.remove(names, 1)
    end
    names[#names + 1] = watcher
    write_watchers(id, names)
  end
end
ids, texts = slice(first + 2 + added, #ARGV)
for i, id in ipairs(ids) do
  local names, is_watched = read_watchers(texts[i])
  if is_watched then
    write_watchers(id, names)
  end
end
-- Nothing is left once all watchers are forgotten.
call('PEXPIRE', WATCHERS, WATCHER_MEMORY)
call('PEXPIRE', WATCHED, WATCHER_MEMORY)
local changed = call('ZRANGE', CHANGED_IDS, 0, 1000)
call_with_all('ZREM', CHANGED_IDS, changed, 1)
if changed[1] == '' then
  table.remove(changed, 1)
end
return changed
