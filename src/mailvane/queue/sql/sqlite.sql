-- name: begin
-- Takes the write lock at once, so that a transaction never fails half-way for want of it.
BEGIN IMMEDIATE;

-- name: add_to_book
UPDATE books SET n = n + ? WHERE name = ?;

-- name: token_is_in
-- The first id of the group that came with a token, and how many events it had.
SELECT first, n FROM tokens WHERE token = ?;

-- name: remember_token
INSERT INTO tokens VALUES (?, ?, ?, ?);

-- name: forget_tokens
DELETE FROM tokens WHERE at < ?;

-- name: read
-- Whole rows above an id that no failure holds back.
SELECT q.id, q.event_type, q.mail_class, q.valued, q.body, q.extra
FROM queue q
WHERE q.id > ? AND NOT EXISTS (SELECT 1 FROM deferred d WHERE d.id = q.id)
ORDER BY q.id LIMIT ?;

-- name: scan
-- The same, routing columns alone.
SELECT q.id, q.event_type, q.mail_class
FROM queue q
WHERE q.id > ? AND NOT EXISTS (SELECT 1 FROM deferred d WHERE d.id = q.id)
ORDER BY q.id LIMIT ?;

-- name: fetch
SELECT q.id, q.event_type, q.mail_class, q.valued, q.body, q.extra, coalesce(d.attempts, 0)
FROM json_each(?) wanted CROSS JOIN queue q ON q.id = wanted.value LEFT JOIN deferred d ON d.id = q.id;

-- name: still_there
SELECT q.id FROM json_each(?) wanted CROSS JOIN queue q ON q.id = wanted.value;

-- name: due
-- Deferred events in the order of their time, from a place on; rows whose event is gone are left out.
SELECT d.id, q.event_type, q.mail_class, d.due, d.attempts
FROM deferred d CROSS JOIN queue q ON q.id = d.id
WHERE (d.due, d.id) > (?, ?) AND d.due <= ?
ORDER BY d.due, d.id LIMIT ?;

-- name: next_due
SELECT min(due) FROM deferred;

-- name: census
-- How many deferred events there are of each kind that routing tells apart.
SELECT q.event_type, q.mail_class, count(*) FROM deferred d CROSS JOIN queue q ON q.id = d.id GROUP BY 1, 2;

-- name: deferred_in_all
SELECT count(*) FROM deferred;

-- name: remove_range
DELETE FROM queue WHERE id BETWEEN ? AND ?;

-- name: remove_ids
DELETE FROM queue WHERE id IN (SELECT value FROM json_each(?));

-- name: undefer_range
DELETE FROM deferred WHERE id BETWEEN ? AND ?;

-- name: undefer_ids
DELETE FROM deferred WHERE id IN (SELECT value FROM json_each(?));

-- name: defer
-- Remembers failures of events that are still there. Of the attempts the first and the last nine stay; one that was
-- remembered before (a settlement that is repeated) is not added again.
INSERT INTO deferred (id, attempts, due, first_failed, last_failed, error, history)
SELECT f.value ->> 0, f.value ->> 1, f.value ->> 2, ?2, ?2, f.value ->> 3, json_array(f.value -> 4)
FROM json_each(?1) f
WHERE EXISTS (SELECT 1 FROM queue q WHERE q.id = f.value ->> 0)
ON CONFLICT (id) DO UPDATE SET
    attempts = excluded.attempts, due = excluded.due, last_failed = excluded.last_failed, error = excluded.error,
    history = CASE
        WHEN excluded.attempts <= attempts THEN history
        WHEN json_array_length(history) < ?3 THEN json_insert(history, '$[#]', excluded.history -> 0)
        ELSE json_insert(json_remove(history, '$[1]'), '$[#]', excluded.history -> 0)
    END;

-- name: keep_delivered
-- Copies events that are about to be removed, with what is known of their failed attempts.
INSERT OR REPLACE INTO delivered
SELECT q.id, q.event_type, q.mail_class, q.recorded, q.valued, q.body, q.extra, ?2, coalesce(d.attempts, 0),
       coalesce(d.first_failed, 0), coalesce(d.last_failed, 0), coalesce(d.error, ''), coalesce(d.history, '[]')
FROM json_each(?1) wanted CROSS JOIN queue q ON q.id = wanted.value LEFT JOIN deferred d ON d.id = q.id;

-- name: forget_delivered
-- Some of what was delivered before a moment: few enough for one transaction.
DELETE FROM delivered WHERE id IN (SELECT id FROM delivered WHERE delivered < ? ORDER BY delivered LIMIT ?);

-- name: replay
-- Puts kept events back as they were, and says which; one that waits already stays as it is.
INSERT INTO queue (id, event_type, mail_class, recorded, valued, body, extra)
SELECT v.id, v.event_type, v.mail_class, v.recorded, v.valued, v.body, v.extra
FROM json_each(?) wanted CROSS JOIN delivered v ON v.id = wanted.value
WHERE NOT EXISTS (SELECT 1 FROM queue q WHERE q.id = v.id)
RETURNING id;

-- name: keep_no_more
DELETE FROM delivered WHERE id IN (SELECT value FROM json_each(?));

-- name: pull_back
-- A wall clock that was set back must not put a retry off: a failure in the future shows by how much it was, and what is
-- due later than any back-off asks for is due at a time that one could have asked for.
UPDATE deferred SET
    due = CASE WHEN due - max(0, last_failed - ?1) <= ?2 THEN due - max(0, last_failed - ?1) ELSE ?3 END,
    last_failed = min(last_failed, ?1)
WHERE last_failed > ?1 OR due > ?2;

-- name: make_due
UPDATE deferred SET due = ? WHERE id IN (SELECT value FROM json_each(?)) AND due > ?;

-- name: make_all_due
UPDATE deferred SET due = ?1 WHERE due > ?1;

-- name: delete_by_hand
DELETE FROM events WHERE id IN (SELECT value FROM json_each(?));

-- name: prune_deferred
DELETE FROM deferred WHERE NOT EXISTS (SELECT 1 FROM queue q WHERE q.id = deferred.id);

-- name: books
-- Each id was an event; what `recorded_beside` says comes on top. (The first schema counts them.)
SELECT name, n FROM books WHERE name <> 'recorded_beside'
UNION ALL
SELECT 'recorded', n + coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'queue'), 0)
FROM books WHERE name = 'recorded_beside';

-- name: oldest
SELECT recorded FROM queue ORDER BY id LIMIT 1;

-- name: last_id
-- The highest id ever given, whether its event is still there or not.
SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'queue'), 0);

-- name: kept
SELECT value FROM kept WHERE name = ?;

-- name: keep
INSERT INTO kept VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: studio_rows
SELECT * FROM s_system_configs LIMIT 2;

-- name: no_studio_row
SELECT NOT EXISTS (SELECT 1 FROM s_system_configs);

-- name: mend_studio
-- The row, where somebody took it away.
INSERT INTO s_system_configs DEFAULT VALUES;

-- name: set_studio
UPDATE s_system_configs SET {assignments};

-- name: select
SELECT q.id, q.event_type, q.mail_class, q.recorded, q.valued, q.body, q.extra,
       coalesce(d.attempts, 0), coalesce(d.due, 0), coalesce(d.first_failed, 0), coalesce(d.last_failed, 0),
       coalesce(d.error, ''), {history}, 0
FROM queue q LEFT JOIN deferred d ON d.id = q.id
WHERE q.id > :after AND {conditions}
ORDER BY q.id LIMIT :limit;

-- name: matching_ids
SELECT q.id FROM queue q LEFT JOIN deferred d ON d.id = q.id
WHERE q.id > :after AND {conditions}
ORDER BY q.id LIMIT :limit;

-- name: count
SELECT count(*) FROM queue q LEFT JOIN deferred d ON d.id = q.id WHERE {conditions};

-- name: select_delivered
SELECT q.id, q.event_type, q.mail_class, q.recorded, q.valued, q.body, q.extra,
       q.attempts, 0, q.first_failed, q.last_failed, q.error, q.history, q.delivered
FROM delivered q
WHERE q.id > :after AND {conditions}
ORDER BY q.id LIMIT :limit;

-- name: delivered_ids
SELECT q.id FROM delivered q WHERE q.id > :after AND {conditions} ORDER BY q.id LIMIT :limit;

-- name: count_delivered
SELECT count(*) FROM delivered q WHERE {conditions};
