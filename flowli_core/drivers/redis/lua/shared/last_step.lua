-- The time for a script that only reads. Needs clock.lua.

-- Use this in a script that only reads. If the clock was set back since the last step, take the time of that step, because
-- what was due then is still due.
local function read_as_of_last_step()
  local last_now = number_or(call('HGET', SERIAL, 'now'), 0)
  if is_set_back(last_now) then
    now, now_text = last_now, format_ms(last_now)
  end
end
