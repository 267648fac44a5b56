-- Studio's switches: one row, as in PostgreSQL; `mailvane enable --studio` sets it. No constraint: what is strange is
-- told, and what was last known goes on.
CREATE TABLE s_system_configs (
    event_notification_bounce_all                BOOLEAN DEFAULT FALSE,
    event_notification_bounce_bad_address        BOOLEAN DEFAULT FALSE,
    event_notification_scomp                     BOOLEAN DEFAULT FALSE,
    event_notification_studio_open               BOOLEAN DEFAULT FALSE,
    event_notification_studio_click              BOOLEAN DEFAULT FALSE,
    event_notification_studio_unsub              BOOLEAN DEFAULT FALSE,
    event_notification_studio_subscriber_created BOOLEAN DEFAULT FALSE,
    event_notification_studio_subscriber_updated BOOLEAN DEFAULT FALSE
);
INSERT INTO s_system_configs DEFAULT VALUES;
