-- The next tick of any schedule.
SELECT next_tick FROM schedule WHERE next_tick IS NOT NULL ORDER BY next_tick LIMIT 1;
