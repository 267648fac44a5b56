-- How many events were recorded is what the sequence of ids says, and `recorded` in the books what has to be added to it:
-- so a group is added by one statement, which is a transaction by itself.
UPDATE books SET n = n - coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'queue'), 0) WHERE name = 'recorded';
