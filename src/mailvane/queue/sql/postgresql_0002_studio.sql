-- Studio's switches: one row, set by hand in psql (`UPDATE s_system_configs SET …`), in force within a second. No
-- constraint: what is strange is told, and what was last known goes on.
CREATE TABLE s_system_configs (
    event_notification_bounce_all                boolean DEFAULT false,
    event_notification_bounce_bad_address        boolean DEFAULT false,
    event_notification_scomp                     boolean DEFAULT false,
    event_notification_studio_open               boolean DEFAULT false,
    event_notification_studio_click              boolean DEFAULT false,
    event_notification_studio_unsub              boolean DEFAULT false,
    event_notification_studio_subscriber_created boolean DEFAULT false,
    event_notification_studio_subscriber_updated boolean DEFAULT false
);
INSERT INTO s_system_configs DEFAULT VALUES;
COMMENT ON TABLE s_system_configs IS 'mailvane: which of Studio''s events are recorded; one row';

-- The rows (two at most: more than one is strange) as JSON, or in a string why they cannot be read.
CREATE FUNCTION mailvane_studio() RETURNS text LANGUAGE plpgsql STABLE SET search_path = :"schema", pg_temp AS $$
BEGIN
    RETURN (SELECT coalesce(json_agg(s), '[]') FROM (SELECT * FROM s_system_configs LIMIT 2) s);
EXCEPTION WHEN undefined_table OR insufficient_privilege OR wrong_object_type THEN
    RETURN to_json(SQLERRM);
END $$;
