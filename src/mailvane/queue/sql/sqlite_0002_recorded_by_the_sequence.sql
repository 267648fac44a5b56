-- How many events were recorded is what the sequence of ids says and `recorded_beside`, what has to be added to it: so a
-- group is added by one statement, which is a transaction by itself.
INSERT INTO books SELECT 'recorded_beside', n - coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'queue'), 0)
FROM books WHERE name = 'recorded';
DELETE FROM books WHERE name = 'recorded';
