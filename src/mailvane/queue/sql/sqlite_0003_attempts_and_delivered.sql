-- The failed attempts of each event, for people; delivered events that are kept for a while (`keep_delivered`); how many
-- of the recorded are replays.

ALTER TABLE deferred ADD COLUMN history TEXT NOT NULL DEFAULT '[]';

-- history is [[number, at, seconds, status, error], …]: the first failed attempt and the last nine.

CREATE TABLE delivered (
    id           INTEGER PRIMARY KEY,
    event_type   TEXT    NOT NULL,
    mail_class   TEXT    NOT NULL,
    recorded     INTEGER NOT NULL,
    valued       INTEGER NOT NULL,
    body         TEXT    NOT NULL,
    extra        TEXT    NOT NULL,
    delivered    INTEGER NOT NULL,                 -- wall clock, milliseconds
    attempts     INTEGER NOT NULL,                 -- that failed before
    first_failed INTEGER NOT NULL,
    last_failed  INTEGER NOT NULL,
    error        TEXT    NOT NULL,
    history      TEXT    NOT NULL
);
CREATE INDEX delivered_at ON delivered (delivered);

INSERT INTO books VALUES ('replayed', 0);
