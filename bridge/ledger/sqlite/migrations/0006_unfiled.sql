-- How many records wait in quarantine for a call, and how many bytes they take, source by source: whoever
-- has a token can send them, so that they have a bound.
INSERT INTO counters SELECT 'unfiled', source, '', '', count(*), NULL FROM quarantine
    WHERE state = 'waiting' AND reason <> 'not_an_object' GROUP BY source;
INSERT INTO counters SELECT 'unfiled_bytes', source, '', '', sum(length(body)), NULL FROM quarantine
    WHERE state = 'waiting' AND reason <> 'not_an_object' GROUP BY source;

CREATE TRIGGER unfiled_added AFTER INSERT ON quarantine
WHEN NEW.state = 'waiting' AND NEW.reason <> 'not_an_object' BEGIN
    INSERT INTO counters VALUES ('unfiled', NEW.source, '', '', 1, NULL)
        ON CONFLICT DO UPDATE SET count = count + 1;
    INSERT INTO counters VALUES ('unfiled_bytes', NEW.source, '', '', length(NEW.body), NULL)
        ON CONFLICT DO UPDATE SET count = count + excluded.count;
END;
CREATE TRIGGER unfiled_removed AFTER DELETE ON quarantine
WHEN OLD.state = 'waiting' AND OLD.reason <> 'not_an_object' BEGIN
    UPDATE counters SET count = count - iif(kind = 'unfiled', 1, length(OLD.body))
        WHERE kind IN ('unfiled', 'unfiled_bytes') AND part = OLD.source;
END;
CREATE TRIGGER unfiled_changed AFTER UPDATE OF state, body ON quarantine
WHEN NEW.reason <> 'not_an_object' AND (OLD.state <> NEW.state OR length(OLD.body) <> length(NEW.body)) BEGIN
    UPDATE counters SET count = count - iif(kind = 'unfiled', 1, length(OLD.body))
        WHERE kind IN ('unfiled', 'unfiled_bytes') AND part = OLD.source AND OLD.state = 'waiting';
    INSERT INTO counters SELECT 'unfiled', NEW.source, '', '', 1, NULL WHERE NEW.state = 'waiting'
        ON CONFLICT DO UPDATE SET count = count + 1;
    INSERT INTO counters SELECT 'unfiled_bytes', NEW.source, '', '', length(NEW.body), NULL
        WHERE NEW.state = 'waiting'
        ON CONFLICT DO UPDATE SET count = count + excluded.count;
END;
