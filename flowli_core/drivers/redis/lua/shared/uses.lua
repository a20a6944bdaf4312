-- Read how many records have a shape. Needs columns.lua.

-- Returns the number of records that have a shape, or nil if it is missing or damaged: then the shape is kept.
local function parse_uses(text)
  local sum = string.match(text or '', '^[1-9]%d*$') and number_or(text)
  if sum and sum >= FIRST_USE and (sum - FIRST_USE) % USE == 0 then
    return (sum - FIRST_USE) / USE
  end
end
