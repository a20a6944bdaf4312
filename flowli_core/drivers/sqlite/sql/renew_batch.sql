-- A step was sent again: its batch is held from now on.
UPDATE record SET lease_end = ? WHERE lease_end IS NOT NULL AND token = ?;
