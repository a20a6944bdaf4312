DELETE FROM worker WHERE seen <= ?;
