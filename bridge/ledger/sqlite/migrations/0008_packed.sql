-- Up to which receipt all records are packed as small as they will be; those after it were packed quickly when
-- they were filed.
INSERT INTO counters SELECT 'packed', '', '', '', coalesce(max(receipt_id), 0), NULL FROM payloads;
