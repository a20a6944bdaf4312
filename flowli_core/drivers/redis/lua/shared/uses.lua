-- Read and change how many records have a shape. Needs columns.lua.

-- Returns the number of records that have a shape, or nil if it is missing or damaged: then the shape is kept.
local function parse_uses(text)
  local sum = string.match(text or '', '^[1-9]%d*$') and number_or(text)
  if sum and sum >= FIRST_USE and (sum - FIRST_USE) % USE == 0 then
    return (sum - FIRST_USE) / USE
  end
end

-- Subtract records from the uses of their shape, and remove it with the last of them. If their number is damaged, keep the shape: a
-- record may need it. Then change the number all the same, because recount.lua relies on that. Needs moves.lua.
local function subtract_uses(digest, removed)
  local stored = call('HGET', USES, digest)
  local uses = parse_uses(stored)
  if uses and uses > removed then
    call('HINCRBY', USES, digest, -removed * USE)
  elseif uses == removed then
    local shape = shape_of(digest)
    call('HDEL', USES, digest)
    call('HDEL', SHAPE, digest)
    if shape then
      may_be_empty[shape.queue] = true
    end
  elseif uses then
    call('HSET', USES, digest, 0)
  elseif stored then
    redis.pcall('HINCRBY', USES, digest, USE)
  end
end
