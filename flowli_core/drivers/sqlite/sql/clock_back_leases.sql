-- The clock was set back by ?1 ms to ?2: leases keep what they had left.
UPDATE record SET lease_end = max(lease_end - ?1, ?2) WHERE lease_end > ?2;
