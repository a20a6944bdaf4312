-- Store what running handlers report. Needs columns.lua, watchers.lua.
-- A report is five arguments: id, token, progress or '', the number of its first line, its lines, each ended by a newline.
local MOST_LINES = 100

-- log: "token count\n" and the lines, each ended by a newline. `count` is how many lines have come under this token. Returns the
-- count under `token`, and the lines in a list. A log whose head cannot be read begins again.
local function parse_log(text, token)
  text = type(text) == 'string' and text or ''
  local last_token, count, from = string.match(text, '^(%d+) (%d+)\n()')
  local lines = {}
  for line in string.gmatch(from and string.sub(text, from) or '', '[^\n]*\n') do
    lines[#lines + 1] = line
  end
  return last_token == token and number_or(count, 0) or 0, lines
end

-- Append those of the lines that the log does not have.
local function append_lines(id, token, number, text)
  local count, lines = parse_log(redis.pcall('HGET', LOG, id), token)
  for line in string.gmatch(text, '[^\n]*\n') do
    if number >= count then
      lines[#lines + 1] = line
    end
    number = number + 1
  end
  local kept = table.concat(lines, '', math.max(#lines - MOST_LINES + 1, 1))
  redis.pcall('HSET', LOG, id, token .. ' ' .. format_ms(math.max(count, number)) .. '\n' .. kept)
end

-- Store the reports from ARGV[from] to ARGV[to] about leases that the worker holds. With pcall, because a key of another type
-- must not keep a worker from settling.
local function store_reports(from, to, worker)
  local reported = {}
  for at = from, to, 5 do
    local id, token, progress, first_line, lines = unpack(ARGV, at, at + 4)
    if is_held(call('HGET', TOKEN, id), token, worker) then
      reported[#reported + 1] = id
      if progress ~= '' then
        redis.pcall('HSET', PROGRESS, id, progress)
      end
      if lines ~= '' then
        append_lines(id, token, tonumber(first_line), lines)
      end
    end
  end
  notify(reported)
end
