-- What few calls of add_records.lua need. Needs columns.lua, clock.lua, identities.lua.
local function general()
  return { refuse = refuse, apply_options = apply_options, follow_clock = follow_clock }
end
