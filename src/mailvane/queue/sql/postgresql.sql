-- name: begin_session
-- What a session of ours goes by, whatever server, database and role say.
SELECT
    pg_backend_pid() AS pid,
    current_setting('server_encoding') AS encoding,
    current_setting('transaction_read_only') = 'on' AS read_only,
    set_config('search_path', quote_ident($1) || ', pg_temp', false),
    set_config('synchronous_commit',
        CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false),
    set_config('default_transaction_isolation', 'read committed', false),
    set_config('statement_timeout', '0', false),
    set_config('lock_timeout', $2, false),
    set_config('idle_in_transaction_session_timeout', '10s', false),
    set_config('tcp_keepalives_idle', '2', false),
    set_config('tcp_keepalives_interval', '1', false),
    set_config('tcp_keepalives_count', '2', false),
    set_config('tcp_user_timeout', '4000', false),
    set_config('jit', 'off', false);

-- name: plan_by_index
-- Tables that fill and empty all the time have statistics that are never right: every statement of ours that counts goes
-- by an index, and is to do so whatever the planner believes.
SELECT set_config('enable_seqscan', 'off', false), set_config('enable_hashjoin', 'off', false),
    set_config('enable_mergejoin', 'off', false), set_config('enable_bitmapscan', 'off', false);

-- name: end_idle_session
-- A process that was stopped, or hangs, lets go.
SELECT set_config('idle_session_timeout', $1, false);

-- name: version_in
-- By a look into the catalogue: what the session has cached of a name may be older than what another has just made.
SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = 'mailvane_schema';

-- name: version
SELECT version FROM mailvane_schema;

-- name: set_version
INSERT INTO mailvane_schema VALUES ($1);

-- name: move_version
UPDATE mailvane_schema SET version = $1;

-- name: relations_in
-- What stands in a schema under these names.
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = ANY ($2)
UNION
SELECT p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = $1 AND p.proname = ANY ($3)
ORDER BY 1;

-- name: schema_exists
SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1);

-- name: one_at_a_time
-- Who makes or changes the tables.
SELECT pg_advisory_xact_lock(hashtext('mailvane'), hashtext($1));

-- name: channel
SELECT 'mailvane_' || 'queue'::regclass::oid;

-- name: append
-- A column of the events comes as one text, in which U+001F ends each value: it stands in none of them, as JSON escapes
-- it and the door refuses it elsewhere. To encode arrays would cost the driver more.
SELECT first, n, known::text, waiting FROM mailvane_append(
    $1,
    (string_to_array($3, E'\x1f'))[:$2],
    (string_to_array($4, E'\x1f'))[:$2],
    (string_to_array($5, E'\x1f'))[:$2]::integer[],
    (string_to_array($6, E'\x1f'))[:$2],
    (string_to_array($7, E'\x1f'))[:$2],
    $8, $9
);

-- name: inbox
-- What people recorded inside their own transactions, oldest first.
SELECT id, event::text FROM inbox WHERE rejected IS NULL ORDER BY id LIMIT $1;

-- name: reject
UPDATE inbox SET rejected = r.reason FROM unnest($1::bigint[], $2::text[]) AS r (id, reason) WHERE inbox.id = r.id;

-- name: leave_out
DELETE FROM inbox WHERE id = ANY ($1) AND rejected IS NULL;

-- name: try_to_own
SELECT pg_try_advisory_lock('queue'::regclass::oid::integer, 2);

-- name: owns
SELECT mailvane_owns();

-- name: read_only
SELECT current_setting('transaction_read_only') = 'on';

-- name: owner
-- Who holds the lock, in its own words.
SELECT a.application_name, coalesce(host(a.client_addr), 'the server itself')
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.classid = 'queue'::regclass::oid AND l.objid = 2 AND l.objsubid = 2
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database());

-- name: end_silent_owner
-- One from which nothing has come for so long. The server ends such a session by itself where it is idle; not where it
-- stopped in the middle of what it was saying. It is ours to end where it has logged in as we have.
SELECT pg_terminate_backend(a.pid)
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.classid = 'queue'::regclass::oid AND l.objid = 2 AND l.objsubid = 2
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND a.wait_event = 'ClientRead' AND a.state_change < clock_timestamp() - $1::text::interval
    AND pg_has_role(a.usesysid, 'USAGE');

-- name: take_term
UPDATE kept SET value = (value::bigint + 1)::text WHERE name = 'term' RETURNING value::bigint;

-- name: identity
-- Changes when the database is restored elsewhere, and when a stand-by takes the server's place.
SELECT (SELECT system_identifier FROM pg_control_system()) || '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8);

-- name: renew_epoch
UPDATE kept SET value = substr(md5(gen_random_uuid()::text), 1, 8) WHERE name = 'epoch';

-- name: in_the_way
-- Who keeps others from the queue's tables.
SELECT DISTINCT a.pid, a.application_name, coalesce(a.usename, '')
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.granted AND l.pid <> pg_backend_pid() AND (
    (l.relation IN (to_regclass('queue'), to_regclass('deferred'), to_regclass('commits'), to_regclass('books'))
        AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'))
    OR (l.locktype = 'advisory' AND l.classid = to_regclass('queue')::oid AND l.objid = 1 AND l.objsubid = 2));

-- name: settle
SELECT delivered, dropped, skipped FROM mailvane_settle($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11);

-- name: read
-- Whole rows above an id that no failure holds back, of so many bytes in all (and always one).
SELECT id, event_type, mail_class, valued, body, extra
FROM (
    SELECT *, sum(size) OVER (ORDER BY id) - size AS before
    FROM (
        SELECT q.id, q.event_type, q.mail_class, q.valued, q.body, q.extra,
            octet_length(q.body) + octet_length(q.extra) AS size
        FROM queue q
        WHERE q.id > $1 AND NOT EXISTS (SELECT FROM deferred d WHERE d.id = q.id)
        ORDER BY q.id LIMIT $2
    ) page
) sized
WHERE before < $3
ORDER BY id;

-- name: scan
-- The same, routing columns alone.
SELECT q.id, q.event_type, q.mail_class
FROM queue q
WHERE q.id > $1 AND NOT EXISTS (SELECT FROM deferred d WHERE d.id = q.id)
ORDER BY q.id LIMIT $2;

-- name: fetch
-- In the order asked for.
SELECT q.id, q.event_type, q.mail_class, q.valued, q.body, q.extra, coalesce(d.attempts, 0)
FROM unnest($1::bigint[]) WITH ORDINALITY AS wanted (id, place)
JOIN queue q ON q.id = wanted.id LEFT JOIN deferred d ON d.id = q.id
ORDER BY wanted.place;

-- name: still_there
SELECT q.id FROM queue q WHERE q.id = ANY ($1);

-- name: due
-- Deferred events in the order of their time, from a place on; rows whose event is gone are left out.
SELECT d.id, q.event_type, q.mail_class, d.due, d.attempts
FROM deferred d JOIN queue q ON q.id = d.id
WHERE (d.due, d.id) > ($1, $2) AND d.due <= $3
ORDER BY d.due, d.id LIMIT $4;

-- name: next_due
SELECT min(due) FROM deferred;

-- name: census
-- How many deferred events there are of each kind that routing tells apart.
SELECT q.event_type, q.mail_class, count(*) FROM deferred d JOIN queue q ON q.id = d.id GROUP BY 1, 2;

-- name: deferred_in_all
SELECT count(*) FROM deferred;

-- name: last_id
-- The highest id ever given of which it is certain that every lower one is there to be read, or gone.
SELECT last FROM commits ORDER BY last DESC LIMIT 1;

-- name: oldest
SELECT id, recorded FROM queue WHERE id >= $1 ORDER BY id LIMIT 1;

-- name: books
SELECT name, sum(n)::bigint FROM (
    SELECT name, n FROM books UNION ALL SELECT 'recorded', n FROM commits
) entries GROUP BY name;

-- name: kept
SELECT value FROM kept WHERE name = $1;

-- name: keep
INSERT INTO kept VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: has_studio
SELECT to_regproc('mailvane_studio') IS NOT NULL;

-- name: studio_rows
SELECT mailvane_studio();

-- name: mend_studio
-- The row, where somebody took it away.
INSERT INTO s_system_configs SELECT WHERE NOT EXISTS (SELECT FROM s_system_configs);

-- name: set_studio
UPDATE s_system_configs SET {assignments};

-- name: pull_back
-- A wall clock that was set back must not put a retry off: a failure in the future shows by how much it was, and what is
-- due later than any back-off asks for is due at a time that one could have asked for.
UPDATE deferred SET
    due = CASE
        WHEN due - greatest(0, last_failed - $1::bigint) <= $2::bigint THEN due - greatest(0, last_failed - $1::bigint)
        ELSE $3::bigint END,
    last_failed = least(last_failed, $1::bigint)
WHERE id IN (SELECT id FROM deferred WHERE last_failed > $1 OR due > $2 FOR UPDATE SKIP LOCKED);

-- name: make_due
UPDATE deferred SET due = $2
WHERE id IN (SELECT id FROM deferred WHERE id = ANY ($1) AND due > $2 FOR UPDATE SKIP LOCKED);

-- name: make_all_due
UPDATE deferred SET due = $1 WHERE id IN (SELECT id FROM deferred WHERE due > $1 FOR UPDATE SKIP LOCKED);

-- name: delete
-- As a person would through `events`, many at a time; passes over what somebody else has.
WITH locked AS MATERIALIZED (
    SELECT q.id FROM queue q WHERE q.id = ANY ($1) ORDER BY q.id FOR UPDATE SKIP LOCKED
), removed AS (
    DELETE FROM queue q USING locked l WHERE q.id = l.id RETURNING q.id
), undeferred AS (
    DELETE FROM deferred d USING removed r WHERE d.id = r.id
), counted AS (
    INSERT INTO books SELECT 'deleted', count(*) FROM removed HAVING count(*) > 0
)
SELECT count(*) FROM removed;

-- name: replay
-- Puts kept events back as they were, and says which; one that waits already stays as it is.
WITH back AS (
    DELETE FROM delivered v WHERE v.id = ANY ($1) AND NOT EXISTS (SELECT FROM queue q WHERE q.id = v.id)
    RETURNING v.id, v.event_type, v.mail_class, v.recorded, v.valued, v.body, v.extra
), undeferred AS (
    DELETE FROM deferred d USING back b WHERE d.id = b.id
), put AS (
    INSERT INTO queue (id, event_type, mail_class, recorded, valued, body, extra) SELECT * FROM back RETURNING id
), counted AS (
    INSERT INTO books SELECT b.name, count(*) FROM put, (VALUES ('recorded'), ('replayed')) b (name) GROUP BY b.name
)
SELECT id FROM put ORDER BY id;

-- name: sum_up_commits
-- Commits of long ago are added to the books; the last one stays, for its id.
WITH old AS (
    DELETE FROM commits WHERE at < $1 AND last < (SELECT max(last) FROM commits) RETURNING n
)
INSERT INTO books SELECT 'recorded', sum(n) FROM old HAVING count(*) > 0;

-- name: sum_up_books
WITH old AS (DELETE FROM books RETURNING name, n)
INSERT INTO books SELECT name, sum(n) FROM old GROUP BY name;

-- name: forget_tokens
DELETE FROM tokens WHERE at < $1;

-- name: forget_orders
DELETE FROM orders WHERE at < clock_timestamp() - interval '1 day';

-- name: prune_deferred
DELETE FROM deferred WHERE id IN (
    SELECT d.id FROM deferred d WHERE NOT EXISTS (SELECT FROM queue q WHERE q.id = d.id) FOR UPDATE SKIP LOCKED
);

-- name: vacuum
-- The file is not made shorter: it would be locked for that, and grow again with the next burst.
VACUUM (TRUNCATE off) queue, deferred, commits, books;

-- name: forget_delivered
-- Some of what was delivered before a moment: few enough for one transaction.
DELETE FROM delivered WHERE id IN (SELECT id FROM delivered WHERE delivered < $1 ORDER BY delivered LIMIT $2);

-- name: leave_order
WITH left_here AS (INSERT INTO orders (act, argument) VALUES ($1, $2) RETURNING id)
SELECT id, pg_notify('mailvane_' || 'queue'::regclass::oid, 'o') FROM left_here;

-- name: orders
SELECT id, act, argument FROM orders WHERE answer IS NULL ORDER BY id;

-- name: answer_order
UPDATE orders SET answer = $2 WHERE id = $1;

-- name: answer_of
SELECT answer FROM orders WHERE id = $1;

-- name: take_back
-- An order that nobody has answered; whether it was still there.
DELETE FROM orders WHERE id = $1 AND answer IS NULL RETURNING id;

-- name: facts
-- What an operator should know of the server: durability, cleaning, the oldest transaction and whose it is, what the
-- inbox keeps.
SELECT current_setting('server_version'), current_setting('fsync') = 'on', current_setting('full_page_writes') = 'on',
    current_setting('autovacuum') = 'on', current_setting('transaction_read_only') = 'on',
    (SELECT count(*) FROM inbox WHERE rejected IS NOT NULL),
    coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)::float8,
    coalesce(coalesce(nullif(a.application_name, ''), a.usename) || ' (backend ' || a.pid || ')', '')
FROM (SELECT 1) one
LEFT JOIN (
    SELECT * FROM pg_stat_activity
    WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid() AND backend_xmin IS NOT NULL
    ORDER BY xact_start LIMIT 1
) a ON true;

-- name: now
SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint;

-- name: select
SELECT q.id, q.event_type, q.mail_class, q.recorded, q.valued, q.body, q.extra,
    coalesce(d.attempts, 0), coalesce(d.due, 0), coalesce(d.first_failed, 0), coalesce(d.last_failed, 0),
    coalesce(d.error, ''), coalesce(d.history, '[]')::text, 0
FROM queue q LEFT JOIN deferred d ON d.id = q.id
WHERE q.id > $1 AND {conditions}
ORDER BY q.id LIMIT $2;

-- name: matching_ids
SELECT q.id FROM queue q LEFT JOIN deferred d ON d.id = q.id
WHERE q.id > $1 AND {conditions}
ORDER BY q.id LIMIT $2;

-- name: count
SELECT count(*) FROM queue q LEFT JOIN deferred d ON d.id = q.id WHERE {conditions};

-- name: select_delivered
SELECT q.id, q.event_type, q.mail_class, q.recorded, q.valued, q.body, q.extra,
    q.attempts, 0, q.first_failed, q.last_failed, q.error, q.history::text, q.delivered
FROM delivered q
WHERE q.id > $1 AND {conditions}
ORDER BY q.id LIMIT $2;

-- name: delivered_ids
SELECT q.id FROM delivered q WHERE q.id > $1 AND {conditions} ORDER BY q.id LIMIT $2;

-- name: count_delivered
SELECT count(*) FROM delivered q WHERE {conditions};
