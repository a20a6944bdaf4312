UPDATE record SET
    state = 'waiting',
    due = ?1,
    recoveries = 0,
    suspect = (0 >= max_recoveries),
    cancel_requested = 0,
    progress = ?2,
    result = NULL,
    finished_at = NULL,
    forget_at = NULL,
    updated_at = ?1
WHERE number = ?3;
