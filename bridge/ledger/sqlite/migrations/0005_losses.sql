-- What had been acknowledged and was no longer there when the ledger was opened: its log was lost, or an older
-- file put in its place.
CREATE TABLE losses (
    id INTEGER PRIMARY KEY,
    found_at INTEGER NOT NULL,
    since_at INTEGER,                   -- the last receipt that is here
    until_at INTEGER NOT NULL,          -- the last commit of which there was word
    receipts INTEGER NOT NULL,          -- how many are missing at least
    quarantine INTEGER NOT NULL
) STRICT;
