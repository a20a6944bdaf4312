-- Read schedules. Needs columns.lua.

-- A schedule is "revision paused next last id queue\nspec". Returns the revision and the next tick, or nil if it cannot be read.
local function parse_schedule(text)
  local revision, next_tick, last_tick = string.match(text, '^(%d+) [01] ([%d-]+) ([%d-]+) [!-~]+ [^ \n]+\n')
  local has_ticks = revision and (next_tick == '-' or number_or(next_tick)) and (last_tick == '-' or number_or(last_tick))
  if has_ticks and number_or(revision) then
    return revision, next_tick
  end
end
