-- name: add
INSERT OR IGNORE INTO queue (id, event_type, mail_class, recorded, valued, body, extra) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: waiting
SELECT count(*), coalesce(max(id), 0) FROM queue;

-- name: old_rows
SELECT id, event_type, mail_class, recorded, valued, body, extra FROM queue ORDER BY id;

-- name: old_deferred
SELECT id, attempts, due, first_failed, last_failed, error, history FROM deferred;

-- name: old_deferred_1
-- Of the first schema.
SELECT id, attempts, due, first_failed, last_failed, error, '[]' FROM deferred;

-- name: add_deferred
INSERT OR IGNORE INTO deferred SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE EXISTS (SELECT 1 FROM queue WHERE id = ?1);

-- name: old_delivered
SELECT id, event_type, mail_class, recorded, valued, body, extra, delivered, attempts, first_failed, last_failed, error,
       history
FROM delivered;

-- name: add_delivered
INSERT OR IGNORE INTO delivered SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13
WHERE NOT EXISTS (SELECT 1 FROM queue WHERE id = ?1);

-- name: old_kept
SELECT name, value FROM kept;

-- name: add_kept
INSERT INTO kept VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: old_books
SELECT name, n FROM books;

-- name: set_book
UPDATE books SET n = ? WHERE name = ?;

-- name: old_last_id
SELECT seq FROM sqlite_sequence WHERE name = 'queue';

-- name: forget_last_id
DELETE FROM sqlite_sequence WHERE name = 'queue';

-- name: set_last_id
INSERT INTO sqlite_sequence (name, seq) VALUES ('queue', ?);
