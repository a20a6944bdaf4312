-- The lease that ends first.
SELECT lease_end, number FROM record WHERE lease_end IS NOT NULL ORDER BY lease_end LIMIT 1;
