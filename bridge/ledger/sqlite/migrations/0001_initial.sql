-- Columns that end in _at are microseconds since the epoch, UTC, in whole milliseconds; to read them:
-- datetime(received_at / 1e6, 'unixepoch').

-- One call, with its newest known state.
CREATE TABLE calls (
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    key TEXT NOT NULL,                  -- its first name; never changes
    revision INTEGER NOT NULL,          -- 0: acknowledged, its first record not judged yet
    first_seen_at INTEGER NOT NULL,
    nameless INTEGER,                   -- 1: known by sn and time only, until a name comes
    created_at INTEGER,
    started_at INTEGER,
    updated_at INTEGER,                 -- the newest believed one
    sn TEXT,
    -- In the index alone: it tells one sn from another as well as all forty characters do.
    sn_end TEXT GENERATED ALWAYS AS (substr(sn, -8)) VIRTUAL,
    phone TEXT,                         -- E.164 where it is a number, else as it came
    name TEXT,
    grade TEXT,
    talk_seconds INTEGER,
    from_type INTEGER,
    task TEXT,
    via TEXT,                           -- where the known state came from
    state_receipt INTEGER,              -- the receipt whose payload is the known state…
    state BLOB,                         -- …or the state itself, merged from several
    stamps TEXT                         -- fields whose newest carrier is older than updated_at
) STRICT;
CREATE INDEX calls_created ON calls (source, coalesce(created_at, first_seen_at));
CREATE INDEX calls_phone ON calls (phone) WHERE phone IS NOT NULL;
CREATE INDEX calls_sn ON calls (sn_end) WHERE sn_end IS NOT NULL;
CREATE INDEX calls_nameless ON calls (id) WHERE nameless = 1;

CREATE TABLE call_names (
    source TEXT NOT NULL,
    name TEXT NOT NULL,
    call_id INTEGER NOT NULL,
    PRIMARY KEY (source, name)
) STRICT, WITHOUT ROWID;

-- One arrival of a record, by callback or by the list.
CREATE TABLE receipts (
    id INTEGER PRIMARY KEY,
    call_id INTEGER NOT NULL,
    via TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    verdict TEXT,                       -- NULL: acknowledged, waits for its verdict
    revision INTEGER,                   -- the revision that it made
    stamp INTEGER,                      -- the record's updated_at, epoch seconds
    digest BLOB,                        -- of the state that it made
    flags TEXT
) STRICT;
CREATE INDEX receipts_call ON receipts (call_id);
CREATE INDEX receipts_waiting ON receipts (id) WHERE verdict IS NULL;

-- The records themselves, as they came; kept for those that counted.
CREATE TABLE payloads (
    receipt_id INTEGER PRIMARY KEY,
    codec INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;

-- What payloads are compressed with; each says by its codec which one it needs.
CREATE TABLE dictionaries (
    id INTEGER PRIMARY KEY,
    trained INTEGER NOT NULL,           -- 0: came with the package; 1: of whole records, by earlier
                                        -- versions; 2: of what many people's records share
    created_at INTEGER NOT NULL,
    calls INTEGER NOT NULL,             -- how many the ledger had then
    body BLOB NOT NULL
) STRICT;

-- What could not be filed under a call, and waits for a person.
CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    via TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    state TEXT NOT NULL,                -- waiting, released, dropped
    digest BLOB NOT NULL,
    arrivals INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    codec INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX quarantine_body ON quarantine (source, digest);
CREATE INDEX quarantine_garbage ON quarantine (id) WHERE reason = 'not_an_object';
CREATE INDEX quarantine_waiting ON quarantine (source, reason) WHERE state = 'waiting';
CREATE INDEX quarantine_last ON quarantine (state, last_at);

CREATE TABLE destinations (
    name TEXT PRIMARY KEY,
    first_started_at INTEGER NOT NULL,
    since_at INTEGER                    -- calls older than this were there before it
) STRICT;

-- Which source's calls went where when the daemon last started.
CREATE TABLE routes (
    source TEXT NOT NULL,
    destination TEXT NOT NULL,
    PRIMARY KEY (source, destination)
) STRICT, WITHOUT ROWID;

-- One call to one destination.
CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY,
    call_id INTEGER NOT NULL,
    destination TEXT NOT NULL,
    state TEXT NOT NULL,                -- due, leased, delivered, skipped, parked
    wanted INTEGER NOT NULL,            -- the revision that the CRM should have
    delivered INTEGER,                  -- the revision that it has
    owed_at INTEGER,                    -- since when this revision is wanted there
    due_at INTEGER,
    tries INTEGER NOT NULL DEFAULT 0,   -- since this revision became due
    reason TEXT,                        -- the rule that skipped it, or what went wrong
    cause TEXT,                         -- groups like failures
    person TEXT,                        -- skipped: a person said so, whatever comes; parked: once it is settled
    lane INTEGER NOT NULL DEFAULT 0,    -- 0 live, 1 retry, 2 backfill
    called_at INTEGER,                  -- the call's own time: in a lane the oldest goes first
    progress BLOB,                      -- how far it is, while it is neither begun nor done
    changed_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX deliveries_call ON deliveries (call_id, destination);
CREATE INDEX deliveries_due ON deliveries (destination, lane, called_at, due_at, owed_at)
    WHERE state = 'due';
CREATE INDEX deliveries_open ON deliveries (state) WHERE state <> 'delivered';

CREATE TABLE attempts (
    id INTEGER PRIMARY KEY,
    delivery_id INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER NOT NULL,
    outcome TEXT NOT NULL,              -- the delivery's state after it
    detail TEXT
) STRICT;
CREATE INDEX attempts_delivery ON attempts (delivery_id);

-- CRM references: the objects that hold a delivery's call, by the mapping's names for them.
CREATE TABLE delivery_objects (
    delivery_id INTEGER NOT NULL,
    object TEXT NOT NULL,
    type TEXT,                          -- NULL: the mapping's name for it
    key TEXT,                           -- NULL: the call's own
    crm_id TEXT NOT NULL,
    digest BLOB,                        -- of what was last sent; NULL: see crm_objects
    memory BLOB,                        -- its links, and who wrote which field
    told BLOB,                          -- of what this call told a shared object
    PRIMARY KEY (delivery_id, object)
) STRICT, WITHOUT ROWID;

CREATE TABLE accounts (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    token TEXT,                         -- what its last token exchange gave
    budget TEXT,                        -- what it allows, as learned, and its breaker
    budget_at INTEGER                   -- when that was so
) STRICT;

-- What to do about a cause of failures, as its last failure told.
CREATE TABLE causes (
    destination TEXT NOT NULL,
    cause TEXT NOT NULL,
    remedy TEXT NOT NULL,
    PRIMARY KEY (destination, cause)
) STRICT, WITHOUT ROWID;

-- Objects that many calls feed, as they were last left.
CREATE TABLE crm_objects (
    account_id INTEGER NOT NULL,
    type TEXT NOT NULL,
    key TEXT NOT NULL,
    crm_id TEXT NOT NULL,
    digest BLOB NOT NULL,
    memory BLOB,
    PRIMARY KEY (account_id, type, key)
) STRICT, WITHOUT ROWID;

-- The fields and links of objects, which memories name by number.
CREATE TABLE field_names (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- Written to learn whether a commit succeeds.
CREATE TABLE heartbeat (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    beats INTEGER NOT NULL
) STRICT;

-- Work that an operator asks of the daemon, and what came of it.
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    args TEXT NOT NULL,
    state TEXT NOT NULL,                -- requested, running, done, failed
    requested_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER,
    result TEXT
) STRICT;
CREATE INDEX runs_open ON runs (state) WHERE state IN ('requested', 'running');
