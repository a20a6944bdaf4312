-- name: find_limit
SELECT concurrency, count, period FROM lane_limit WHERE name = :name;

-- name: put_limit
INSERT OR REPLACE INTO lane_limit (name, concurrency, count, period) VALUES (:name, :concurrency, :count, :period);

-- name: find_lines
-- The queues in which records of a lane wait.
SELECT queue, at, suspect FROM lane WHERE lane = :lane;

-- name: count_places
-- The number of active records of a lane, up to :most.
SELECT count(*) FROM (SELECT 1 FROM record WHERE lane = :lane AND state = 'active' LIMIT :most);

-- name: join_lane
INSERT INTO lane (lane, queue, waiting) VALUES (:lane, :queue, :number)
ON CONFLICT DO UPDATE SET waiting = waiting + excluded.waiting;

-- name: leave_lane
UPDATE lane SET waiting = waiting - 1 WHERE lane = :lane AND queue = :queue;

-- name: forget_lane
DELETE FROM lane WHERE lane = :lane AND queue = :queue AND waiting <= 0;

-- name: find_first
-- The first record of a lane in a queue.
SELECT due, suspect FROM record
WHERE lane = :lane AND queue = :queue AND state = 'waiting' AND behind IS NULL ORDER BY due, id LIMIT 1;

-- name: set_turn
UPDATE lane SET at = :at, suspect = :suspect WHERE lane = :lane AND queue = :queue;

-- name: find_turns
-- The lanes of a queue that have their turn; none if the queue is paused. With :suspects, those whose first record is one too.
SELECT NULL, at, lane, NULL, queue, suspect FROM lane
WHERE queue = :queue AND suspect IN (0, :suspects) AND at <= :now
    AND NOT EXISTS (SELECT 1 FROM paused_queue WHERE paused_queue.queue = :queue AND since BETWEEN 0 AND 1e14)
ORDER BY at, lane LIMIT :limit;

-- name: find_first_due_of_lane
-- The first record of a lane in a queue, with the columns of find_due.
SELECT number, due, id, name, queue, suspect, recoveries, attempts, input, meta, policy, cancel_at
FROM stored WHERE lane = :lane AND queue = :queue AND state = 'waiting' AND behind IS NULL AND due <= :now
ORDER BY due, id LIMIT 1;

-- name: find_nth_last_start
-- The :count-th last of the starts of a lane that still count.
SELECT at FROM lane_start
WHERE lane = :lane AND number = (SELECT max(number) FROM lane_start WHERE lane = :lane) - :count + 1;

-- name: add_start
INSERT INTO lane_start (lane, number, at, until)
VALUES (:lane, (SELECT ifnull(max(number), 0) + 1 FROM lane_start WHERE lane = :lane), :now, :now + :period);

-- name: forget_starts
DELETE FROM lane_start WHERE (lane, number) IN (
    SELECT lane, number FROM lane_start WHERE until <= :now ORDER BY until LIMIT :limit
);

-- name: set_starts_back
-- The clock was set back: starts that are later than now count as now.
UPDATE lane_start SET at = :now, until = :now + until - at WHERE at > :now;

-- name: set_turns_back
-- The clock was set back: what had its turn keeps it. The step that finds another lane there computes its turn again. Of the
-- records that were due, another may be the first now.
UPDATE lane SET at = :now, suspect = ifnull((
    SELECT record.suspect FROM record
    WHERE record.lane = lane.lane AND record.queue = lane.queue AND state = 'waiting' AND behind IS NULL
    ORDER BY due, id LIMIT 1
), suspect)
WHERE at > :now;

-- name: list_lanes
-- The lanes with the most waiting records, with the due time of the first and the number of active ones.
SELECT
    lane.queue, lane.lane, lane.waiting, lane.at,
    (SELECT due FROM record
        WHERE record.lane = lane.lane AND record.queue = lane.queue AND state = 'waiting' AND behind IS NULL
        ORDER BY due, id LIMIT 1),
    (SELECT count(*) FROM record WHERE record.lane = lane.lane AND state = 'active'),
    concurrency, count, period
FROM lane LEFT JOIN lane_limit ON name = substr(lane.lane, 2, instr(substr(lane.lane, 2), char(10)) - 1)
ORDER BY lane.waiting DESC, lane.queue, lane.lane LIMIT :limit;

-- name: count_lanes
SELECT count(*) FROM lane;

-- name: find_end_of_lanes
-- The last of the next lanes: of up to :limit, and of so few that together they have about :most waiting records.
SELECT lane, queue FROM (
    SELECT lane, queue, sum(waiting) OVER (ORDER BY lane, queue) - waiting AS before FROM (
        SELECT lane, queue, waiting FROM lane WHERE (lane, queue) > (:lane, :queue) ORDER BY lane, queue LIMIT :limit
    )
) WHERE before < :most IS NOT FALSE ORDER BY lane DESC, queue DESC LIMIT 1;

-- name: count_wrong_lanes
-- The lanes of a range whose number of records is wrong, or whose turn is damaged. A turn is at most a day, the longest period
-- of a rate, after the due time of the first record.
SELECT count(*) FROM lane
WHERE (lane, queue) > (:lane, :queue) AND (lane, queue) <= (:last_lane, :last_queue) AND (
    typeof(waiting) = 'integer' AND waiting > 0 AND suspect IN (0, 1)
    AND waiting = (
        SELECT count(*) FROM record
        WHERE record.lane = lane.lane AND record.queue = lane.queue AND state = 'waiting' AND behind IS NULL
    )
    AND (at IS NULL OR (typeof(at) = 'integer' AND at >= 0 AND at <= 86400000 + max(:now, (
        SELECT due FROM record
        WHERE record.lane = lane.lane AND record.queue = lane.queue AND state = 'waiting' AND behind IS NULL
        ORDER BY due, id LIMIT 1
    ))))
) IS NOT TRUE;

-- name: count_without_lane
-- The waiting records of a range whose lane has no row.
SELECT count(*) FROM record
WHERE number > :after AND number <= :until AND lane IS NOT NULL AND state = 'waiting' AND behind IS NULL
    AND NOT EXISTS (SELECT 1 FROM lane WHERE lane.lane = record.lane AND lane.queue = ifnull(record.queue, ''));

-- name: remove_damaged_starts
DELETE FROM lane_start WHERE (
    typeof(lane) = 'text' AND typeof(number) = 'integer' AND typeof(at) = 'integer' AND typeof(until) = 'integer'
    AND at BETWEEN 0 AND :most AND until BETWEEN 0 AND :most AND number BETWEEN 0 AND :most
) IS NOT TRUE;

-- name: forget_lanes
DELETE FROM lane;

-- name: find_lanes_again
-- Every lane has its turn now. The step that finds it there computes it again.
INSERT INTO lane (lane, queue, waiting, at, suspect)
SELECT lane, ifnull(queue, ''), count(*), :now, 0 FROM record
WHERE lane IS NOT NULL AND state = 'waiting' AND behind IS NULL GROUP BY 1, 2;

-- name: offer_stuck_lanes
-- The lanes of a range that have no turn although they have a free place.
UPDATE lane SET at = :now
WHERE (lane, queue) > (:lane, :queue) AND (lane, queue) <= (:last_lane, :last_queue) AND at IS NULL
    AND (SELECT count(*) FROM record WHERE record.lane = lane.lane AND state = 'active') < ifnull((
        SELECT ifnull(concurrency, 1e15) FROM lane_limit
        WHERE name = substr(lane.lane, 2, instr(substr(lane.lane, 2), char(10)) - 1)
    ), 1);

-- name: count_stuck_lanes
SELECT count(*) FROM lane
WHERE at IS NULL
    AND (SELECT count(*) FROM record WHERE record.lane = lane.lane AND state = 'active') < ifnull((
        SELECT ifnull(concurrency, 1e15) FROM lane_limit
        WHERE name = substr(lane.lane, 2, instr(substr(lane.lane, 2), char(10)) - 1)
    ), 1);
