-- Calls whose own time is more than a day ahead of their first receipt: few, and looked for at every status.
CREATE INDEX calls_ahead ON calls (id) WHERE coalesce(started_at, created_at) > first_seen_at + 86400000000;
