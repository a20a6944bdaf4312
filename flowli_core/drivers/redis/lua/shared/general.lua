-- What few calls of add_records.lua need: see there. Needs columns.lua, clock.lua, identities.lua.
return { refuse = refuse, apply_options = apply_options, follow_clock = follow_clock }
