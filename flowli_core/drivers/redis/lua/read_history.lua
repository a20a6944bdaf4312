-- Read the numbers of some periods. The caller has folded them: see fold_history.lua.
-- Needs: shared/columns
-- ARGV[first..]: about how many entries to read, the rest of the key of each period behind 'history:'.
-- Answers {how many of the periods were read, {position, "queue\\nname", numbers, ... for each entry}}.
-- First write: DEL of a key that has another type than it should.
local most, entries, read = tonumber(ARGV[first]), {}, 0
for i = first + 1, #ARGV do
  local key = root .. 'history:' .. ARGV[i]
  local found = redis.pcall('HSCAN', key, '0', 'COUNT', 1000)
  if found.err then
    call('DEL', key)
  else
    local values = found[2]
    for k = 1, #values, 2 do
      append(entries, read, values[k])
      entries[#entries + 1] = values[k + 1]
    end
  end
  read = read + 1
  if #entries >= 3 * most then
    break
  end
end
return { read, entries }
