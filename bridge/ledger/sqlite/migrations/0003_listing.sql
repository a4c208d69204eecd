-- What the list showed last of a call, and which of its receipts was the newest then: while none has
-- come since, the same row says nothing new.
CREATE TABLE listed (
    call_id INTEGER PRIMARY KEY,
    receipt_id INTEGER NOT NULL,
    stale INTEGER NOT NULL,             -- 1: the list was behind what is known
    digest BLOB NOT NULL                -- of the row as it came
) STRICT;

-- Calls of which only the list has told; a callback that comes late takes its call out again.
CREATE TABLE gaps (
    call_id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX gaps_created ON gaps (source, created_at);
CREATE TRIGGER gap_closed AFTER INSERT ON receipts WHEN NEW.via = 'callback' BEGIN
    DELETE FROM gaps WHERE call_id = NEW.call_id;
END;

-- How far a source's list has been walked without a hole, and the run that ended last.
CREATE TABLE coverage (
    source TEXT PRIMARY KEY,
    covered_at INTEGER,
    run_id INTEGER
) STRICT, WITHOUT ROWID;

-- The windows that a run has finished: after a crash it goes on behind them.
CREATE TABLE run_windows (
    run_id INTEGER NOT NULL,
    since_at INTEGER NOT NULL,
    until_at INTEGER NOT NULL,
    result TEXT NOT NULL,
    PRIMARY KEY (run_id, since_at)
) STRICT, WITHOUT ROWID;

ALTER TABLE runs ADD COLUMN progress TEXT;
ALTER TABLE runs ADD COLUMN cancel_at INTEGER;
