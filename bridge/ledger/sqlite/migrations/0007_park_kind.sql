-- What kind of parked delivery a row is, for rules to ask: the cause and the reason are for people to read.
-- NULL unless it is parked; NULL on a parked one: an earlier release parked it, and the next open fills it in.
ALTER TABLE deliveries ADD COLUMN park_kind TEXT;       -- failed, in_doubt, gone, held

CREATE INDEX deliveries_in_doubt ON deliveries (destination) WHERE park_kind = 'in_doubt';
CREATE INDEX deliveries_park_kind ON deliveries (id) WHERE state = 'parked' AND park_kind IS NULL;

-- An earlier release takes a delivery up again and leaves the column as it was.
CREATE TRIGGER park_kind_ended AFTER UPDATE OF state ON deliveries
WHEN NEW.state <> 'parked' AND NEW.park_kind IS NOT NULL BEGIN
    UPDATE deliveries SET park_kind = NULL WHERE id = NEW.id;
END;
