-- Which programs may open this file: those that know the migration named here. What comes after it only adds,
-- so that the release before this one goes on with a ledger that this one has migrated.
CREATE TABLE compatibility (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    oldest_needed TEXT NOT NULL
) STRICT;
