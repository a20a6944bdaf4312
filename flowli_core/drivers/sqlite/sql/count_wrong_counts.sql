SELECT count(*) FROM (
    SELECT queue, state, sum(n) AS n FROM (
        SELECT queue, state, n FROM counts UNION ALL SELECT queue, state, -count(*) FROM record GROUP BY queue, state
    ) GROUP BY queue, state
) WHERE n <> 0;
