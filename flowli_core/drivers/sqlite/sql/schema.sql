-- name: schema
-- Layout 12. Everything about a record that never changes is in `payload`, so that a reserve, a heartbeat or an ack
-- rewrites a short row. All times are in ms since 1970, UTC.

CREATE TABLE record (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    queue TEXT NOT NULL,
    key TEXT,
    behind INTEGER CHECK (behind IS NULL OR state = 'waiting'), -- the number of the record that must finish before it
    lane TEXT,                                   -- a line break, its limit, a line break, its value
    apart INTEGER AS (NOT (behind IS NULL AND lane IS NULL)), -- 1: it is not in the order of its queue itself
    unique_until INTEGER NOT NULL DEFAULT 0,     -- until when it keeps its key if it completes; 0 if it does not
    state TEXT NOT NULL CHECK (state IN ('waiting', 'active', 'completed', 'failed', 'cancelled')),
    due INTEGER NOT NULL CHECK (typeof(due) = 'integer'),
    token INTEGER,                               -- the current one
    settled INTEGER,                             -- the token under which it was last settled
    lease_end INTEGER,
    worker TEXT,
    -- Of a record that has not begun: when it expires; of one that has expired: when. Of an active one: 1 if its
    -- cancellation was requested. Else 0.
    cancel_at INTEGER NOT NULL DEFAULT 0,
    recoveries INTEGER NOT NULL DEFAULT 0 CHECK (typeof(recoveries) = 'integer'),
    recovered_token INTEGER,                     -- that of the last recovery that counts, unless it was taken back
    taken_back INTEGER NOT NULL DEFAULT 0,       -- how many recoveries were taken back
    max_recoveries INTEGER NOT NULL CHECK (typeof(max_recoveries) = 'integer'),
    keep_completed INTEGER NOT NULL CHECK (typeof(keep_completed) = 'integer'),
    keep_failed INTEGER NOT NULL CHECK (typeof(keep_failed) = 'integer'),
    keep_id INTEGER NOT NULL CHECK (typeof(keep_id) = 'integer'),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    started_at INTEGER,
    failed_at INTEGER,
    finished_at INTEGER,
    forget_at INTEGER,                           -- when a finished record is removed
    suspect INTEGER NOT NULL CHECK (suspect = (recoveries >= max_recoveries)),
    attempts BLOB,
    result BLOB,
    damage TEXT,                                 -- what cannot be read, if the record was set aside for that
    CHECK ((state = 'active') = (typeof(token) = 'integer' AND typeof(lease_end) = 'integer')),
    CHECK ((state IN ('waiting', 'active')) = (finished_at IS NULL AND forget_at IS NULL))
);

-- These include the columns of their conditions, so that counting and paging read only the index.
CREATE INDEX record_due ON record (state, queue, suspect, due, id, apart) WHERE state = 'waiting' AND apart = 0;
CREATE INDEX record_apart ON record (state, queue, due, id, apart, behind) WHERE state = 'waiting' AND apart = 1;
CREATE INDEX record_line ON record (lane, queue, due, id) WHERE lane IS NOT NULL AND state = 'waiting' AND behind IS NULL;
CREATE INDEX record_place ON record (lane) WHERE lane IS NOT NULL AND state = 'active';
CREATE INDEX record_lease ON record (lease_end) WHERE lease_end IS NOT NULL;
CREATE INDEX record_finished ON record (state, finished_at, id) WHERE finished_at IS NOT NULL;
CREATE INDEX record_forget ON record (forget_at) WHERE forget_at IS NOT NULL;
-- A record behind another has the same key.
CREATE UNIQUE INDEX record_key ON record (key, behind IS NULL) WHERE key IS NOT NULL AND finished_at IS NULL;
CREATE UNIQUE INDEX record_behind ON record (behind) WHERE behind IS NOT NULL;

-- The records whose `behind` is damaged, each with the unfinished record with its key, if there is one.
CREATE VIEW stranded AS
SELECT record.number, holder.number AS holder
FROM record LEFT JOIN record AS holder ON record.state = 'waiting'
    AND holder.key = record.key AND holder.key IS NOT NULL AND holder.behind IS NULL AND holder.finished_at IS NULL
WHERE record.behind IS NOT NULL AND record.behind IS NOT holder.number;

CREATE TABLE payload (
    number INTEGER PRIMARY KEY,
    input BLOB NOT NULL,
    meta BLOB,
    policy BLOB NOT NULL
);

-- What handlers have reported. Most records have neither.
CREATE TABLE progress (
    number INTEGER PRIMARY KEY,
    progress BLOB NOT NULL
);

CREATE TABLE log (
    number INTEGER PRIMARY KEY,
    token INTEGER NOT NULL,                      -- the one that reported last
    count INTEGER NOT NULL,                      -- the number of lines that came under it
    lines BLOB NOT NULL                          -- each ends with a newline
);

-- A record for readers. The casts and defaults are for rows that were changed by hand: a payload of the wrong type
-- reaches the core as bytes that it cannot decode, and the core handles those.
CREATE VIEW stored AS
SELECT
    record.number, record.id, record.name, record.queue, record.key, record.behind, record.apart, record.lane, record.state, record.due, record.token,
    record.settled, record.lease_end, record.worker, record.cancel_at, record.recoveries, record.max_recoveries,
    record.suspect, record.keep_completed, record.keep_failed, record.keep_id, record.unique_until, record.forget_at,
    record.damage, record.finished_at,
    CAST(ifnull(record.created_at, 0) AS INTEGER) AS created_at,
    CAST(ifnull(record.updated_at, 0) AS INTEGER) AS updated_at,
    CAST(record.started_at AS INTEGER) AS started_at,
    CAST(record.failed_at AS INTEGER) AS failed_at,
    CAST(record.attempts AS BLOB) AS attempts,
    CAST(record.result AS BLOB) AS result,
    CAST(coalesce(payload.input, '') AS BLOB) AS input,
    CAST(payload.meta AS BLOB) AS meta,
    CAST(coalesce(payload.policy, '{}') AS BLOB) AS policy
FROM record LEFT JOIN payload ON payload.number = record.number;

-- The lanes of each queue with waiting records, those behind others left out. `at` is when the lane has its turn in the
-- order of the queue, NULL if it has no free place. `suspect` is that of its first record.
CREATE TABLE lane (
    lane TEXT NOT NULL,
    queue TEXT NOT NULL,
    waiting INTEGER NOT NULL,
    at INTEGER,
    suspect INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (lane, queue)
) WITHOUT ROWID;
CREATE INDEX lane_turn ON lane (queue, suspect, at, lane) WHERE at IS NOT NULL;
CREATE INDEX lane_waiting ON lane (waiting DESC, queue, lane);

-- When records of a lane were reserved, in their order, until the period of the rate is over.
CREATE TABLE lane_start (
    lane TEXT NOT NULL,
    number INTEGER NOT NULL,
    at INTEGER NOT NULL,
    until INTEGER NOT NULL,
    PRIMARY KEY (lane, number)
) WITHOUT ROWID;
CREATE INDEX lane_start_until ON lane_start (until);

-- The numbers of each limit, as it was last enqueued. No concurrency and no count: there is none.
CREATE TABLE lane_limit (
    name TEXT PRIMARY KEY,
    concurrency INTEGER,
    count INTEGER,
    period INTEGER
) WITHOUT ROWID;

-- When each worker was last seen, with its last step and its last waiting step that wrote something, to answer them if
-- they are sent again.
CREATE TABLE worker (
    id TEXT NOT NULL,
    waits INTEGER NOT NULL,
    seen INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    token INTEGER,
    acks TEXT NOT NULL,
    about BLOB,
    PRIMARY KEY (id, waits)
) WITHOUT ROWID;

-- One row: the last token, the time of the last write (to notice when the clock is set back), and the last revision of
-- any schedule.
CREATE TABLE store (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    token INTEGER NOT NULL,
    now INTEGER NOT NULL,
    revision INTEGER NOT NULL
);
INSERT INTO store VALUES (1, 0, 0, 0);

CREATE TABLE schedule (
    key TEXT PRIMARY KEY,
    queue TEXT NOT NULL,
    spec BLOB NOT NULL,
    next_tick INTEGER,
    last_tick INTEGER,
    paused INTEGER NOT NULL,
    last_record_id TEXT,
    revision INTEGER NOT NULL,
    damage TEXT                                  -- what cannot be read, if it was stopped for that
) WITHOUT ROWID;
CREATE INDEX schedule_tick ON schedule (next_tick) WHERE next_tick IS NOT NULL;

CREATE TABLE paused_queue (
    queue TEXT PRIMARY KEY CHECK (typeof(queue) = 'text'),
    since INTEGER NOT NULL CHECK (typeof(since) = 'integer')
) WITHOUT ROWID;

-- The ids of removed records that are still taken, in the order of their removal.
CREATE TABLE taken_id (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    until INTEGER NOT NULL
);
CREATE INDEX taken_id_until ON taken_id (until);

-- The keys that completed records keep, in the order in which these completed. The records may have been removed.
CREATE TABLE unique_key (
    number INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE CHECK (typeof(key) = 'text'),
    id TEXT NOT NULL CHECK (typeof(id) = 'text'),
    until INTEGER NOT NULL CHECK (typeof(until) = 'integer')
);
CREATE INDEX unique_key_until ON unique_key (until);

-- How many jobs were enqueued and how they ended, by name and queue: in the running minute (recent), in a minute, in an
-- hour, and since the store was made (total).
CREATE TABLE history (
    kind TEXT NOT NULL,
    start INTEGER NOT NULL,
    name TEXT NOT NULL,
    queue TEXT NOT NULL,
    metric TEXT NOT NULL,                        -- see _history.py
    n INTEGER NOT NULL,
    PRIMARY KEY (kind, start, name, queue, metric)
) WITHOUT ROWID;

CREATE TABLE counts (
    queue TEXT NOT NULL,
    state TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (queue, state)
) WITHOUT ROWID;

CREATE TRIGGER record_added AFTER INSERT ON record BEGIN
    INSERT INTO counts VALUES (new.queue, new.state, 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;

CREATE TRIGGER record_moved AFTER UPDATE OF state ON record WHEN old.state <> new.state BEGIN
    UPDATE counts SET n = n - 1 WHERE queue = old.queue AND state = old.state;
    INSERT INTO counts VALUES (new.queue, new.state, 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;

CREATE TRIGGER record_removed AFTER DELETE ON record BEGIN
    UPDATE counts SET n = n - 1 WHERE queue = old.queue AND state = old.state;
    DELETE FROM counts WHERE queue = old.queue AND n = 0;
    DELETE FROM payload WHERE number = old.number;
    DELETE FROM progress WHERE number = old.number;
    DELETE FROM log WHERE number = old.number;
    INSERT OR REPLACE INTO taken_id (id, state, until) SELECT old.id, old.state, old.finished_at + old.keep_id
        WHERE typeof(old.id) = 'text' AND typeof(old.state) = 'text'
            AND typeof(old.keep_id) = 'integer' AND old.keep_id > 0
            AND old.finished_at + old.keep_id > (SELECT now FROM store);
END;
