DELETE FROM worker WHERE heard <= ?;
