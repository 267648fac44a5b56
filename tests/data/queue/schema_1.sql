-- A queue as the first schema had it, with events in every state: waiting, failed, and some that are gone.
PRAGMA auto_vacuum = INCREMENTAL;
BEGIN TRANSACTION;

-- Table  books
CREATE TABLE books (name TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO books VALUES('deleted',1);
INSERT INTO books VALUES('delivered',2);
INSERT INTO books VALUES('dropped',1);
INSERT INTO books VALUES('recorded',8);

-- Table  deferred
CREATE TABLE deferred (
    id           INTEGER PRIMARY KEY,
    attempts     INTEGER NOT NULL,
    due          INTEGER NOT NULL,                 -- wall clock, milliseconds
    first_failed INTEGER NOT NULL,
    last_failed  INTEGER NOT NULL,
    error        TEXT    NOT NULL
);
INSERT INTO "deferred" VALUES(4,2,1790000100000,1795564022140,1795564022140,'timeout: no answer');
INSERT INTO "deferred" VALUES(5,1,1790000200000,1795564022140,1795564022140,'http_5xx: 503');
-- Triggers and indices on  deferred
CREATE INDEX deferred_due ON deferred (due, id);

-- Table  kept
CREATE TABLE kept (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO kept VALUES('epoch','4ed33551');
INSERT INTO kept VALUES('switches','{"bounce_all":true}');
INSERT INTO kept VALUES('term','1');

-- Table  queue
CREATE TABLE queue (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice
    event_type TEXT    NOT NULL,
    mail_class TEXT    NOT NULL,                   -- what filters compare: lowercased, the listid where there is none
    recorded   INTEGER NOT NULL,                   -- wall clock, milliseconds
    valued     INTEGER NOT NULL,                   -- bytes of body whose members have a value
    body       TEXT    NOT NULL,                   -- members of the legacy object without id
    extra      TEXT    NOT NULL                    -- members of the modern object alone
);
INSERT INTO queue VALUES(4,'scomp','a1',1795564022140,86,'"event_type":"scomp","event_time":1790000004,"email":"user4@example.com","listid":"a1","list_name":"","list_label":"","sendid":"","bounce_type":"","bounce_code":null,"bounce_text":"","click_url":"","click_tracking_id":"","studio_rl_seq":null,"studio_rl_recipid":"","studio_campaign_id":null,"studio_autoresponder_id":null,"studio_is_unique":null,"studio_mailing_list_id":null,"studio_subscriber_id":null,"studio_ip":"","studio_rl_seq_id":null,"studio_rl_distinct_id":null,"engine_ip":"","user_agent":"","json_before":"","json_after":""','"server_id":"mail1"');
INSERT INTO queue VALUES(5,'bounce_all','a1',1795564022140,121,'"event_type":"bounce_all","event_time":1790000005,"email":"user5@example.com","listid":"a1","bounce_text":"it''s ünusual","list_name":"","list_label":"","sendid":"","bounce_type":"","bounce_code":null,"click_url":"","click_tracking_id":"","studio_rl_seq":null,"studio_rl_recipid":"","studio_campaign_id":null,"studio_autoresponder_id":null,"studio_is_unique":null,"studio_mailing_list_id":null,"studio_subscriber_id":null,"studio_ip":"","studio_rl_seq_id":null,"studio_rl_distinct_id":null,"engine_ip":"","user_agent":"","json_before":"","json_after":""','"server_id":"mail1"');
INSERT INTO queue VALUES(6,'scomp','a1',1795564022140,86,'"event_type":"scomp","event_time":1790000006,"email":"user6@example.com","listid":"a1","list_name":"","list_label":"","sendid":"","bounce_type":"","bounce_code":null,"bounce_text":"","click_url":"","click_tracking_id":"","studio_rl_seq":null,"studio_rl_recipid":"","studio_campaign_id":null,"studio_autoresponder_id":null,"studio_is_unique":null,"studio_mailing_list_id":null,"studio_subscriber_id":null,"studio_ip":"","studio_rl_seq_id":null,"studio_rl_distinct_id":null,"engine_ip":"","user_agent":"","json_before":"","json_after":""','"server_id":"mail1"');
INSERT INTO queue VALUES(7,'bounce_all','a1',1795564022140,121,'"event_type":"bounce_all","event_time":1790000007,"email":"user7@example.com","listid":"a1","bounce_text":"it''s ünusual","list_name":"","list_label":"","sendid":"","bounce_type":"","bounce_code":null,"click_url":"","click_tracking_id":"","studio_rl_seq":null,"studio_rl_recipid":"","studio_campaign_id":null,"studio_autoresponder_id":null,"studio_is_unique":null,"studio_mailing_list_id":null,"studio_subscriber_id":null,"studio_ip":"","studio_rl_seq_id":null,"studio_rl_distinct_id":null,"engine_ip":"","user_agent":"","json_before":"","json_after":""','"server_id":"mail1"');

-- Table  tokens
CREATE TABLE tokens (token TEXT PRIMARY KEY, at INTEGER NOT NULL, first INTEGER NOT NULL, n INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO tokens VALUES('token-1',1795564022140,1,8);

-- Views
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

-- For primary key autoincrements the next id to use is stored in
-- sqlite_sequence
DELETE FROM main.sqlite_sequence WHERE name='queue';
INSERT INTO main.sqlite_sequence VALUES ('queue', 8);

-- Database header
pragma user_version=1;

COMMIT TRANSACTION;
