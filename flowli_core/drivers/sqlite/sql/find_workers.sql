SELECT id, seen FROM worker WHERE seen > ?;
