-- Count what happens to jobs, for their history. Needs head.lua. Nothing here makes a script fail: what is damaged is removed,
-- and counted anew.
--
-- history:job:QUEUE\nNAME: a hash for each pair of queue and job, minute .. metric -> number, of the last minute in which it was
-- counted. history:jobs: a sorted set of these pairs -> ms of the first count in that minute. When a pair is counted in another
-- minute, its numbers are folded: added to those in history:minute:MINUTE, history:hour:HOUR and history:total, and removed.
-- These are hashes, pair -> "metric number metric number ...". The pair '\n', which has no names, counts all pairs beyond the
-- first 250 of a period.
--
-- Metrics: e enqueued, v recovered; F failed and X cancelled without an attempt; and for an attempt c (completed), f (failed),
-- r (retried) or x (cancelled), with the bucket of its run, a digit from 0 to r. In history:job the bucket of its wait follows;
-- elsewhere the waits have a metric of their own, w with their bucket.

-- Count for a pair of queue and job. Call it once all that it counts is written.
local function add_history(metric, queue, name, by)
  local minute, number = string.format('%d', now / 60000), by == 1 and '1' or format_ms(by)
  local field = minute .. metric
  local counted = redis.pcall('HINCRBY', root .. 'history:job:' .. queue .. '\n' .. name, field, number)
  if counted == by or type(counted) == 'table' then
    -- Insert: shared/fold_history
    if not begin(queue .. '\n' .. name, minute, field, number, counted) then
      add_history(metric, '', '', by)
    end
  end
end
