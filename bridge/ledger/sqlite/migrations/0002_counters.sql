-- How many there are of what nobody wants to count row by row at every look, kept by the commit that
-- changes it. `audit` counts the rows themselves.
CREATE TABLE counters (
    kind TEXT NOT NULL,                 -- calls, shared_sn, receipts, deliveries, owed, attempts
    part TEXT NOT NULL,                 -- the source of calls, the destination of deliveries
    state TEXT NOT NULL,                -- of deliveries; of receipts the verdict, or waiting; of owed the lane
    cause TEXT NOT NULL,                -- of deliveries
    count INTEGER NOT NULL,
    since_at INTEGER,                   -- of causes: since when there has always been one
    PRIMARY KEY (kind, part, state, cause)
) STRICT, WITHOUT ROWID;

INSERT INTO counters SELECT 'calls', source, '', '', count(*), NULL FROM calls GROUP BY source;
INSERT INTO counters SELECT 'shared_sn', source, '', '', count(*), NULL FROM
    (SELECT source FROM calls WHERE sn IS NOT NULL GROUP BY sn, source HAVING count(*) > 1) GROUP BY source;
INSERT INTO counters SELECT 'receipts', '', coalesce(verdict, 'waiting'), '', count(*), NULL
    FROM receipts GROUP BY verdict;
INSERT INTO counters SELECT 'deliveries', destination, state, coalesce(cause, ''), count(*), min(changed_at)
    FROM deliveries GROUP BY destination, state, cause;
INSERT INTO counters SELECT 'owed', destination, lane, '', count(*), NULL
    FROM deliveries WHERE state IN ('due', 'leased') GROUP BY destination, lane;

CREATE TRIGGER calls_counted AFTER INSERT ON calls BEGIN
    INSERT INTO counters VALUES ('calls', NEW.source, '', '', 1, NULL)
        ON CONFLICT DO UPDATE SET count = count + 1;
END;
CREATE TRIGGER calls_uncounted AFTER DELETE ON calls BEGIN
    UPDATE counters SET count = count - 1 WHERE kind = 'calls' AND part = OLD.source;
END;

-- A sn counts from its second call on, and until it has one again.
CREATE TRIGGER shared_sn_counted AFTER INSERT ON calls
WHEN (SELECT count(*) FROM (SELECT 1 FROM calls
    WHERE sn_end = NEW.sn_end AND sn = NEW.sn AND source = NEW.source LIMIT 3)) = 2 BEGIN
    INSERT INTO counters VALUES ('shared_sn', NEW.source, '', '', 1, NULL)
        ON CONFLICT DO UPDATE SET count = count + 1;
END;
CREATE TRIGGER shared_sn_uncounted AFTER DELETE ON calls
WHEN (SELECT count(*) FROM (SELECT 1 FROM calls
    WHERE sn_end = OLD.sn_end AND sn = OLD.sn AND source = OLD.source LIMIT 2)) = 1 BEGIN
    UPDATE counters SET count = count - 1 WHERE kind = 'shared_sn' AND part = OLD.source;
END;
CREATE TRIGGER shared_sn_recounted AFTER UPDATE OF sn ON calls WHEN OLD.sn IS NOT NEW.sn BEGIN
    UPDATE counters SET count = count - 1 WHERE kind = 'shared_sn' AND part = OLD.source
        AND (SELECT count(*) FROM (SELECT 1 FROM calls
            WHERE sn_end = OLD.sn_end AND sn = OLD.sn AND source = OLD.source LIMIT 2)) = 1;
    INSERT INTO counters SELECT 'shared_sn', NEW.source, '', '', 1, NULL
        WHERE (SELECT count(*) FROM (SELECT 1 FROM calls
            WHERE sn_end = NEW.sn_end AND sn = NEW.sn AND source = NEW.source LIMIT 3)) = 2
        ON CONFLICT DO UPDATE SET count = count + 1;
END;

CREATE TRIGGER receipts_counted AFTER INSERT ON receipts BEGIN
    INSERT INTO counters VALUES ('receipts', '', coalesce(NEW.verdict, 'waiting'), '', 1, NULL)
        ON CONFLICT DO UPDATE SET count = count + 1;
END;
CREATE TRIGGER receipts_uncounted AFTER DELETE ON receipts BEGIN
    UPDATE counters SET count = count - 1
        WHERE kind = 'receipts' AND part = '' AND state = coalesce(OLD.verdict, 'waiting');
END;
CREATE TRIGGER receipts_recounted AFTER UPDATE OF verdict ON receipts
WHEN OLD.verdict IS NOT NEW.verdict BEGIN
    UPDATE counters SET count = count - 1
        WHERE kind = 'receipts' AND part = '' AND state = coalesce(OLD.verdict, 'waiting');
    INSERT INTO counters VALUES ('receipts', '', coalesce(NEW.verdict, 'waiting'), '', 1, NULL)
        ON CONFLICT DO UPDATE SET count = count + 1;
END;

CREATE TRIGGER deliveries_counted AFTER INSERT ON deliveries BEGIN
    INSERT INTO counters
        VALUES ('deliveries', NEW.destination, NEW.state, coalesce(NEW.cause, ''), 1, NEW.changed_at)
        ON CONFLICT DO UPDATE SET count = count + 1, since_at = iif(count = 0, excluded.since_at, since_at);
END;
CREATE TRIGGER deliveries_uncounted AFTER DELETE ON deliveries BEGIN
    UPDATE counters SET count = count - 1 WHERE kind = 'deliveries' AND part = OLD.destination
        AND state = OLD.state AND cause = coalesce(OLD.cause, '');
END;
CREATE TRIGGER deliveries_recounted AFTER UPDATE OF state, destination, cause ON deliveries
WHEN OLD.state <> NEW.state OR OLD.destination <> NEW.destination OR OLD.cause IS NOT NEW.cause BEGIN
    UPDATE counters SET count = count - 1 WHERE kind = 'deliveries' AND part = OLD.destination
        AND state = OLD.state AND cause = coalesce(OLD.cause, '');
    INSERT INTO counters
        VALUES ('deliveries', NEW.destination, NEW.state, coalesce(NEW.cause, ''), 1, NEW.changed_at)
        ON CONFLICT DO UPDATE SET count = count + 1, since_at = iif(count = 0, excluded.since_at, since_at);
END;

-- What is owed, lane by lane: due or on its way.
CREATE TRIGGER owed_counted AFTER INSERT ON deliveries WHEN NEW.state IN ('due', 'leased') BEGIN
    INSERT INTO counters VALUES ('owed', NEW.destination, NEW.lane, '', 1, NULL)
        ON CONFLICT DO UPDATE SET count = count + 1;
END;
CREATE TRIGGER owed_uncounted AFTER DELETE ON deliveries WHEN OLD.state IN ('due', 'leased') BEGIN
    UPDATE counters SET count = count - 1 WHERE kind = 'owed' AND part = OLD.destination AND state = OLD.lane;
END;
CREATE TRIGGER owed_recounted AFTER UPDATE OF state, destination, lane ON deliveries
WHEN (OLD.state IN ('due', 'leased')) <> (NEW.state IN ('due', 'leased'))
    OR (NEW.state IN ('due', 'leased') AND (OLD.lane <> NEW.lane OR OLD.destination <> NEW.destination)) BEGIN
    UPDATE counters SET count = count - 1 WHERE kind = 'owed' AND part = OLD.destination AND state = OLD.lane
        AND OLD.state IN ('due', 'leased');
    INSERT INTO counters SELECT 'owed', NEW.destination, NEW.lane, '', 1, NULL
        WHERE NEW.state IN ('due', 'leased')
        ON CONFLICT DO UPDATE SET count = count + 1;
END;
