-- name: add_count
-- A damaged count is replaced.
INSERT INTO history (kind, start, name, queue, metric, n)
VALUES (:kind, :start, :name, :queue, :metric, :n)
ON CONFLICT DO UPDATE SET
    n = iif(typeof(n) = 'integer' AND n BETWEEN 0 AND 1 << 60, n, 0) + excluded.n;

-- name: find_pairs
SELECT DISTINCT name, queue FROM history WHERE kind = :kind AND start = :start;

-- name: find_counts
-- The counts of the periods that start from :first to :last, except those that are damaged.
SELECT start, name, queue, metric, n FROM history
WHERE kind = :kind AND start >= :first AND start <= :last
    AND (:name IS NULL OR name = :name) AND (:queue IS NULL OR queue = :queue)
    AND typeof(start) = 'integer' AND typeof(n) = 'integer' AND n BETWEEN 0 AND 1 << 60;

-- name: remove_ended_counts
DELETE FROM history WHERE kind = 'recent' AND start <> :minute;

-- name: remove_old_counts
-- Remove the periods that started until :until, or only the first of them if these have :limit rows.
DELETE FROM history WHERE kind = :kind AND start <= min(
    :until,
    ifnull((SELECT start FROM history WHERE kind = :kind ORDER BY start LIMIT 1 OFFSET :limit), :until)
);
