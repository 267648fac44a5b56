-- The queue table: a row for each event, in the order of `id`. `event_unique_id` names the event: an attempt that is
-- repeated finds it there. Your programs read the rows and delete them.
CREATE TABLE event_queue (
    id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
    event_type varchar(30),
    event_time int,
    email text,
    listid text,
    list_name text,
    list_label text,
    sendid text,
    bounce_type text,
    bounce_code int,
    bounce_text text,
    click_url text,
    click_tracking_id text,
    studio_rl_seq bigint,
    studio_rl_recipid text,
    studio_campaign_id bigint,
    studio_autoresponder_id bigint,
    studio_is_unique boolean,
    studio_mailing_list_id bigint,
    studio_subscriber_id bigint,
    studio_ip text,
    studio_rl_seq_id bigint,
    studio_rl_distinct_id bigint,
    engine_ip text,
    user_agent text,
    json_before mediumtext,
    json_after mediumtext,
    event_unique_id varchar(64) UNIQUE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;

-- The destination in event_processor.json that fills it:
--
-- {"type": "mysql",
--  "db_dsn": "mysql://db.example.com/customer",
--  "db_username": "mailvane", "db_password": "@file:/etc/mailvane/db-password",
--  "sql": "INSERT INTO event_queue (event_type, event_time, email, listid, list_name, list_label, sendid, bounce_type, bounce_code, bounce_text, click_url, click_tracking_id, studio_rl_seq, studio_rl_recipid, studio_campaign_id, studio_autoresponder_id, studio_is_unique, studio_mailing_list_id, studio_subscriber_id, studio_ip, studio_rl_seq_id, studio_rl_distinct_id, engine_ip, user_agent, json_before, json_after, event_unique_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON DUPLICATE KEY UPDATE event_unique_id = event_unique_id",
--  "bind_list": [
--    "event_type", "event_time", "email", "listid", "list_name", "list_label", "sendid", "bounce_type",
--    "bounce_code", "bounce_text", "click_url", "click_tracking_id", "studio_rl_seq", "studio_rl_recipid",
--    "studio_campaign_id", "studio_autoresponder_id", "studio_is_unique", "studio_mailing_list_id",
--    "studio_subscriber_id", "studio_ip", "studio_rl_seq_id", "studio_rl_distinct_id", "engine_ip", "user_agent",
--    "json_before", "json_after", "event_unique_id"
--  ]}
