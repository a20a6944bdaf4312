-- What few calls of add_records.lua need, for a script that needs nothing of this otherwise. Needs head.lua.
local function general()
  ARGV[1] = now_text
  -- Insert: shared/head shared/columns shared/clock shared/identities
  return { refuse = refuse, apply_options = apply_options, follow_clock = follow_clock }
end
