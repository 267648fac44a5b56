-- name: close
-- Nobody adds anything any more; {message} is what they are told.
CREATE TRIGGER IF NOT EXISTS queue_moved BEFORE INSERT ON queue BEGIN SELECT RAISE(ABORT, {message}); END;

-- name: all_kept
SELECT name, value FROM kept;

-- name: lowest
-- Events with what is known of their attempts, the lowest ids first.
SELECT q.id, q.event_type, q.mail_class, q.recorded, q.valued, q.body, q.extra,
       coalesce(d.attempts, 0), coalesce(d.due, 0), coalesce(d.first_failed, 0), coalesce(d.last_failed, 0),
       coalesce(d.error, ''), coalesce(d.history, '[]'), 0
FROM queue q LEFT JOIN deferred d ON d.id = q.id
ORDER BY q.id LIMIT ?;

-- name: lowest_delivered
-- The same of delivered events that are kept.
SELECT id, event_type, mail_class, recorded, valued, body, extra, attempts, 0, first_failed, last_failed, error, history,
       delivered
FROM delivered ORDER BY id LIMIT ?;

-- name: count_kept
SELECT count(*) FROM delivered;

-- name: add
INSERT INTO queue (id, event_type, mail_class, recorded, valued, body, extra) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: add_deferred
INSERT OR REPLACE INTO deferred VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: add_delivered
INSERT OR REPLACE INTO delivered VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: set_book
UPDATE books SET n = ? WHERE name = ?;

-- name: forget_last_id
DELETE FROM sqlite_sequence WHERE name = 'queue';

-- name: set_last_id
INSERT INTO sqlite_sequence (name, seq) VALUES ('queue', ?);
