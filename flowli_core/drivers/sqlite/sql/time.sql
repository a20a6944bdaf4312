-- name: read_time
-- The time of the last write.
SELECT now FROM store;

-- name: write_time
UPDATE store SET now = :now;

-- name: set_leases_back
-- The clock was set back by :by ms to :now: leases keep the time that they had left.
UPDATE record SET lease_end = max(lease_end - :by, :now) WHERE lease_end > :now;

-- name: set_due_back
-- The clock was set back from :seen to :now: what was due stays due.
UPDATE record SET due = :now
WHERE queue IN (SELECT queue FROM counts WHERE state = 'waiting' AND n > 0)
    AND state = 'waiting' AND apart = 0 AND suspect IN (0, 1) AND due > :now AND due <= :seen;

-- name: set_due_back_apart
UPDATE record SET due = :now
WHERE queue IN (SELECT queue FROM counts WHERE state = 'waiting' AND n > 0)
    AND state = 'waiting' AND apart = 1 AND due > :now AND due <= :seen;

-- name: skip_numbers
-- The clock was set back: see SKIPPED_NUMBERS in _times.py.
UPDATE store SET
    token = iif(typeof(token) = 'integer', token + :skipped, token),
    revision = iif(typeof(revision) = 'integer', revision + :skipped, revision);

-- name: find_first_due
-- The first due time or turn after :after, of the suspects of a queue or of its other records; none if the queue is paused. A
-- damaged one may be a text, which is greater than any number.
SELECT min(due) FROM (
    SELECT * FROM (
        SELECT due FROM record
        WHERE queue = :queue AND state = 'waiting' AND apart = 0 AND suspect = :suspect AND due > :after AND due < 1e18
        ORDER BY due LIMIT 1
    )
    UNION ALL
    SELECT * FROM (
        SELECT at FROM lane WHERE queue = :queue AND suspect = :suspect AND at > :after AND at < 1e18 ORDER BY at LIMIT 1
    )
)
WHERE NOT EXISTS (SELECT 1 FROM paused_queue WHERE paused_queue.queue = :queue AND since BETWEEN 0 AND 1e14);

-- name: find_first_lease
-- The end of the lease that ends first.
SELECT lease_end FROM record WHERE lease_end < 1e18 AND +state = 'active' ORDER BY lease_end LIMIT 1;

-- name: find_first_tick
-- The next tick of any schedule.
SELECT next_tick FROM schedule WHERE next_tick < 1e18 AND damage IS NULL ORDER BY next_tick LIMIT 1;

-- name: find_last_times
-- When the last record was enqueued and any record was changed, a batch was last reserved, a schedule was changed, and a
-- worker was seen. This reads all records.
SELECT
    (SELECT created_at FROM record WHERE number = (SELECT max(number) FROM record)),
    (SELECT max(updated_at) FROM record WHERE typeof(updated_at) = 'integer'),
    token / 1000, revision / 1000, (SELECT max(seen) FROM worker)
FROM store;
