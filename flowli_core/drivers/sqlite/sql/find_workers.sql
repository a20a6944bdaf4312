SELECT id, heard FROM worker WHERE heard > ?;
