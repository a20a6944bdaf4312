-- Tokens and revisions: how they are made, and how a token proves a lease. Needs columns.lua.

-- Returns the token or revision after `last`: greater than the one that the caller knows, and at least the time in microseconds.
-- So none is used again if the server loses its last writes, as in a failover or in a restart from a snapshot.
local function next_number(last, known)
  return format_ms(math.max(number_or(last, 0) + 1, number_or(known, 0) + 1, now * 1000 + micros))
end

-- Returns true if the entry of a record in `token` says that this worker holds it under this token.
local function is_held(text, token, worker)
  local current, _, _, _, holder = parse_token(text or '')
  return current == token and holder == worker
end
