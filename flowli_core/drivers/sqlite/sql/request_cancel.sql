UPDATE record SET cancel_requested = 1 WHERE number = ?;
