-- Make a record wait, or finish it. The parameters are those of `Move`; where NULL makes no sense it leaves what there is.
UPDATE record SET
    state = ?1,
    due = ?2,
    recoveries = ?3,
    suspect = (?3 >= max_recoveries),
    settled = coalesce(?4, settled),
    progress = coalesce(?5, progress),
    result = ?6,
    failed_at = coalesce(?7, failed_at),
    started_at = coalesce(?8, started_at),
    finished_at = ?9,
    forget_at = ?10,
    updated_at = ?11,
    token = NULL,
    lease_end = NULL
WHERE number = ?12;
