-- The numbers of an enqueue go on from here; only one writes at a time.
SELECT coalesce(max(number), 0) FROM record;
