-- The first schema. :"schema" stands for the schema that it is made in, `public` unless another was named.
-- Everything is made in one transaction, and nothing that is there already is touched (see postgresql/schema.py).

CREATE TABLE mailvane_schema (version integer NOT NULL);
COMMENT ON TABLE mailvane_schema IS 'mailvane: the schema of its queue';

CREATE SEQUENCE queue_id CACHE 1;

CREATE TABLE queue (
    id         bigint  PRIMARY KEY,                -- of queue_id, drawn under the ordering lock: never used twice
    event_type text    NOT NULL,
    mail_class text    NOT NULL,                   -- what filters compare: lowercased, the listid where there is none
    recorded   bigint  NOT NULL,                   -- wall clock, milliseconds
    valued     integer NOT NULL,                   -- bytes of body whose members have a value
    body       text    NOT NULL,                   -- members of the legacy object without id
    extra      text    NOT NULL                    -- members of the modern object alone
);
ALTER SEQUENCE queue_id OWNED BY queue.id;

-- Events that failed and wait for another try. Their rows stay in queue; a row here whose event is gone means nothing.
CREATE TABLE deferred (
    id           bigint  PRIMARY KEY,
    attempts     integer NOT NULL,
    due          bigint  NOT NULL,                 -- wall clock, milliseconds
    first_failed bigint  NOT NULL,
    last_failed  bigint  NOT NULL,
    error        text    NOT NULL,
    history      jsonb   NOT NULL                  -- [[number, at, seconds, status, error], …]: the first and the last nine
);
CREATE INDEX deferred_due ON deferred (due, id);

-- Delivered events that are kept for a while (`keep_delivered`).
CREATE TABLE delivered (
    id           bigint  PRIMARY KEY,
    event_type   text    NOT NULL,
    mail_class   text    NOT NULL,
    recorded     bigint  NOT NULL,
    valued       integer NOT NULL,
    body         text    NOT NULL,
    extra        text    NOT NULL,
    delivered    bigint  NOT NULL,                 -- wall clock, milliseconds
    attempts     integer NOT NULL,                 -- that failed before
    first_failed bigint  NOT NULL,
    last_failed  bigint  NOT NULL,
    error        text    NOT NULL,
    history      jsonb   NOT NULL
);
CREATE INDEX delivered_at ON delivered (delivered);

-- One row a group commit. The highest `last` is the highest id ever given of which it is certain that every lower one is
-- there to be read or gone. `token` makes a commit whose answer was lost harmless to repeat.
CREATE TABLE commits (
    last  bigint  PRIMARY KEY,
    n     integer NOT NULL,
    token text    NOT NULL UNIQUE,
    at    bigint  NOT NULL
);

-- Counters, as rows to be added up: a row that is updated would be held by whoever deletes by hand and does not commit.
-- What was recorded is here and, of late, in `commits`; upkeep sums both.
CREATE TABLE books (name text NOT NULL, n bigint NOT NULL);

CREATE TABLE kept (name text PRIMARY KEY, value text NOT NULL);
-- The epoch tells this queue from every other: receivers know events by epoch and id.
INSERT INTO kept VALUES ('epoch', substr(md5(gen_random_uuid()::text), 1, 8)), ('term', '0');

-- Tokens of groups that were added lately, so that a producer who lost the answer can ask again.
CREATE TABLE tokens (token text PRIMARY KEY, at bigint NOT NULL, first bigint NOT NULL, n integer NOT NULL);

-- What people record inside their own transactions (mailvane_record), until a recorder moves it to the queue; what its
-- door does not let in stays, with the reason.
CREATE TABLE inbox (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    event    jsonb NOT NULL,
    rejected text
);
CREATE INDEX inbox_waiting ON inbox (id) WHERE rejected IS NULL;

-- What commands ask of the owner, and what it answers.
CREATE TABLE orders (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    act      text NOT NULL,
    argument text NOT NULL,
    answer   text
);

-- With the defaults a fifth of a table must be dead before it is looked after, which suits no queue.
ALTER TABLE queue SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 5000,
    toast.autovacuum_vacuum_cost_delay = 0
);
ALTER TABLE deferred SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 10000
);
ALTER TABLE delivered SET (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
    toast.autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_threshold = 5000
);
ALTER TABLE commits SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0
);
ALTER TABLE books SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0
);
ALTER TABLE tokens SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0
);
ALTER TABLE inbox SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0
);

-- The classic row, for people and their SQL. A body is parsed once for all columns, and not at all by a statement that
-- names none of them (count by type): a join with at most one row, as an aggregate without GROUP BY is, is left out then.
CREATE VIEW events AS
SELECT
    q.id, q.event_type,
    e.event_time, e.email, e.listid, e.list_name, e.list_label, e.sendid, e.bounce_type, e.bounce_code,
    e.bounce_text, e.click_url, e.click_tracking_id, e.studio_rl_seq, e.studio_rl_recipid, e.studio_campaign_id,
    e.studio_autoresponder_id, e.studio_is_unique, e.studio_mailing_list_id, e.studio_subscriber_id, e.studio_ip,
    e.studio_rl_seq_id, e.studio_rl_distinct_id, e.engine_ip, e.user_agent, e.json_before, e.json_after
FROM queue q
LEFT JOIN LATERAL (
    SELECT
        min(m.event_time) AS event_time, min(m.email) AS email, min(m.listid) AS listid,
        min(m.list_name) AS list_name, min(m.list_label) AS list_label, min(m.sendid) AS sendid,
        min(m.bounce_type) AS bounce_type, min(m.bounce_code) AS bounce_code, min(m.bounce_text) AS bounce_text,
        min(m.click_url) AS click_url, min(m.click_tracking_id) AS click_tracking_id,
        min(m.studio_rl_seq) AS studio_rl_seq, min(m.studio_rl_recipid) AS studio_rl_recipid,
        min(m.studio_campaign_id) AS studio_campaign_id, min(m.studio_autoresponder_id) AS studio_autoresponder_id,
        min(m.studio_is_unique) AS studio_is_unique, min(m.studio_mailing_list_id) AS studio_mailing_list_id,
        min(m.studio_subscriber_id) AS studio_subscriber_id, min(m.studio_ip) AS studio_ip,
        min(m.studio_rl_seq_id) AS studio_rl_seq_id, min(m.studio_rl_distinct_id) AS studio_rl_distinct_id,
        min(m.engine_ip) AS engine_ip, min(m.user_agent) AS user_agent, min(m.json_before) AS json_before,
        min(m.json_after) AS json_after
    FROM json_to_record(('{' || q.body || '}')::json) AS m (
        event_time bigint, email text, listid text, list_name text, list_label text, sendid text, bounce_type text,
        bounce_code bigint, bounce_text text, click_url text, click_tracking_id text, studio_rl_seq bigint,
        studio_rl_recipid text, studio_campaign_id bigint, studio_autoresponder_id bigint, studio_is_unique bigint,
        studio_mailing_list_id bigint, studio_subscriber_id bigint, studio_ip text, studio_rl_seq_id bigint,
        studio_rl_distinct_id bigint, engine_ip text, user_agent text, json_before text, json_after text
    )
) e ON true;

CREATE FUNCTION mailvane_delete_event() RETURNS trigger LANGUAGE plpgsql SET search_path = :"schema", pg_temp AS $$
BEGIN
    -- The queue's row first, as everybody does: whoever has it may have its deferred.
    DELETE FROM queue WHERE id = OLD.id;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    DELETE FROM deferred WHERE id = OLD.id;
    INSERT INTO books VALUES ('deleted', 1);
    RETURN OLD;
END $$;
CREATE TRIGGER events_delete INSTEAD OF DELETE ON events FOR EACH ROW EXECUTE FUNCTION mailvane_delete_event();

CREATE FUNCTION mailvane_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        RAISE EXCEPTION 'events are not inserted by hand' USING
            ERRCODE = 'feature_not_supported',
            HINT = 'Record them: SELECT mailvane_record(''{"event_type": "engine_unsub", "email": "user@example.com"}''::jsonb), '
                'also inside a transaction of your own; or by `mailvane record` or POST /v1/events.';
    END IF;
    RAISE EXCEPTION 'events do not change' USING
        ERRCODE = 'feature_not_supported',
        HINT = 'Delete the event, and record another: SELECT mailvane_record(''{…}''::jsonb).';
END $$;
CREATE TRIGGER events_insert INSTEAD OF INSERT ON events FOR EACH ROW EXECUTE FUNCTION mailvane_refuse_change();
CREATE TRIGGER events_update INSTEAD OF UPDATE ON events FOR EACH ROW EXECUTE FUNCTION mailvane_refuse_change();

-- Records an event if and only if the transaction that calls this commits. It is looked at closely by the recorder that
-- moves it to the queue; what can be told here cheaply fails the caller's statement at once.
CREATE FUNCTION mailvane_record(event jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    types CONSTANT text[] := ARRAY[
        'bounce_all', 'bounce_bad_address', 'scomp', 'engine_open', 'engine_click', 'engine_unsub', 'delivery_attempt',
        'studio_open', 'studio_click', 'studio_unsub', 'studio_subscriber_created', 'studio_subscriber_updated'
    ];
    fields CONSTANT text[] := ARRAY[
        'event_type', 'event_time', 'email', 'listid', 'list_name', 'list_label', 'sendid', 'bounce_type', 'bounce_code',
        'bounce_text', 'click_url', 'click_tracking_id', 'studio_rl_seq', 'studio_rl_recipid', 'studio_campaign_id',
        'studio_autoresponder_id', 'studio_is_unique', 'studio_mailing_list_id', 'studio_subscriber_id', 'studio_ip',
        'studio_rl_seq_id', 'studio_rl_distinct_id', 'engine_ip', 'user_agent', 'json_before', 'json_after', 'timestamp',
        'channel', 'status', 'is_retry', 'msguid', 'sender', 'mtaid', 'outmtaid', 'outmtaid_ip', 'outmtaid_hostname',
        'injected_time', 'message', 'sendsliceid', 'throttleid', 'mx_hostname', 'mx_ip', 'from_address', 'headers',
        'message_size', 'smtp_timing', 'mail_class', 'server_id', 'synchronous', 'is_privacy_open'
    ];
    wrong text;
BEGIN
    IF event IS NULL OR jsonb_typeof(event) <> 'object' THEN
        wrong := 'it is no JSON object';
    ELSIF NOT event ? 'event_type' OR NOT event ->> 'event_type' = ANY (types) THEN
        wrong := 'event_type: unknown type ' || coalesce(quote_literal(left(event ->> 'event_type', 60)), 'null')
            || '; there are ' || array_to_string(types, ', ');
    ELSIF coalesce(jsonb_typeof(event -> 'email'), '') <> 'string' OR event ->> 'email' = '' THEN
        wrong := 'email: must be the address that the message was sent to, as a string that is not empty';
    ELSIF event ? 'id' THEN
        wrong := 'id: is given by the queue; leave it out';
    ELSIF octet_length(event::text) > 1048576 THEN
        wrong := 'is larger than 1,048,576 bytes';
    ELSE
        SELECT 'unknown field ' || quote_literal(left(key, 60)) INTO wrong
        FROM jsonb_object_keys(event) AS key WHERE NOT key = ANY (fields) LIMIT 1;
    END IF;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'the event was not recorded: %', wrong USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF event ->> 'event_time' IS NULL THEN -- its time is now, not when it is moved
        event := event || jsonb_build_object('event_time', floor(extract(epoch FROM clock_timestamp()))::bigint);
    END IF;
    INSERT INTO inbox (event) VALUES (mailvane_record.event);
    PERFORM pg_notify('mailvane_' || 'queue'::regclass::oid, 'i');
END $$;
-- It runs with the rights of the queue's owner: who may call it is for that owner to say (GRANT EXECUTE).
REVOKE ALL ON FUNCTION mailvane_record(jsonb) FROM PUBLIC;

-- Adds a group of events in one transaction, so that ids become visible in ascending order: everybody who adds takes the
-- ordering lock, by a statement of its own, before ids are drawn, and has it until the end of the transaction. Called
-- outside of a transaction block, so that nobody can stop while holding it.
-- `tokens` and `inboxes` are empty or have an entry for each event: the producer's token ('' for none), the row of inbox
-- that it comes from (and goes with; one that is gone adds nothing). Repeated with the same `commit_token` it adds nothing.
-- Answers the first id and how many there are, `known` the tokens that were in before: {token: [first, n]}.
CREATE FUNCTION mailvane_append(
    commit_token text, types text[], classes text[], lengths integer[], bodies text[], extras text[],
    tokens text[], inboxes bigint[],
    OUT first bigint, OUT n integer, OUT known jsonb, OUT waiting boolean
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    now CONSTANT bigint := extract(epoch FROM clock_timestamp()) * 1000;
    accepted bigint[];
    moved bigint[];
    last bigint;
BEGIN
    PERFORM pg_advisory_xact_lock('queue'::regclass::oid::integer, 1);
    SELECT c.last, c.n INTO last, mailvane_append.n FROM commits c WHERE c.token = commit_token;
    IF FOUND THEN
        mailvane_append.first := last - mailvane_append.n + 1;
        SELECT jsonb_object_agg(t.token, jsonb_build_array(t.first, t.n)) INTO known FROM tokens t
        WHERE t.token = ANY (mailvane_append.tokens)
            AND NOT t.first BETWEEN mailvane_append.first AND last;
        RETURN;
    END IF;
    IF cardinality(mailvane_append.tokens) > 0 OR cardinality(inboxes) > 0 THEN
        SELECT jsonb_object_agg(t.token, jsonb_build_array(t.first, t.n)) INTO known FROM tokens t
        WHERE t.token <> '' AND t.token = ANY (mailvane_append.tokens);
        WITH gone AS (DELETE FROM inbox i WHERE i.id = ANY (inboxes) AND i.rejected IS NULL RETURNING i.id)
        SELECT array_agg(id) INTO moved FROM gone;
        SELECT array_agg(u.o ORDER BY u.o) INTO accepted
        FROM unnest(types, mailvane_append.tokens, inboxes) WITH ORDINALITY AS u (type, token, inbox, o)
        WHERE NOT coalesce(known, '{}') ? coalesce(u.token, '') AND (u.inbox IS NULL OR u.inbox = ANY (moved));
        mailvane_append.n := coalesce(cardinality(accepted), 0);
    ELSE
        mailvane_append.n := cardinality(types);
    END IF;
    IF mailvane_append.n > 0 THEN
        -- Drawn in one piece: nobody else draws meanwhile.
        mailvane_append.first := nextval('queue_id');
        last := mailvane_append.first + mailvane_append.n - 1;
        IF mailvane_append.n > 1 THEN
            PERFORM setval('queue_id', last);
        END IF;
        IF accepted IS NULL THEN
            INSERT INTO queue (id, event_type, mail_class, recorded, valued, body, extra)
            SELECT mailvane_append.first + u.o - 1, u.type, u.class, now, u.length, u.body, u.extra
            FROM unnest(types, classes, lengths, bodies, extras) WITH ORDINALITY
                AS u (type, class, length, body, extra, o);
        ELSE
            INSERT INTO queue (id, event_type, mail_class, recorded, valued, body, extra)
            SELECT mailvane_append.first + row_number() OVER (ORDER BY u.o) - 1,
                u.type, u.class, now, u.length, u.body, u.extra
            FROM unnest(types, classes, lengths, bodies, extras) WITH ORDINALITY
                AS u (type, class, length, body, extra, o)
            WHERE u.o = ANY (accepted);
            INSERT INTO tokens
            SELECT u.token, now, min(mailvane_append.first + a.place - 1), count(*)
            FROM unnest(accepted) WITH ORDINALITY AS a (o, place)
            JOIN unnest(mailvane_append.tokens) WITH ORDINALITY AS u (token, o) ON u.o = a.o
            WHERE u.token <> '' GROUP BY u.token;
        END IF;
        INSERT INTO commits VALUES (last, mailvane_append.n, commit_token, now);
        PERFORM pg_notify('mailvane_' || 'queue'::regclass::oid, 'e');
    END IF;
    waiting := EXISTS (SELECT FROM inbox i WHERE i.rejected IS NULL);
END $$;

-- Whether this very session owns delivery. A proxy that shares sessions out by transaction gives itself away here.
CREATE FUNCTION mailvane_owns() RETURNS boolean LANGUAGE sql AS $$
    SELECT EXISTS (
        SELECT FROM pg_locks
        WHERE locktype = 'advisory' AND granted AND pid = pg_backend_pid()
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND classid = 'queue'::regclass::oid AND objid = 2 AND objsubid = 2
    )
$$;

-- Makes durable what became of a batch. Never waits for a row that somebody else has: those stay as they are, and are
-- told in `skipped`.
CREATE FUNCTION mailvane_settle(
    my_term bigint, now bigint, keep boolean, arrived bigint[], dropped_ones bigint[],
    failed bigint[], numbers integer[], dues bigint[], errors text[], histories text[], attempts_kept integer,
    OUT delivered integer, OUT dropped integer, OUT skipped bigint[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    in_force text;
    gone bigint[];
    also_gone bigint[];
    free bigint[];
BEGIN
    IF NOT mailvane_owns() THEN
        RAISE EXCEPTION 'this session does not own delivery' USING ERRCODE = 'MV001';
    END IF;
    SELECT value INTO in_force FROM kept WHERE name = 'term';
    IF in_force IS DISTINCT FROM my_term::text THEN
        RAISE EXCEPTION 'the queue has an owner of term %; this process had term %', in_force, my_term
            USING ERRCODE = 'MV001';
    END IF;
    IF keep THEN
        WITH locked AS MATERIALIZED (
            SELECT q.id FROM queue q WHERE q.id = ANY (arrived) ORDER BY q.id FOR UPDATE SKIP LOCKED
        ), removed AS (
            DELETE FROM queue q USING locked l WHERE q.id = l.id RETURNING q.*
        ), copied AS (
            INSERT INTO delivered
            SELECT r.*, now, coalesce(d.attempts, 0), coalesce(d.first_failed, 0), coalesce(d.last_failed, 0),
                coalesce(d.error, ''), coalesce(d.history, '[]')
            FROM removed r LEFT JOIN deferred d ON d.id = r.id
            ON CONFLICT (id) DO UPDATE SET
                delivered = excluded.delivered, attempts = excluded.attempts, first_failed = excluded.first_failed,
                last_failed = excluded.last_failed, error = excluded.error, history = excluded.history
        )
        SELECT array_agg(id) INTO gone FROM removed;
    ELSE
        WITH locked AS MATERIALIZED (
            SELECT q.id FROM queue q WHERE q.id = ANY (arrived) ORDER BY q.id FOR UPDATE SKIP LOCKED
        ), removed AS (
            DELETE FROM queue q USING locked l WHERE q.id = l.id RETURNING q.id
        )
        SELECT array_agg(id) INTO gone FROM removed;
    END IF;
    WITH locked AS MATERIALIZED (
        SELECT q.id FROM queue q WHERE q.id = ANY (dropped_ones) ORDER BY q.id FOR UPDATE SKIP LOCKED
    ), removed AS (
        DELETE FROM queue q USING locked l WHERE q.id = l.id RETURNING q.id
    )
    SELECT array_agg(id) INTO also_gone FROM removed;
    mailvane_settle.delivered := coalesce(cardinality(gone), 0);
    mailvane_settle.dropped := coalesce(cardinality(also_gone), 0);
    -- One that somebody has is left behind: without its event it means nothing, and upkeep removes it.
    DELETE FROM deferred WHERE id IN (
        SELECT d.id FROM deferred d WHERE d.id = ANY (gone || also_gone) FOR UPDATE SKIP LOCKED
    );
    IF mailvane_settle.delivered > 0 THEN
        INSERT INTO books VALUES ('delivered', mailvane_settle.delivered);
    END IF;
    IF mailvane_settle.dropped > 0 THEN
        INSERT INTO books VALUES ('dropped', mailvane_settle.dropped);
    END IF;
    IF mailvane_settle.delivered < cardinality(arrived) OR mailvane_settle.dropped < cardinality(dropped_ones) THEN
        SELECT array_agg(q.id) INTO skipped FROM queue q WHERE q.id = ANY (arrived || dropped_ones);
    END IF;
    IF cardinality(failed) > 0 THEN
        -- Nobody removes these before this transaction ends, so that no failure is left without its event.
        WITH locked AS MATERIALIZED (
            SELECT q.id FROM queue q WHERE q.id = ANY (failed) ORDER BY q.id FOR KEY SHARE SKIP LOCKED
        ), mine AS MATERIALIZED (
            SELECT d.id FROM deferred d WHERE d.id = ANY (failed) ORDER BY d.id FOR UPDATE SKIP LOCKED
        )
        SELECT array_agg(l.id) INTO free FROM locked l
        WHERE EXISTS (SELECT FROM mine m WHERE m.id = l.id) OR NOT EXISTS (SELECT FROM deferred d WHERE d.id = l.id);
        INSERT INTO deferred AS d (id, attempts, due, first_failed, last_failed, error, history)
        SELECT f.id, f.number, f.due, now, now, f.error, jsonb_build_array(f.history::jsonb)
        FROM unnest(failed, numbers, dues, errors, histories) AS f (id, number, due, error, history)
        WHERE f.id = ANY (free)
        ON CONFLICT (id) DO UPDATE SET
            attempts = excluded.attempts, due = excluded.due, last_failed = excluded.last_failed,
            error = excluded.error,
            history = CASE
                WHEN excluded.attempts <= d.attempts THEN d.history
                WHEN jsonb_array_length(d.history) < attempts_kept THEN d.history || excluded.history
                ELSE (d.history - 1) || excluded.history
            END;
        skipped := skipped || ARRAY(
            SELECT q.id FROM queue q WHERE q.id = ANY (failed) AND NOT q.id = ANY (coalesce(free, '{}'))
        );
    END IF;
END $$;
