-- The first schema: the queue itself, what waits for another try, the books, and what must survive a restart.
-- auto_vacuum is decided before the first table (see migrate.py): it cannot be changed later without copying the file.

CREATE TABLE queue (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice
    event_type TEXT    NOT NULL,
    mail_class TEXT    NOT NULL,                   -- what filters compare: lowercased, the listid where there is none
    recorded   INTEGER NOT NULL,                   -- wall clock, milliseconds
    valued     INTEGER NOT NULL,                   -- bytes of body whose members have a value
    body       TEXT    NOT NULL,                   -- members of the legacy object without id
    extra      TEXT    NOT NULL                    -- members of the modern object alone
);

-- Events that failed and wait for another try. Their rows stay in queue; a row here whose event is gone means nothing.
CREATE TABLE deferred (
    id           INTEGER PRIMARY KEY,
    attempts     INTEGER NOT NULL,
    due          INTEGER NOT NULL,                 -- wall clock, milliseconds
    first_failed INTEGER NOT NULL,
    last_failed  INTEGER NOT NULL,
    error        TEXT    NOT NULL
);
CREATE INDEX deferred_due ON deferred (due, id);

CREATE TABLE books (name TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO books VALUES ('recorded', 0), ('delivered', 0), ('dropped', 0), ('deleted', 0);

CREATE TABLE kept (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
-- The epoch tells this queue from every other: receivers know events by epoch and id.
INSERT INTO kept VALUES ('epoch', lower(hex(randomblob(4))));

-- Tokens of groups that were added lately, so that a producer who lost the answer can ask again.
CREATE TABLE tokens (token TEXT PRIMARY KEY, at INTEGER NOT NULL, first INTEGER NOT NULL, n INTEGER NOT NULL) WITHOUT ROWID;

-- The classic row, for people and their SQL. Generated columns would be computed at every INSERT; a view costs nothing.
CREATE VIEW events AS SELECT
    id,
    event_type,
    json_extract('{' || body || '}', '$.event_time') AS event_time,
    json_extract('{' || body || '}', '$.email') AS email,
    json_extract('{' || body || '}', '$.listid') AS listid,
    json_extract('{' || body || '}', '$.list_name') AS list_name,
    json_extract('{' || body || '}', '$.list_label') AS list_label,
    json_extract('{' || body || '}', '$.sendid') AS sendid,
    json_extract('{' || body || '}', '$.bounce_type') AS bounce_type,
    json_extract('{' || body || '}', '$.bounce_code') AS bounce_code,
    json_extract('{' || body || '}', '$.bounce_text') AS bounce_text,
    json_extract('{' || body || '}', '$.click_url') AS click_url,
    json_extract('{' || body || '}', '$.click_tracking_id') AS click_tracking_id,
    json_extract('{' || body || '}', '$.studio_rl_seq') AS studio_rl_seq,
    json_extract('{' || body || '}', '$.studio_rl_recipid') AS studio_rl_recipid,
    json_extract('{' || body || '}', '$.studio_campaign_id') AS studio_campaign_id,
    json_extract('{' || body || '}', '$.studio_autoresponder_id') AS studio_autoresponder_id,
    json_extract('{' || body || '}', '$.studio_is_unique') AS studio_is_unique,
    json_extract('{' || body || '}', '$.studio_mailing_list_id') AS studio_mailing_list_id,
    json_extract('{' || body || '}', '$.studio_subscriber_id') AS studio_subscriber_id,
    json_extract('{' || body || '}', '$.studio_ip') AS studio_ip,
    json_extract('{' || body || '}', '$.studio_rl_seq_id') AS studio_rl_seq_id,
    json_extract('{' || body || '}', '$.studio_rl_distinct_id') AS studio_rl_distinct_id,
    json_extract('{' || body || '}', '$.engine_ip') AS engine_ip,
    json_extract('{' || body || '}', '$.user_agent') AS user_agent,
    json_extract('{' || body || '}', '$.json_before') AS json_before,
    json_extract('{' || body || '}', '$.json_after') AS json_after
FROM queue;

CREATE TRIGGER events_delete INSTEAD OF DELETE ON events BEGIN
    DELETE FROM deferred WHERE id = OLD.id;
    UPDATE books SET n = n + (SELECT count(*) FROM queue WHERE id = OLD.id) WHERE name = 'deleted';
    DELETE FROM queue WHERE id = OLD.id;
END;

CREATE TRIGGER events_insert INSTEAD OF INSERT ON events BEGIN
    SELECT RAISE(ABORT, 'events are not inserted by hand: record them with `mailvane record` or POST /v1/events');
END;

CREATE TRIGGER events_update INSTEAD OF UPDATE ON events BEGIN
    SELECT RAISE(ABORT, 'events do not change: delete the event and record another with `mailvane record`');
END;
