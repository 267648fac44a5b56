-- name: all_kept
SELECT name, value FROM kept;

-- name: closed
-- Whether a table takes no more rows.
SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = $1::text::regclass AND tgname = 'mailvane_moved');

-- name: make_refusal
CREATE OR REPLACE FUNCTION mailvane_refuse_moved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'object_not_in_prerequisite_state';
END $$;

-- name: close
-- The statement that has a table take no more rows: it waits for those who are about to add or delete some.
SELECT format(
    'CREATE TRIGGER mailvane_moved BEFORE INSERT ON %I FOR EACH STATEMENT EXECUTE FUNCTION mailvane_refuse_moved(%L)',
    $1::text, $2::text
);

-- name: others
-- Sessions whose transaction has touched the queue.
SELECT DISTINCT a.pid, coalesce(nullif(a.application_name, ''), a.usename, 'a session')
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.granted AND l.pid <> pg_backend_pid() AND l.mode = 'RowExclusiveLock'
    AND l.relation IN ('queue'::regclass, 'inbox'::regclass)
ORDER BY 1;

-- name: inbox_waits
SELECT count(*) FROM inbox WHERE rejected IS NULL;

-- name: lowest
-- Events with what is known of their attempts, the lowest ids first, of so many bytes in all (and always one). Whoever
-- deletes one of them meanwhile is waited for.
SELECT q.id, q.event_type, q.mail_class, q.recorded, q.valued, q.body, q.extra,
    coalesce(d.attempts, 0), coalesce(d.due, 0), coalesce(d.first_failed, 0), coalesce(d.last_failed, 0),
    coalesce(d.error, ''), coalesce(d.history, '[]')::text, 0
FROM (
    SELECT id, sum(size) OVER (ORDER BY id) - size AS before
    FROM (
        SELECT id, octet_length(body) + octet_length(extra) AS size FROM queue ORDER BY id LIMIT $1
    ) page
) sized
JOIN queue q ON q.id = sized.id LEFT JOIN deferred d ON d.id = q.id
WHERE sized.before < $2
ORDER BY q.id
FOR UPDATE OF q;

-- name: lowest_delivered
-- The same of delivered events that are kept.
SELECT v.id, v.event_type, v.mail_class, v.recorded, v.valued, v.body, v.extra,
    v.attempts, 0, v.first_failed, v.last_failed, v.error, v.history::text, v.delivered
FROM (
    SELECT id, sum(size) OVER (ORDER BY id) - size AS before
    FROM (
        SELECT id, octet_length(body) + octet_length(extra) AS size FROM delivered ORDER BY id LIMIT $1
    ) page
) sized
JOIN delivered v ON v.id = sized.id
WHERE sized.before < $2
ORDER BY v.id
FOR UPDATE OF v;

-- name: count_kept
SELECT count(*) FROM delivered;

-- name: remove
DELETE FROM queue WHERE id = ANY ($1);

-- name: keep_no_more
DELETE FROM delivered WHERE id = ANY ($1);

-- name: undefer
DELETE FROM deferred WHERE id = ANY ($1);

-- name: book
INSERT INTO books VALUES ($1, $2);

-- name: order_lock
-- Nobody else adds anything until this transaction ends.
SELECT pg_advisory_xact_lock('queue'::regclass::oid::integer, 1);

-- name: unused
SELECT NOT EXISTS (SELECT FROM commits) AND NOT EXISTS (SELECT FROM queue) AND NOT EXISTS (SELECT FROM books);

-- name: set_last_id
SELECT setval('queue_id', $1);

-- name: note_last_id
-- As a commit that added nothing.
INSERT INTO commits VALUES ($1, 0, $2, $3);

-- name: add
INSERT INTO queue (id, event_type, mail_class, recorded, valued, body, extra)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::integer[], $6::text[], $7::text[]);

-- name: add_deferred
INSERT INTO deferred (id, attempts, due, first_failed, last_failed, error, history)
SELECT u.id, u.attempts, u.due, u.first_failed, u.last_failed, u.error, u.history::jsonb
FROM unnest($1::bigint[], $2::integer[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[], $7::text[])
    AS u (id, attempts, due, first_failed, last_failed, error, history)
ON CONFLICT (id) DO UPDATE SET
    attempts = excluded.attempts, due = excluded.due, first_failed = excluded.first_failed,
    last_failed = excluded.last_failed, error = excluded.error, history = excluded.history;

-- name: add_delivered
INSERT INTO delivered (
    id, event_type, mail_class, recorded, valued, body, extra, delivered, attempts, first_failed, last_failed, error, history
)
SELECT u.id, u.event_type, u.mail_class, u.recorded, u.valued, u.body, u.extra, u.delivered, u.attempts, u.first_failed,
    u.last_failed, u.error, u.history::jsonb
FROM unnest(
    $1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::integer[], $6::text[], $7::text[], $8::bigint[],
    $9::integer[], $10::bigint[], $11::bigint[], $12::text[], $13::text[]
) AS u (
    id, event_type, mail_class, recorded, valued, body, extra, delivered, attempts, first_failed, last_failed, error, history
)
ON CONFLICT (id) DO NOTHING;
