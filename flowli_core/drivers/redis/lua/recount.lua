-- Correct the number of records that have a shape, or remove the shape if no record has it.
-- Needs: shared/columns shared/watchers shared/paused shared/lanes shared/moves shared/uses shared/remove
-- ARGV[first..]: digest, the wrong number or '' if there is none, how many records the caller has counted since it read it.
-- Answers 1; or 0 if records with this shape may have been added or removed meanwhile. Only a damaged number that HINCRBY
--         can change shows that, so another one is replaced by such a number: the caller has to count again.
-- First write: HSET uses.
local digest, wrong, counted = unpack(ARGV, first, first + 2)
if (call('HGET', USES, digest) or '') ~= wrong then
  return 0
elseif wrong ~= '0' and (parse_uses(wrong) or not (string.find(wrong, '^[1-9]%d*$') and number_or(wrong))) then
  call('HSET', USES, digest, 0)
  return 0
elseif counted == '0' then
  call('HSET', USES, digest, FIRST_USE)
  remove_of_shape(digest, {})
  write_counts()
else
  call('HSET', USES, digest, format_ms(counted * USE + FIRST_USE))
end
return 1
