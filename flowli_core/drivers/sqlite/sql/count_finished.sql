-- How many are kept in each state that has an end?
SELECT state, sum(n) FROM counts WHERE state NOT IN ('waiting', 'active') GROUP BY state;
