-- Extend those of these [id, token] pairs that are current, and tell which those are.
UPDATE record SET lease_end = ?1
WHERE lease_end IS NOT NULL
    AND id IN (SELECT json_extract(value, '$[0]') FROM json_each(?2))
    AND (id, token) IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?2))
RETURNING id, token, cancel_requested;
