-- Read one record.
-- ARGV[first]: id.
-- Answers {id, blob, state, due, progress, recoveries, token, outcome, finished}, or nothing where it is not there.
-- Writes nothing.
return stored(ARGV[first]) or false
