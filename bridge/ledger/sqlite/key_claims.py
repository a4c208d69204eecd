"""Finds the calls of other sources that came to a CRM account under a call's key before it did."""

import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime

from bridge.ledger.sqlite.binding import numbered
from bridge.ledger.sqlite.times import moment_of
from bridge.model.key_claims import CallIdentity, Claim

# The lower delivery id came first: ids never change, because rows are neither removed nor made again. Each
# CROSS JOIN is one index look-up; a ledger with one source ends at the second.
_CLAIMS = """
SELECT o.id, min(d.id) AS came,
       o.source AS own_source, o.key AS own_key, o.sn AS own_sn, o.started_at AS own_started_at,
       o.created_at AS own_created_at, c.source, c.key, c.sn, c.started_at, c.created_at
FROM json_each(:1) j
CROSS JOIN calls o ON o.id = j.value
CROSS JOIN counters s ON s.kind = 'calls' AND s.part <> o.source
CROSS JOIN call_names n ON n.source = s.part AND n.name = o.key
CROSS JOIN calls c ON c.id = n.call_id
CROSS JOIN json_each(:2) t
CROSS JOIN deliveries d ON d.call_id = c.id AND d.destination = t.value
GROUP BY o.id, c.id
HAVING came < coalesce((SELECT min(own.id) FROM json_each(:2) t
    CROSS JOIN deliveries own ON own.call_id = o.id AND own.destination = t.value), came + 1)
ORDER BY came
"""


def claims(
    connection: sqlite3.Connection, call_ids: Sequence[int], destinations: Sequence[str]
) -> dict[int, list[Claim]]:
    """See `bridge.ledger.delivery.DeliveryLedger.key_claims`."""
    found: dict[int, list[Claim]] = {}
    asked = numbered(json.dumps(list(call_ids)), json.dumps(list(destinations)))
    for row in connection.execute(_CLAIMS, asked):
        own = CallIdentity(
            row["own_source"],
            row["own_key"],
            row["own_sn"],
            _moment(row["own_started_at"]),
            _moment(row["own_created_at"]),
        )
        holder = CallIdentity(
            row["source"], row["key"], row["sn"], _moment(row["started_at"]), _moment(row["created_at"])
        )
        found.setdefault(row["id"], []).append(Claim(own, holder))
    return found


def _moment(kept: int | None) -> datetime | None:
    return None if kept is None else moment_of(kept)
